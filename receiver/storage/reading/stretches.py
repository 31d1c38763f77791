"""Which states sources were in over time, as stretches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

from receiver.rows.tables import Table
from receiver.storage.connection.database import Connection, translated
from receiver.storage.connection.places import quote
from receiver.storage.reading.selecting import is_users

FUNCTION: Final = "app_status_intervals_between"
"""Of app_logs, which had it before there were other tables."""

_STRETCHES: Final = """
SELECT i.source_id, i.code, EXTRACT(EPOCH FROM i.started_at)::double precision,
    EXTRACT(EPOCH FROM i.ended_at)::double precision
FROM unnest($3::int[]) AS source (id)
CROSS JOIN LATERAL (
    SELECT * FROM {function}($1, $2)
        AS i (source_id, code, name, started_at, ended_at, rows, ongoing)
    WHERE i.source_id = source.id
) AS i
ORDER BY i.source_id, i.started_at
"""


class Stretch(NamedTuple):
    """A time in which a source had a code."""

    code: int
    start: float
    """Seconds since the Unix epoch, as is `end`."""
    end: float


async def read_stretches(
    connection: Connection,
    table: Table,
    window: tuple[datetime, datetime],
    gaps: Mapping[int, float],
) -> dict[int, list[Stretch]]:
    """Return the stretches of some sources within a range of time, by source and time."""
    if not table.codes or not gaps:
        return {}
    function = FUNCTION if is_users(table) else f"{table.name}_intervals_between"
    statement = _STRETCHES.format(function=quote(function))
    since, until = (moment.isoformat() for moment in window)
    with translated():
        rows = await connection.fetch(statement, since, until, list(gaps))
    found: dict[int, list[Stretch]] = defaultdict(list)
    for source, code, start, end in rows:
        line = found[source]
        if line and start - line[-1].end <= gaps[source]:
            line[-1] = line[-1]._replace(end=start)
        line.append(Stretch(code, start, end + gaps[source] / 3))
    return found
