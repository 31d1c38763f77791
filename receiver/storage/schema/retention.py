"""Deletes what is older than the settings keep, where no policy of TimescaleDB does.

In small transactions, each with a pause after it: nobody waits long for a lock, and a table with
years of rows to be deleted costs a share of one processor until it is done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Final, TypeAlias

from receiver.config.settings import Settings
from receiver.storage import queries
from receiver.storage.connection.database import Connection, Database
from receiver.storage.connection.places import LOOK_EVERYWHERE
from receiver.storage.schema.timescale import is_hypertable

logger = logging.getLogger(__name__)

AT_ONCE: Final = 5_000
"""Rows that one transaction deletes."""
REST: Final = 4
"""Length of the pause after a transaction, in times of what that took."""
BEGINNING: Final = -(2**63)
"""The time -infinity, and before any id."""

Step: TypeAlias = Callable[[Connection, int], Awaitable[tuple[int, int]]]
"""Deletes the oldest rows, from a place on; returns how many, and from where to go on."""


async def delete_old(database: Database, settings: Settings) -> None:
    """Delete what is too old; what has not been reached in a round's time waits for the next.

    Of several replicas only one deletes at a time; the others return at once.

    Raises:
        ReceiverError: as `database.translated` does.
    """
    if settings.rejected_retention is not None:
        step = partial(delete_rejected, settings.rejected_retention)
        await repeat(database, step, settings.maintenance_interval)
    if settings.retention is not None:
        step = partial(delete_logs, settings.retention)
        await repeat(database, step, settings.maintenance_interval)


async def repeat(database: Database, step: Step, period: timedelta) -> None:
    """Take steps, with pauses, until nothing is left to be deleted or the time is over."""
    clock = asyncio.get_running_loop().time
    end = clock() + period.total_seconds()
    place = BEGINNING
    while (start := clock()) < end:
        async with database.transaction() as connection:
            if not await connection.fetchval(queries.TRY_MAINTENANCE_LOCK):
                return
            deleted, place = await step(connection, place)
        if not deleted:
            return
        await asyncio.sleep((clock() - start) * REST)


async def delete_rejected(age: timedelta, connection: Connection, place: int) -> tuple[int, int]:
    """Delete the oldest rejected samples, from an id on."""
    return await fetch_step(connection, queries.DELETE_OLD_REJECTED, age, place)


async def delete_logs(age: timedelta, connection: Connection, place: int) -> tuple[int, int]:
    """Delete the oldest rows of `app_logs`, from a time on; of a hypertable, the oldest chunk."""
    if not await is_hypertable(connection):
        return await fetch_step(connection, queries.DELETE_OLD_LOGS, age, place)
    chunk_end = await connection.fetchval(queries.FIND_OLD_CHUNK, age)
    if chunk_end is None:
        return 0, place
    await connection.execute(f"{queries.WAIT_FOR_NOBODY}; {LOOK_EVERYWHERE}")
    await connection.execute(queries.DROP_OLD_CHUNK, chunk_end)
    return 1, place


async def fetch_step(
    connection: Connection, query: str, age: timedelta, place: int
) -> tuple[int, int]:
    """Delete rows; the place stays where it was if there are none."""
    deleted, last = await connection.fetchrow(query, age, AT_ONCE, place)
    return deleted, place if last is None else last
