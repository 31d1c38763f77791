"""Opens pools of connections like that of the write path."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from receiver.config.settings import Settings
from receiver.storage.connection.database import Database


@asynccontextmanager
async def opened_database(settings: Settings) -> AsyncIterator[Database]:
    """Open a pool, and close it even if the test fails."""
    database = Database(settings)
    await database.open()
    try:
        yield database
    finally:
        await database.close()
