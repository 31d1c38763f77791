"""Connections of remote read: a pool of their own, so that readers keep none from writing."""

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
    # By the primary key, whatever the statistics say; in its order, which parallel workers lose.
    "enable_seqscan": "off",
    "enable_sort": "off",
    "max_parallel_workers_per_gather": "0",
    "jit_above_cost": "-1",
    "timezone": "UTC",
    "datestyle": "ISO",
    # Nothing but rows, and all digits of their numbers.
    "client_min_messages": "error",
    "extra_float_digits": "1",
}
GRACE: Final = timedelta(seconds=5)
"""How much later the database ends a statement, should the receiver not have done it."""


class ReadPool:
    """Connections that can change nothing, opened when they are needed first.

    Args:
        settings: Name the database, and how many reads there may be at once.
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
        """Begin a transaction that reads the database as it is at one moment.

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
                    # What is left of its answer is not waited for. If the connection has ended, it
                    # is the pool's again.
                    with suppress(asyncpg.InterfaceError):
                        connection.terminate()
                raise
            finally:
                await self._pool.release(connection)

    async def close(self) -> None:
        """Close all connections at once: no answer can be completed any more."""
        # Unless it was never opened.
        with suppress(asyncpg.InterfaceError):
            self._pool.terminate()
