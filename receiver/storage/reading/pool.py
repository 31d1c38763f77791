"""Connections of remote read: a separate pool, so that readers take none from writers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Final

import asyncpg

from receiver.config.settings import Settings
from receiver.storage.connection.connecting import Session, open_connection
from receiver.storage.connection.database import (
    Connection,
    keep_as_it_is,
    leaves_session_usable,
    translated,
)

LIMITS: Final = {
    "application_name": "receiver remote read",
    "default_transaction_read_only": "on",
    # Reads by the primary key, whatever the statistics say, and in its order, which parallel
    # workers would lose.
    "enable_seqscan": "off",
    "enable_sort": "off",
    "max_parallel_workers_per_gather": "0",
    "jit_above_cost": "-1",
    "timezone": "UTC",
    "datestyle": "ISO",
    # No notices, and all digits of numbers.
    "client_min_messages": "error",
    "extra_float_digits": "1",
}
GRACE: Final = timedelta(seconds=5)
"""How much later than the receiver the database cancels a statement, as a fallback."""


class ReadPool:
    """A pool of read-only connections, opened on first use.

    Args:
        settings: The receiver's settings, with the database URL and the maximum number of reads.
    """

    def __init__(self, settings: Settings) -> None:
        self._opening = asyncio.Lock()
        timeout = (settings.remote_read_timeout + GRACE) // timedelta(milliseconds=1)
        parameters = {**LIMITS, "statement_timeout": str(timeout)}
        self._pool = asyncpg.create_pool(
            connect=lambda _, **options: open_connection(settings, parameters, **options),
            connection_class=Session,
            min_size=0,
            max_size=settings.max_remote_reads,
            reset=keep_as_it_is,
        )

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """Open a read-only transaction that sees one snapshot of the database.

        Raises:
            ReceiverError: as `translated` does.
        """
        with translated():
            async with self._opening:
                await self._pool
            connection = await self._pool.acquire()
            try:
                await connection.execute(
                    f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {connection.preamble}"
                )
                yield connection
                await connection.execute("COMMIT")
            except BaseException as error:
                if leaves_session_usable(error):
                    await connection.execute("ROLLBACK")
                else:
                    # Do not wait for the rest of its answer. A connection that has ended is back in
                    # the pool already.
                    with suppress(asyncpg.InterfaceError):
                        connection.terminate()
                raise
            finally:
                await self._pool.release(connection)

    async def close(self) -> None:
        """Close all connections at once: no answer can be completed any more."""
        # Raised if the pool was never opened.
        with suppress(asyncpg.InterfaceError):
            self._pool.terminate()
