"""Connections for reading pages, separate from those of the write path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from receiver.config.settings import Settings
from receiver.errors import OverloadedError
from receiver.storage.connection.connecting import with_settings
from receiver.storage.connection.database import Connection, translated
from receiver.storage.reading.tables import connect

CONNECTIONS: Final = 2
"""Maximum number of connections at once, in each process."""
PATIENCE: Final = 5.0
"""Seconds to wait for a free connection."""
TIME: Final = 10.0
"""Seconds that one use of a connection may take."""

LIMITS: Final = {
    "application_name": "receiver page",
    "default_transaction_read_only": "on",
    "statement_timeout": "5s",
    # One core of the database is enough for pages.
    "max_parallel_workers_per_gather": "0",
}


class Viewer:
    """Opens connections on demand, and only few at once.

    Args:
        settings: The receiver's settings, with the database URL.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._free = asyncio.Semaphore(CONNECTIONS)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Open a read-only connection; times come as text, in UTC.

        Raises:
            OverloadedError: too many connections are in use.
            SchemaError: the tables do not exist.
            ReceiverError: as `translated` does.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                await self._free.acquire()
        except TimeoutError:
            raise OverloadedError("too many pages are requested at the same time") from None
        try:
            with translated():
                async with (
                    asyncio.timeout(TIME),
                    connect(self._settings, **LIMITS) as connection,
                    with_settings(connection),
                ):
                    yield connection
        finally:
            self._free.release()
