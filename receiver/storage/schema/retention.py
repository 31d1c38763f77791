"""Deletes what is older than the settings and the declared tables keep, where no policy does.

In small transactions, each with a pause after it: nobody waits long for a lock, and a table with
years of rows to be deleted costs a share of one processor until it is done.
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
"""Rows that one transaction deletes."""
REST: Final = 4
"""Length of the pause after a transaction, in times of what that took."""
BEGINNING: Final = -(2**63)
"""The time -infinity, and before any id."""

Step: TypeAlias = Callable[[Connection, int], Awaitable[tuple[int, int]]]
"""Deletes the oldest rows, from a place on; returns how many, and from where to go on."""

# Deletes at most $2 of the oldest rows, those older than $1, from the time $3 on; returns how many,
# and the newest time among them. For a plain table. None that a transaction works on, so that the
# deletion waits for nobody.
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

# The same where Citus distributes the table: up to the time of the last of these rows, whoever
# works on one.
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

# Looks at the $2 first rows from the id $3 on, and deletes those older than $1; returns how many,
# and the greatest id among them. Ids rise with time, so there need not be an index on the time.
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

# For a hypertable ($1) without a policy: until when the oldest chunk goes, if all of it is older
# than $2.
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

# To drop a chunk locks the tables that it refers to. While it waited for somebody who reads the
# chunk, all who write would wait for it.
WAIT_FOR_NOBODY: Final = "SET LOCAL lock_timeout = '200ms'"


async def delete_old(database: Database, settings: Settings) -> None:
    """Delete what is too old; what has not been reached in a round's time waits for the next.

    Each table has the same share of the round, and what goes wrong with one keeps nothing from the
    others. Of several replicas only one deletes at a time; the
    others return at once.

    Raises:
        ReceiverError: the first that went wrong, as `database.translated` does.
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
    """Take steps, with pauses, until nothing is left to be deleted or the time is over."""
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
    """Delete the oldest rows of a table, from a time on; the oldest chunk or part at once."""
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
    """Delete rows; the place stays where it was if there are none."""
    deleted, last = await connection.fetchrow(query, age, AT_ONCE, place)
    return deleted, place if last is None else last
