"""The server into which the tests of a module inject faults."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.faults.nodes import Cluster
from tests.faults.processes import Database, Server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.faults)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """With RECEIVER_TEST_CITUS_URL, start a new cluster; that one may be in use by others."""
    with Cluster() if os.environ.get("RECEIVER_TEST_CITUS_URL") else Server() as server:
        yield server


@pytest.fixture
async def database(server: Server) -> AsyncIterator[Database]:
    async with server.database() as database:
        yield database
