"""Finds since when sources have been failing, or planned not to work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from receiver.rows.tables import Table
from receiver.storage.connection.connecting import is_distributed
from receiver.storage.connection.database import Connection, translated
from receiver.storage.connection.places import quote
from receiver.storage.reading.selecting import chosen_sources
from receiver.storage.reading.states import SourceState, State
from receiver.storage.reading.stretches import Stretch, read_stretches

LOOKED_BACK: Final = timedelta(days=1)
"""How far back rows are read; the exact beginning of an older state is not determined."""
SHORT: Final = timedelta(minutes=10)
"""States younger than this are read separately, so that an old one does not widen their range."""

# Reads the primary key backwards, to the last row that is not a failure.
_BEFORE: Final = """
SELECT chosen.id, COALESCE(other.created_at, now() - $3::interval) AS since,
    COALESCE(other.created_at, '-infinity') > now() - $4::interval AS is_short
FROM {chosen}
LEFT JOIN LATERAL (
    SELECT l.source_id, l.created_at FROM {table} l
    WHERE l.source_id >= chosen.id AND l.source_id <= chosen.id AND l.{code} = ANY($2::int[])
      AND l.created_at <= now() AND l.created_at > now() - $3::interval
    ORDER BY l.source_id DESC, l.created_at DESC LIMIT 1
) AS other ON other.source_id = chosen.id
"""


class Before(NamedTuple):
    """A time after which a source began to fail, a day ago at most."""

    id: int
    since: datetime
    is_short: bool


async def read_began(
    connection: Connection,
    table: Table,
    sources: list[SourceState],
    classes: Mapping[int, State],
) -> dict[int, float]:
    """Return since when sources have been in their state, in seconds since the Unix epoch.

    States are those of `state_intervals`: a failure ends where no row holds, and with a planned
    stop. Only failures and states that are planned by their code are included: they are few and
    short, while for sources that are ok all rows would have to be read.

    Args:
        connection: A connection for reading.
        table: The table.
        sources: All sources.
        classes: The states that codes mean.
    """
    if not table.codes:
        return {}
    wanted = [one for one in sources if one.stop_ends is None]
    failing = [one.id for one in wanted if one.state is State.FAILURE]
    planned = [one.id for one in wanted if one.state is State.PLANNED]
    before = await read_before(connection, table, failing, classes)
    found: dict[int, float] = {}
    for is_short in (True, False):
        some = {one.id: one.since for one in before if one.is_short is is_short}
        found |= await read_since(connection, table, some, State.FAILURE)
    # A planned stop may come before, which no row records.
    some = dict.fromkeys(planned, datetime.now(UTC) - LOOKED_BACK)
    return found | await read_since(connection, table, some, State.PLANNED)


async def read_before(
    connection: Connection, table: Table, failing: Sequence[int], classes: Mapping[int, State]
) -> list[Before]:
    """Return when failing sources had their last row of another state."""
    if not failing:
        return []
    others = [
        code for code, state in {0: State.OK, **classes}.items() if state is not State.FAILURE
    ]
    statement = _BEFORE.format(
        table=quote(table.name),
        code=quote(table.codes[0].name),
        chosen=chosen_sources("$1", distributed=await is_distributed(connection)),
    )
    with translated():
        rows = await connection.fetch(statement, failing, others, LOOKED_BACK, SHORT)
    return [Before(id_, datetime.fromisoformat(since), is_short) for id_, since, is_short in rows]


async def read_since(
    connection: Connection, table: Table, after: Mapping[int, datetime], state: State
) -> dict[int, float]:
    """Return since when sources have been in a state, given a time before its start for each."""
    if not after:
        return {}
    window = (min(after.values()), datetime.max.replace(tzinfo=UTC))
    found = await read_stretches(connection, table, window, list(after))
    began = {id_: began_at(stretches, state) for id_, stretches in found.items()}
    return {id_: at for id_, at in began.items() if at is not None}


def began_at(stretches: Sequence[Stretch], state: State) -> float | None:
    """Return when the last state began, if it is this one; codes may change within it."""
    began = None
    for stretch in reversed(stretches):
        if stretch.state is not state or began not in (None, stretch.end):
            break
        began = stretch.start
    return began
