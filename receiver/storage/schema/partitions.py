"""Partitions tables by time where Citus distributes them, so that old partitions can be dropped.

A table that has a retention when it is distributed is partitioned by `created_at`. Partitions are
long enough to be few; a default partition holds all other times, such as those of a wrong clock.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import asyncpg

from receiver.rows.tables import Table
from receiver.storage.connection.connecting import is_distributed
from receiver.storage.connection.database import Database
from receiver.storage.connection.locks import TRY_MAINTENANCE_LOCK
from receiver.storage.connection.places import OWN_SCHEMA, quote
from receiver.storage.schema.naming import unused

MOST: Final = 14
"""Maximum number of partitions that a retention is divided into."""
WIDTHS: Final = tuple(timedelta(days=days) for days in (1, 7, 28, 91, 364, 3640))
"""Possible lengths of a partition, shortest first."""
AHEAD: Final = 2
"""Number of partitions that are created ahead of time."""
UNLIMITED: Final = timedelta(days=364)
"""The retention that determines the length of partitions of a table that no longer has one."""
MOST_MOVED: Final = 100_000
"""Maximum number of rows moved into a new partition; if there are more, it is not created."""

# The partitions of a table ($1), the oldest first, each with its bounds in seconds since 1970 (NULL
# for the default partition), and whether our role may change them.
FIND_PARTS: Final = """
SELECT c.relname AS name, EXTRACT(EPOCH FROM p.from_value::timestamptz)::float8 AS since,
    EXTRACT(EPOCH FROM p.to_value::timestamptz)::float8 AS until,
    pg_has_role(parent.relowner, 'USAGE') AS owned
FROM time_partitions p JOIN pg_class c ON c.oid = p.partition
JOIN pg_class parent ON parent.oid = p.parent_table
WHERE p.parent_table = to_regclass(quote_ident($1)) ORDER BY 2
"""
NOW: Final = "SELECT EXTRACT(EPOCH FROM now())::float8"

FIND_NAMES: Final = f"""
SELECT relname FROM pg_class
WHERE relnamespace = to_regnamespace(quote_ident({OWN_SCHEMA})) AND starts_with(relname, $1)
"""

# For a change of the partitions, which locks the table exclusively. While it waited for a reader of
# the table, all writers would wait for it, on any node.
WAIT_FOR_NOBODY: Final = """
SET LOCAL citus.propagate_set_commands = 'local';
SET LOCAL lock_timeout = '200ms'
"""


class Part(NamedTuple):
    """A partition of a table."""

    name: str
    since: float
    """Seconds since 1970, inclusive; `until` is exclusive."""
    until: float


NEVER: Final = Part("", math.inf, math.inf)
"""A sentinel after all partitions."""


class Parts(NamedTuple):
    """The partitions of a table."""

    of_time: list[Part]
    """The oldest first."""
    others: str
    """The name of the default partition."""


def width_of(retention: timedelta | None) -> timedelta:
    """Return the length of the partitions of a table with this retention."""
    wanted = (retention or UNLIMITED) / MOST
    return next((width for width in WIDTHS if width >= wanted), WIDTHS[-1])


def find_gaps(
    parts: Iterable[Part], width: timedelta, since: float, until: float
) -> Iterator[tuple[float, float]]:
    """Yield the time ranges that have no partition, split at multiples of the width.

    Args:
        parts: The existing partitions, the oldest first.
        width: The length of the new partitions.
        since: The oldest time that needs a partition, in seconds since 1970.
        until: The time before which every needed partition begins, in seconds since 1970.
    """
    seconds = width.total_seconds()
    at = since // seconds * seconds
    for part in (*parts, NEVER):
        while at < min(part.since, until):
            end = min((at // seconds + 1) * seconds, part.since)
            if end > since:
                yield at, end
            at = end
        at = max(at, part.until)


async def find_parts(connection: asyncpg.Connection, table: str) -> Parts | None:
    """Return the partitions of a table; None if it has none that this role may change."""
    found = await connection.fetch(FIND_PARTS, table)
    others = [name for name, since, _, owned in found if since is None and owned]
    if not others:
        return None
    of_time = [Part(*row[:3]) for row in found if row["since"] is not None]
    return Parts(of_time, others[0])


async def make_parts(connection: asyncpg.Connection, table: Table, most: int | None = None) -> int:
    """Create partitions for the times of the retention and those to come; return how many.

    Args:
        connection: Must be in a transaction.
        table: The table; if it has no partitions, nothing is done.
        most: Maximum number to create; None: all that are needed.
    """
    parts = await find_parts(connection, table.name)
    if parts is None:
        return 0
    made = 0
    for gap in await find_missing(connection, table, parts.of_time):
        if made == most:
            break
        made += await make_part(connection, table.name, parts.others, gap)
    return made


async def find_missing(
    connection: asyncpg.Connection, table: Table, parts: Iterable[Part]
) -> Iterator[tuple[float, float]]:
    """Find the times of a table's retention, and those to come, that have no partition.

    Args:
        connection: A connection to the database.
        table: The table.
        parts: Its partitions, the oldest first.
    """
    width = width_of(table.retention)
    now = await connection.fetchval(NOW)
    # Times before 1970 are those of wrong clocks.
    since = max(0, now - (table.retention or timedelta()).total_seconds())
    return find_gaps(parts, width, since, now + AHEAD * width.total_seconds())


async def first_parts(
    connection: asyncpg.Connection, table: Table, others: Collection[str]
) -> list[str]:
    """Write the statements that create the partitions of a new table, the default one first.

    Args:
        connection: A connection to the database.
        table: The table, which need not exist yet.
        others: The names of tables that need not exist yet either.
    """
    default = await free_name(connection, f"{table.name}_default", others)
    statements = [f"CREATE TABLE {quote(default)} PARTITION OF {quote(table.name)} DEFAULT"]
    for since, until in await find_missing(connection, table, []):
        name = await free_name(connection, dated(table.name, since), others)
        statements.append(create_part(table.name, name, since, until))
    return statements


async def make_part(
    connection: asyncpg.Connection, table: str, others: str, gap: tuple[float, float]
) -> bool:
    """Create a partition; existing rows of its time range move into it.

    Args:
        connection: Must be in a transaction.
        table: The name of the table.
        others: The name of the default partition.
        gap: The bounds of the new partition, in seconds since 1970.

    Returns:
        Whether it was created: not if too many rows would have to move.
    """
    since, until = gap
    there = (
        f"FROM {quote(others)} WHERE created_at >= {as_time(since)} "
        f"AND created_at < {as_time(until)}"
    )
    count = f"SELECT count(*) FROM (SELECT 1 {there} LIMIT {MOST_MOVED + 1}) AS there"
    if await connection.fetchval(count) > MOST_MOVED:
        return False
    name = await free_name(connection, dated(table, since))
    # Nobody writes while rows move.
    await connection.execute(f"LOCK TABLE {quote(table)} IN ACCESS EXCLUSIVE MODE")
    await connection.execute(f"CREATE TEMPORARY TABLE receiver_moved AS SELECT * {there}")
    await connection.execute(f"DELETE {there}")
    await connection.execute(create_part(table, name, since, until))
    await connection.execute(f"INSERT INTO {quote(table)} SELECT * FROM receiver_moved")
    await connection.execute("DROP TABLE receiver_moved")
    return True


async def drop_old_part(connection: asyncpg.Connection, parts: Parts, age: timedelta) -> bool:
    """Drop the oldest partition of a table if all of it is older than `age`; return whether it was.

    Args:
        connection: Must be in a transaction.
        parts: The partitions of the table.
        age: Maximum age of rows that are kept.
    """
    now = await connection.fetchval(NOW)
    if not parts.of_time or parts.of_time[0].until > now - age.total_seconds():
        return False
    await connection.execute(WAIT_FOR_NOBODY)
    await connection.execute(f"DROP TABLE {quote(parts.of_time[0].name)}")
    return True


async def make_next_parts(database: Database, tables: Iterable[Table]) -> None:
    """Create partitions before they are needed, where Citus distributes the tables.

    Only one replica does this at a time; the others return at once.

    Raises:
        ReceiverError: as `database.translated` does.
    """
    for table in tables:
        made = 1
        while made:
            async with database.transaction() as connection:
                if not (
                    await is_distributed(connection)
                    and await connection.fetchval(TRY_MAINTENANCE_LOCK)
                ):
                    return
                await connection.execute(WAIT_FOR_NOBODY)
                made = await make_parts(connection, table, most=1)


async def free_name(connection: asyncpg.Connection, name: str, others: Collection[str] = ()) -> str:
    """Return a name for a partition that no relation has yet, and that is none of `others`."""
    return unused(
        {*others, *(there for (there,) in await connection.fetch(FIND_NAMES, name))}, name
    )


def dated(table: str, since: float) -> str:
    """Return the usual name of a partition, by its first time in seconds since 1970."""
    return f"{table}_{datetime.fromtimestamp(since, UTC):%Y%m%d}"


def create_part(table: str, name: str, since: float, until: float) -> str:
    """Write the statement that creates a partition; its bounds are in seconds since 1970."""
    return (
        f"CREATE TABLE {quote(name)} PARTITION OF {quote(table)} "
        f"FOR VALUES FROM ({as_time(since)}) TO ({as_time(until)})"
    )


def as_time(seconds: float) -> str:
    """Write a time, given in seconds since 1970, as SQL."""
    return f"'{datetime.fromtimestamp(seconds, UTC).isoformat()}'"
