"""From when to when sources were in which state."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final, NamedTuple

from receiver.rows.tables import Table
from receiver.storage.connection.database import Connection, translated
from receiver.storage.connection.places import quote
from receiver.storage.reading.selecting import is_users

FUNCTION: Final = "app_status_intervals_between"
"""Of app_logs, which had it before there were other tables."""

# The newest $4 intervals of each source. LATERAL with LIMIT: each source's rows by the primary key.
_INTERVALS: Final = """
SELECT i.source_id, i.code, left(i.name, 500),
    (SELECT left(e.description, 500) FROM {codes} e WHERE e.code = i.code),
    i.started_at, i.ended_at,
    EXTRACT(EPOCH FROM i.started_at)::double precision AS start,
    EXTRACT(EPOCH FROM i.ended_at)::double precision AS end,
    i.rows
FROM unnest($3::int[]) AS source (id)
CROSS JOIN LATERAL (
    SELECT * FROM {function}($1, $2)
        AS i (source_id, code, name, started_at, ended_at, rows, ongoing)
    WHERE i.source_id = source.id
    ORDER BY i.started_at DESC LIMIT $4
) AS i
ORDER BY i.source_id, i.started_at
"""


class Interval(NamedTuple):
    """A stretch of time in which a source was in one state."""

    source_id: int
    code: int
    name: str | None
    description: str | None
    started_at: str
    ended_at: str
    start: float
    """Seconds since the Unix epoch, as is `end`."""
    end: float
    rows: int


async def intervals(
    connection: Connection,
    table: Table,
    window: tuple[datetime, datetime],
    sources: Collection[int],
    limit: int,
) -> list[Interval]:
    """Return the newest intervals of some sources, so many of each, by source and time.

    They are those of the table's first column of codes; none if it has no such column.
    """
    if not table.codes:
        return []
    function = FUNCTION if is_users(table) else f"{table.name}_intervals_between"
    statement = _INTERVALS.format(function=quote(function), codes=quote(table.codes[0].codes or ""))
    since, until = (moment.isoformat() for moment in window)
    with translated():
        rows = await connection.fetch(statement, since, until, list(sources), limit)
    return [Interval(*row) for row in rows]
