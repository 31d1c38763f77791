"""Deletes rows that are older than their retention, where no policy of TimescaleDB does.

It works in small transactions, each followed by a pause: nobody waits long for a lock, and deleting
years of rows of a table takes only a share of one processor until it is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Final, TypeAlias

from receiver.config.settings import Settings
from receiver.errors import ReceiverError
from receiver.storage.connection.connecting import is_distributed
from receiver.storage.connection.database import Connection, Database
from receiver.storage.connection.locks import TRY_MAINTENANCE_LOCK
from receiver.storage.connection.places import LOOK_EVERYWHERE, quote
from receiver.storage.schema.partitions import drop_old_part, find_parts
from receiver.storage.schema.timescale import PLACE, is_hypertable

AT_ONCE: Final = 5_000
"""Maximum number of rows that one transaction deletes."""
REST: Final = 4
"""Length of the pause after a transaction, as a multiple of its duration."""
BEGINNING: Final = -(2**63)
"""The time -infinity, which is also below any id."""

Step: TypeAlias = Callable[[Connection, int], Awaitable[tuple[int, int]]]
"""Deletes the oldest rows from a position on; returns how many, and the position to go on from."""

# For a plain table: deletes at most $2 of the oldest rows, those older than $1, from the time $3
# on; returns how many, and the newest time among them. Skips locked rows, so that the deletion
# waits for nobody.
DELETE_OLD_ROWS: Final = """
WITH old AS (
    SELECT source_id, created_at FROM {table}
    WHERE created_at >= $3 AND created_at < now() - $1::interval
    ORDER BY created_at LIMIT $2
    FOR UPDATE SKIP LOCKED
), deleted AS (
    DELETE FROM {table} l USING old
    WHERE (l.source_id, l.created_at) = (old.source_id, old.created_at)
    RETURNING l.created_at
)
SELECT count(*), max(created_at) FROM deleted
"""

# The same where Citus distributes the table: deletes all rows up to the time of the last of these,
# including locked ones.
DELETE_OLD_DISTRIBUTED: Final = """
WITH deleted AS (
    DELETE FROM {table}
    WHERE created_at >= $3 AND created_at < now() - $1::interval AND created_at <= (
        SELECT max(created_at) FROM (
            SELECT created_at FROM {table} WHERE created_at >= $3 ORDER BY created_at LIMIT $2
        ) AS first
    )
    RETURNING created_at
)
SELECT count(*), max(created_at) FROM deleted
"""

# Reads the $2 first rows from the id $3 on, and deletes those older than $1; returns how many, and
# the greatest id among them. Ids grow with time, so no index on the time is needed.
DELETE_OLD_REJECTED: Final = """
WITH first AS (
    SELECT id, rejected_at FROM rejected_samples WHERE id >= $3 ORDER BY id LIMIT $2
), deleted AS (
    DELETE FROM rejected_samples r USING first
    WHERE r.id = first.id AND first.rejected_at < now() - $1::interval
    RETURNING r.id
)
SELECT count(*), max(id) FROM deleted
"""

# For a hypertable ($1) without a retention policy: the end of the oldest chunk, if all of it is
# older than $2.
FIND_OLD_CHUNK: Final = f"""
SELECT min(range_end) FROM timescaledb_information.chunks
WHERE (hypertable_schema, hypertable_name) = {PLACE}
  AND range_end <= now() - $2::interval
  AND NOT EXISTS (
      SELECT FROM timescaledb_information.jobs
      WHERE (hypertable_schema, hypertable_name) = {PLACE} AND proc_name = 'policy_retention'
  )
"""

DROP_OLD_CHUNK: Final = """
SELECT drop_chunks(to_regclass(quote_ident($1::text)), older_than => $2::timestamptz)
"""

# Dropping a chunk locks the tables that it refers to. While it waited for a reader of the chunk,
# all writers would wait for it.
WAIT_FOR_NOBODY: Final = "SET LOCAL lock_timeout = '200ms'"


async def delete_old(database: Database, settings: Settings) -> None:
    """Delete rows that are too old; rows not reached within a round wait for the next one.

    Each table has the same share of the round, and a failure with one does not stop the others.
    Only one replica deletes at a time; the others return at once.

    Raises:
        ReceiverError: the first failure, as `database.translated` does.
    """
    steps: list[Step] = []
    if settings.rejected_retention is not None:
        steps.append(partial(delete_rejected, settings.rejected_retention))
    steps += [
        partial(delete_rows, table.name, table.retention)
        for table in settings.catalogue.tables
        if table.retention is not None
    ]
    failures: list[ReceiverError] = []
    for step in steps:
        try:
            await repeat(database, step, settings.maintenance_interval / len(steps))
        except ReceiverError as error:
            failures.append(error)
    if failures:
        raise failures[0]


async def repeat(database: Database, step: Step, period: timedelta) -> None:
    """Repeat a step, with pauses, until nothing is left to delete or the time is up."""
    clock = asyncio.get_running_loop().time
    end = clock() + period.total_seconds()
    place = BEGINNING
    while (start := clock()) < end:
        async with database.transaction() as connection:
            if not await connection.fetchval(TRY_MAINTENANCE_LOCK):
                return
            deleted, place = await step(connection, place)
        if not deleted:
            return
        await asyncio.sleep((clock() - start) * REST)


async def delete_rejected(age: timedelta, connection: Connection, place: int) -> tuple[int, int]:
    """Delete the oldest rejected samples, from an id on."""
    return await fetch_step(connection, DELETE_OLD_REJECTED, age, place)


async def delete_rows(
    table: str, age: timedelta, connection: Connection, place: int
) -> tuple[int, int]:
    """Delete a table's oldest rows from a time on; drop an old chunk or partition as a whole."""
    if await is_distributed(connection):
        parts = await find_parts(connection, table)
        if parts is not None and await drop_old_part(connection, parts, age):
            return 1, place
        query = DELETE_OLD_DISTRIBUTED.replace("{table}", quote(parts.others if parts else table))
        return await fetch_step(connection, query, age, place)
    if not await is_hypertable(connection, table):
        query = DELETE_OLD_ROWS.replace("{table}", quote(table))
        return await fetch_step(connection, query, age, place)
    chunk_end = await connection.fetchval(FIND_OLD_CHUNK, table, age)
    if chunk_end is None:
        return 0, place
    await connection.execute(f"{WAIT_FOR_NOBODY}; {LOOK_EVERYWHERE}")
    await connection.execute(DROP_OLD_CHUNK, table, chunk_end)
    return 1, place


async def fetch_step(
    connection: Connection, query: str, age: timedelta, place: int
) -> tuple[int, int]:
    """Delete rows; return how many, and the new place, which is unchanged if there are none."""
    deleted, last = await connection.fetchrow(query, age, AT_ONCE, place)
    return deleted, place if last is None else last
