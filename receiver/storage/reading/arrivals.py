"""Counts what has arrived recently, to show at a glance whether data arrives."""

from __future__ import annotations

from typing import Final, NamedTuple

from receiver.rows.tables import Catalogue
from receiver.storage.connection.database import Connection, translated
from receiver.storage.connection.places import quote

MOST: Final = 200_000
"""Upper limit of each count."""

# How many rows the last minute has, how many are incomplete, and how many samples were rejected in
# the last minute; each up to $1.
_COUNT: Final = """
SELECT
    {rows} AS rows,
    (SELECT count(*) FROM (
        SELECT 1 FROM pending_rows ORDER BY source_id, created_at LIMIT $1
    ) AS incomplete) AS pending,
    (SELECT count(*) FROM (
        SELECT rejected_at FROM rejected_samples ORDER BY id DESC LIMIT $1
    ) AS rejected WHERE rejected_at > now() - INTERVAL '1 minute') AS rejected
"""

_ROWS: Final = """
(SELECT count(*) FROM (
    SELECT 1 FROM {} WHERE created_at > now() - INTERVAL '1 minute' AND created_at <= now()
    ORDER BY created_at DESC LIMIT $1
) AS logs)"""

_NEWEST: Final = """
(SELECT created_at FROM {} WHERE created_at <= now() ORDER BY created_at DESC LIMIT 1)"""


class Arrivals(NamedTuple):
    """Counts of recent arrivals; none is above `MOST`."""

    rows: int
    """Rows of the last minute, in all tables."""
    pending: int
    """Incomplete rows."""
    rejected: int
    """Samples rejected in the last minute."""
    newest: str | None
    """Time of the newest row that is not in the future; None if the last minute has rows."""


async def arrivals(connection: Connection, catalogue: Catalogue) -> Arrivals:
    """Count recent arrivals."""
    names = [quote(table.name) for table in catalogue.tables]
    count = _COUNT.format(rows=" + ".join(_ROWS.format(name) for name in names))
    with translated():
        rows, pending, rejected = await connection.fetchrow(count, MOST)
        newest = None if rows else await connection.fetchval(newest_of(catalogue))
    return Arrivals(min(rows, MOST), pending, rejected, newest)


def newest_of(catalogue: Catalogue) -> str:
    """Write the statement for the time of the newest row of all tables."""
    times = (_NEWEST.format(quote(table.name)) for table in catalogue.tables)
    return f"SELECT greatest({', '.join(times)})"
