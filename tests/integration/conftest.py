"""Fixtures that the tests against a real database share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from receiver.storage.connection.database import Database
from tests.conftest import MakeSettings


@pytest.fixture
async def database(database_url: str, make_settings: MakeSettings) -> AsyncIterator[Database]:
    """A pool as the write path has it, which reads times as numbers."""
    database = Database(make_settings(database_url=database_url))
    await database.open()
    yield database
    await database.close()
