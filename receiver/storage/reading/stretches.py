"""Reads the states of sources over time from `state_intervals`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime
from typing import Final, NamedTuple

from receiver.rows.tables import Table
from receiver.storage.connection.database import Connection, translated
from receiver.storage.reading.states import State

STATES: Final = {"up": State.OK, "down": State.FAILURE, "planned": State.PLANNED}
"""The page's states by those of the function; other states are unknown."""

_STRETCHES: Final = """
SELECT source_id, state, code, EXTRACT(EPOCH FROM started_at)::double precision,
    EXTRACT(EPOCH FROM ended_at)::double precision
FROM state_intervals($1, $2, $3, $4)
WHERE state <> 'unknown'
ORDER BY source_id, started_at
"""


class Stretch(NamedTuple):
    """A period in which a source was in one state."""

    state: State
    code: int | None
    """None while it was planned not to work."""
    start: float
    """Seconds since the Unix epoch, as is `end`."""
    end: float


async def read_stretches(
    connection: Connection,
    table: Table,
    window: tuple[datetime, datetime],
    sources: Collection[int],
) -> dict[int, list[Stretch]]:
    """Return the stretches of some sources within a range of time, by source and time.

    The state between stretches is unknown.
    """
    if not table.codes or not sources:
        return {}
    since, until = (moment.isoformat() for moment in window)
    with translated():
        rows = await connection.fetch(_STRETCHES, table.name, since, until, list(sources))
    found: dict[int, list[Stretch]] = defaultdict(list)
    for source, state, code, start, end in rows:
        found[source].append(Stretch(STATES[state], code, start, end))
    return found
