"""Since when sources fail, or are planned not to work."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from receiver.rows.tables import Table
from receiver.storage.connection.connecting import is_distributed
from receiver.storage.connection.database import Connection, translated
from receiver.storage.connection.places import quote
from receiver.storage.reading.states import SourceState, State

LOOKED_BACK: Final = timedelta(days=1)
"""How far back rows are looked at; a state that lasts longer does so at least since then."""

# Backwards by the primary key, to the last row of another state; then, of the rows after it, the
# last one before which the source was silent.
_BEGAN: Final = """
SELECT source.id, (
    SELECT EXTRACT(EPOCH FROM max(f.created_at))::double precision FROM (
        SELECT l.created_at, lag(l.created_at) OVER (ORDER BY l.created_at) AS before
        FROM {table} l
        WHERE l.source_id = source.id AND l.created_at <= now()
          AND l.created_at > COALESCE(other.created_at, now() - $4::interval)
    ) AS f
    WHERE f.before IS NULL OR f.created_at - f.before > source.gap * INTERVAL '1 second'
)
FROM unnest($1::int[], $2::double precision[]) AS source (id, gap)
LEFT JOIN LATERAL (
    SELECT l.created_at FROM {table} l
    WHERE l.source_id >= source.id AND l.source_id <= source.id AND (l.{code} = ANY($3::int[])) = $5
      AND l.created_at <= now() AND l.created_at > now() - $4::interval
    ORDER BY l.source_id DESC, l.created_at DESC LIMIT 1
) AS other ON true
"""

_GIVEN: Final = "unnest($1::int[], $2::double precision[])"


def for_citus(statement: str) -> str:
    """Write the same statement for a table that Citus distributes."""
    keys = f"(SELECT k.id, g.gap FROM source_keys k JOIN {_GIVEN} AS g (id, gap) ON g.id = k.id)"
    return statement.replace(_GIVEN, keys).replace(
        "l.source_id >= source.id AND l.source_id <= source.id", "l.source_id = source.id"
    )


async def read_began(
    connection: Connection,
    table: Table,
    sources: list[SourceState],
    classes: Mapping[int, State],
) -> dict[int, float]:
    """Return since when the state of sources lasts, in seconds since the Unix epoch.

    Only of failures and of states that are planned by their code: they are few and short, while
    all rows of what is well would have to be read.

    Args:
        connection: A connection for reading.
        table: The table.
        sources: All sources.
        classes: The states that codes mean.
    """
    if not table.codes:
        return {}
    known = {0: State.OK, **classes}
    well = [code for code, state in known.items() if state is not State.FAILURE]
    planned = [code for code, state in known.items() if state is State.PLANNED]
    statement = _BEGAN.format(table=quote(table.name), code=quote(table.codes[0].name))
    if await is_distributed(connection):
        statement = for_citus(statement)
    found: dict[int, float] = {}
    for state, codes, ends in ((State.FAILURE, well, True), (State.PLANNED, planned, False)):
        wanted = [one for one in sources if one.state is state and one.stop_ends is None]
        ids, gaps = [one.id for one in wanted], [one.gap for one in wanted]
        with translated():
            rows = await connection.fetch(statement, ids, gaps, codes, LOOKED_BACK, ends)
        found |= {id_: began for id_, began in rows if began is not None}
    return found
