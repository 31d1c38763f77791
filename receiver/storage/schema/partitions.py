"""Parts of a table by time, where Citus distributes it: what is too old goes part by part.

A table that has a retention when it is distributed is made of parts by `created_at`, each as long
as to have few of them, and of one for all other times, where the rows of a wrong clock go.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
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
"""Parts that a retention is divided into at most."""
WIDTHS: Final = tuple(timedelta(days=days) for days in (1, 7, 28, 91, 364, 3640))
"""How long a part may be, shortest first."""
AHEAD: Final = 2
"""Parts that are made before their time comes."""
UNLIMITED: Final = timedelta(days=364)
"""The retention by which a table is divided that has none any more."""
MOST_MOVED: Final = 100_000
"""Rows that are moved into a new part at most; where more are, they stay where they are."""

# The parts of a table ($1), the oldest first, each with its bounds as seconds since 1970, without
# which it is that for all other times; and whether we may change them.
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

# For a change of the parts, which needs the table alone. While it waited for somebody who reads the
# table, all who write would wait for it, on any node.
WAIT_FOR_NOBODY: Final = """
SET LOCAL citus.propagate_set_commands = 'local';
SET LOCAL lock_timeout = '200ms'
"""


class Part(NamedTuple):
    """A part of a table by time."""

    name: str
    since: float
    """Seconds since 1970; from here on, until before `until`."""
    until: float


NEVER: Final = Part("", math.inf, math.inf)
"""Behind all parts."""


class Parts(NamedTuple):
    """Those of a table."""

    of_time: list[Part]
    """The oldest first."""
    others: str
    """The name of the one for all other times."""


def width_of(retention: timedelta | None) -> timedelta:
    """Return how long the parts of a table are that is kept for this time."""
    wanted = (retention or UNLIMITED) / MOST
    return next((width for width in WIDTHS if width >= wanted), WIDTHS[-1])


def find_gaps(
    parts: Iterable[Part], width: timedelta, since: float, until: float
) -> Iterator[tuple[float, float]]:
    """Find the times for which there is no part; each gap ends at a multiple of the width.

    Args:
        parts: Those that are there, the oldest first.
        width: Of the new ones.
        since: The oldest time for which one is needed, in seconds since 1970.
        until: When those that are needed have begun.
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
    """Return the parts of a table; None if it has none that this role may change."""
    found = await connection.fetch(FIND_PARTS, table)
    others = [name for name, since, _, owned in found if since is None and owned]
    if not others:
        return None
    of_time = [Part(*row[:3]) for row in found if row["since"] is not None]
    return Parts(of_time, others[0])


async def make_parts(connection: asyncpg.Connection, table: Table, most: int | None = None) -> int:
    """Make parts of a table for the times that are kept and that come; return how many.

    Args:
        connection: In a transaction.
        table: The table; where it has no parts, nothing is done.
        most: How many to make; None: all that are needed.
    """
    parts = await find_parts(connection, table.name)
    if parts is None:
        return 0
    width = width_of(table.retention)
    now = await connection.fetchval(NOW)
    # Older times than 1970 are those of wrong clocks.
    since = max(0, now - (table.retention or timedelta()).total_seconds())
    until = now + AHEAD * width.total_seconds()
    made = 0
    for gap in find_gaps(parts.of_time, width, since, until):
        if made == most:
            break
        made += await make_part(connection, table.name, parts.others, gap)
    return made


async def make_part(
    connection: asyncpg.Connection, table: str, others: str, gap: tuple[float, float]
) -> bool:
    """Make a part of a table; rows that are there of its time move into it.

    Args:
        connection: In a transaction.
        table: The name of the table.
        others: The part where its rows of all other times are.
        gap: The bounds of the new part, in seconds since 1970.

    Returns:
        Whether it was made: not if too many rows would have to move.
    """
    since, until = (as_time(bound) for bound in gap)
    there = f"FROM {quote(others)} WHERE created_at >= {since} AND created_at < {until}"
    count = f"SELECT count(*) FROM (SELECT 1 {there} LIMIT {MOST_MOVED + 1}) AS there"
    if await connection.fetchval(count) > MOST_MOVED:
        return False
    name = await free_name(connection, f"{table}_{datetime.fromtimestamp(gap[0], UTC):%Y%m%d}")
    # Nobody writes while rows move.
    await connection.execute(f"LOCK TABLE {quote(table)} IN ACCESS EXCLUSIVE MODE")
    await connection.execute(f"CREATE TEMPORARY TABLE receiver_moved AS SELECT * {there}")
    await connection.execute(f"DELETE {there}")
    await connection.execute(
        f"CREATE TABLE {quote(name)} PARTITION OF {quote(table)} "
        f"FOR VALUES FROM ({since}) TO ({until})"
    )
    await connection.execute(f"INSERT INTO {quote(table)} SELECT * FROM receiver_moved")
    await connection.execute("DROP TABLE receiver_moved")
    return True


async def drop_old_part(connection: asyncpg.Connection, parts: Parts, age: timedelta) -> bool:
    """Drop the oldest part of a table if all of it has an age; return whether that was so.

    Args:
        connection: In a transaction.
        parts: Those of the table.
        age: Of the rows that are kept, at most.
    """
    now = await connection.fetchval(NOW)
    if not parts.of_time or parts.of_time[0].until > now - age.total_seconds():
        return False
    await connection.execute(WAIT_FOR_NOBODY)
    await connection.execute(f"DROP TABLE {quote(parts.of_time[0].name)}")
    return True


async def make_next_parts(database: Database, tables: Iterable[Table]) -> None:
    """Make parts of tables before they are needed, where Citus distributes these.

    Of several replicas only one does this at a time; the others return at once.

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


async def free_name(connection: asyncpg.Connection, name: str) -> str:
    """Return a name for a part that no relation has."""
    return unused({taken for (taken,) in await connection.fetch(FIND_NAMES, name)}, name)


def as_time(seconds: float) -> str:
    """Write a time, given in seconds since 1970, as SQL."""
    return f"'{datetime.fromtimestamp(seconds, UTC).isoformat()}'"
