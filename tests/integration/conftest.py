"""Fixtures that the tests against a real database share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from receiver.storage.connection.database import Database
from tests.conftest import MakeSettings
from tests.databases import opened_database


@pytest.fixture
async def database(database_url: str, make_settings: MakeSettings) -> AsyncIterator[Database]:
    """A connection pool like the write path's, which reads times as numbers."""
    async with opened_database(make_settings(database_url=database_url)) as database:
        yield database
