"""In which state each source is now."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from receiver.rows.tables import Table
from receiver.storage.connection.database import Connection, translated
from receiver.storage.connection.places import quote
from receiver.storage.reading.sources import LABELS, read_labels


class State(StrEnum):
    """A state, the worst first."""

    FAILURE = "failure"
    SILENT = "silent"
    """No row has come for longer than the source's rows are apart."""
    PLANNED = "planned"
    OK = "ok"
    NONE = "none"
    """No row yet."""


SEVERITY: Final = {state: place for place, state in enumerate(State)}
"""Lower is worse."""
MOST_SOURCES: Final = 20_000
"""Sources that are read at once; no page has more."""
HELD: Final = 3
"""Intervals of a source without a row after which it is silent."""
SHORTEST_GAP: Final = 5.0
"""Seconds; no source is silent sooner."""
UNKNOWN_GAP: Final = 300.0
"""Seconds after which a source of one row is silent, as its interval is not known."""

# LATERAL with LIMIT: a few rows of each source by the primary key. The median of the last gaps is
# the source's interval, whatever single gap lies among them.
_STATES: Final = f"""
SELECT s.id, {LABELS} AS labels, newest.created_at,
    EXTRACT(EPOCH FROM newest.created_at)::double precision AS at,
    EXTRACT(EPOCH FROM now() - newest.created_at)::double precision AS age,
    {{code}} AS code, rhythm.interval
FROM (SELECT id, labels FROM sources ORDER BY id LIMIT {MOST_SOURCES}) AS s
LEFT JOIN LATERAL (SELECT * FROM {{now}} n WHERE n.source_id = s.id LIMIT 1) AS newest ON true
LEFT JOIN LATERAL (
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY gap) AS interval FROM (
        SELECT EXTRACT(EPOCH FROM lag(l.created_at) OVER (ORDER BY l.created_at DESC)
            - l.created_at)::double precision AS gap
        FROM (
            SELECT created_at FROM {{table}} l
            WHERE l.source_id >= s.id AND l.source_id <= s.id
              AND l.created_at <= newest.created_at
              AND l.created_at > newest.created_at - INTERVAL '1 hour'
            ORDER BY l.source_id DESC, l.created_at DESC LIMIT 8
        ) AS l
    ) AS gaps
) AS rhythm ON true
ORDER BY s.id
"""


class SourceState(NamedTuple):
    """A source, and the state that it is in."""

    id: int
    labels: dict[str, str]
    state: State
    code: int | None
    """Of its newest row; None without a row or without a column of codes."""
    created_at: str | None
    """Of its newest row, as PostgreSQL writes it."""
    at: float | None
    """The same in seconds since the Unix epoch."""
    age: float | None
    """Seconds since then, by the database's clock."""
    gap: float
    """Seconds without a row after which it is silent."""


def gap_of(interval: float | None) -> float:
    """Return after how many seconds without a row a source is silent."""
    return UNKNOWN_GAP if interval is None else max(HELD * interval, SHORTEST_GAP)


def class_of(code: int, classes: Mapping[int, State]) -> State:
    """Return the state that a code means; without one, 0 is well and all others are failures."""
    return classes.get(code, State.OK if code == 0 else State.FAILURE)


def state_of(
    code: int | None, age: float | None, gap: float, classes: Mapping[int, State]
) -> State:
    """Return the state of a source by its newest row.

    Args:
        code: The row's code; None in a table without codes.
        age: Seconds since the row; None without any.
        gap: Seconds after which the source is silent.
        classes: The states that codes mean.
    """
    if age is None:
        return State.NONE
    if age > gap:
        return State.SILENT
    return State.OK if code is None else class_of(code, classes)


async def read_states(
    connection: Connection, table: Table, classes: Mapping[int, State]
) -> list[SourceState]:
    """Return the state of every source in a table, by id."""
    code = f"newest.{quote(table.codes[0].name)}" if table.codes else "NULL::int"
    statement = _STATES.format(
        code=code, now=quote(f"{table.name}_now"), table=quote(table.name)
    )
    with translated():
        rows = await connection.fetch(statement)
    found = []
    for id_, labels, created_at, at, age, number, interval in rows:
        gap = gap_of(interval)
        state = state_of(number, age, gap, classes)
        found.append(
            SourceState(id_, read_labels(labels), state, number, created_at, at, age, gap)
        )
    return found
