"""From when to when sources were in which state."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final, NamedTuple

from receiver.storage.connection.database import Connection, translated

# The newest $4 intervals of each source. LATERAL with LIMIT: each source's rows by the primary key.
INTERVALS: Final = """
SELECT i.source_id, i.app_status, left(i.error_name, 500) AS error_name,
    left(e.description, 500) AS description, i.started_at, i.ended_at,
    EXTRACT(EPOCH FROM i.started_at)::double precision AS start,
    EXTRACT(EPOCH FROM i.ended_at)::double precision AS end,
    i.rows
FROM unnest($3::int[]) AS source (id)
CROSS JOIN LATERAL (
    SELECT * FROM app_status_intervals_between($1, $2) i
    WHERE i.source_id = source.id
    ORDER BY i.started_at DESC LIMIT $4
) AS i
LEFT JOIN error_codes e ON e.code = i.app_status
ORDER BY i.source_id, i.started_at
"""


class Interval(NamedTuple):
    """A stretch of time in which a source was in one state."""

    source_id: int
    app_status: int
    error_name: str | None
    description: str | None
    started_at: str
    ended_at: str
    start: float
    """Seconds since the Unix epoch, as is `end`."""
    end: float
    rows: int


async def intervals(
    connection: Connection, since: datetime, until: datetime, sources: Collection[int], limit: int
) -> list[Interval]:
    """The newest intervals of some sources, so many of each, by source and time."""
    with translated():
        rows = await connection.fetch(
            INTERVALS, since.isoformat(), until.isoformat(), list(sources), limit
        )
    return [Interval(*row) for row in rows]
