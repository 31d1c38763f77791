"""Reads the current state of each source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from statistics import median
from typing import Any, Final, NamedTuple

from receiver.rows.tables import Table
from receiver.storage.connection.connecting import is_distributed
from receiver.storage.connection.database import Connection, translated
from receiver.storage.connection.places import quote
from receiver.storage.reading.sources import LABELS, read_labels


class State(StrEnum):
    """A state, the worst first."""

    FAILURE = "failure"
    SILENT = "silent"
    """No row has come for several times the source's usual interval."""
    PLANNED = "planned"
    OK = "ok"
    NONE = "none"
    """No row yet."""


SEVERITY: Final = {state: place for place, state in enumerate(State)}
"""Lower is worse."""
MOST_SOURCES: Final = 20_000
"""Maximum number of sources that are read; no page shows more."""
MOST_SAMPLES: Final = 20_000
"""Maximum number of waiting samples, and of rejected ones, that are read to find the tables of
sources without rows."""
HELD: Final = 3
"""Intervals of a source without a row after which it is silent."""
UNKNOWN_GAP: Final = 300.0
"""Seconds after which a source with one row is silent, as its interval is not known."""

_STOP: Final = """
LEFT JOIN LATERAL (
    SELECT EXTRACT(EPOCH FROM max(p.ended_at))::double precision AS ends,
        left(string_agg(DISTINCT NULLIF(p.reason, ''), ', '), 500) AS reason
    FROM planned_stops p
    WHERE p.started_at <= now() AND p.ended_at > now()
      AND (p.source_id IS NULL OR p.source_id = s.id) AND s.labels @> p.labels
) AS stop ON true
"""

# LATERAL with LIMIT: a few rows of each source by the primary key. The median of the last gaps is
# the source's interval; a single outlier does not change it. The row comparisons let the planner
# prefer the primary key: with only a range of times it expects few rows and, as long as the table
# is small, reads those of all sources by the index on the time. For chunks, which it excludes by
# the time, and compressed ones, which it reads by source, the other conditions stay.
_STATES: Final = f"""
SELECT s.id, {LABELS} AS labels, newest.created_at,
    EXTRACT(EPOCH FROM newest.created_at)::double precision AS at,
    EXTRACT(EPOCH FROM now() - newest.created_at)::double precision AS age,
    {{code}} AS code,
    COALESCE(
        (SELECT EXTRACT(EPOCH FROM max_gap)::double precision FROM report_settings),
        {HELD} * rhythm.interval
    ) AS gap, stop.ends, stop.reason
FROM (SELECT id, labels FROM sources ORDER BY id LIMIT {MOST_SOURCES}) AS s
LEFT JOIN LATERAL (SELECT * FROM {{now}} n WHERE n.source_id = s.id LIMIT 1) AS newest ON true
LEFT JOIN LATERAL (
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY gap) AS interval FROM (
        SELECT EXTRACT(EPOCH FROM lag(l.created_at) OVER (ORDER BY l.created_at DESC)
            - l.created_at)::double precision AS gap
        FROM (
            SELECT created_at FROM {{table}} l
            WHERE l.source_id >= s.id AND l.source_id <= s.id
              AND (l.source_id, l.created_at) <= (s.id, newest.created_at)
              AND (l.source_id, l.created_at) > (s.id, newest.created_at - INTERVAL '1 hour')
              AND l.created_at > newest.created_at - INTERVAL '1 hour'
            ORDER BY l.source_id DESC, l.created_at DESC LIMIT 8
        ) AS l
    ) AS gaps
) AS rhythm ON true
{_STOP}{{where}}ORDER BY s.id
"""

# A source that has no row in this table but rows in another one belongs there.
_ELSEWHERE: Final = """
WHERE newest.created_at IS NOT NULL OR NOT ({})
"""
_HAS_ROWS: Final = "EXISTS (SELECT FROM {} n WHERE n.source_id = s.id LIMIT 1)"

# The same for tables that Citus distributes: sources, then the newest times of each.
_SOURCES: Final = f"""
SELECT s.id, {LABELS} AS labels,
    (SELECT EXTRACT(EPOCH FROM max_gap)::double precision FROM report_settings) AS gap,
    stop.ends, stop.reason
FROM (SELECT id, labels FROM sources ORDER BY id LIMIT {MOST_SOURCES}) AS s
{_STOP}ORDER BY s.id
"""
_TIMES: Final = """
SELECT newest.source_id, newest.created_at,
    EXTRACT(EPOCH FROM newest.created_at)::double precision AS at,
    EXTRACT(EPOCH FROM now() - newest.created_at)::double precision AS age,
    {code} AS code, EXTRACT(EPOCH FROM l.created_at)::double precision AS time
FROM {now} AS newest
JOIN LATERAL (
    SELECT l.source_id, l.created_at FROM {table} l
    WHERE l.source_id >= newest.source_id AND l.source_id <= newest.source_id
      AND l.created_at <= newest.created_at
      AND l.created_at > newest.created_at - INTERVAL '1 hour'
    ORDER BY l.source_id DESC, l.created_at DESC LIMIT 8
) AS l ON l.source_id = newest.source_id
"""

# The tables that samples of these sources wait for or were last rejected for. If the newest
# rejected samples are all of others, nothing is known of a source.
_SAMPLES: Final = f"""
SELECT DISTINCT source_id, table_name FROM (
    (SELECT source_id, table_name FROM pending_rows WHERE source_id = ANY($1::int[])
    ORDER BY source_id, created_at LIMIT {MOST_SAMPLES})
    UNION ALL
    (SELECT source_id, table_name FROM (
        SELECT source_id, table_name FROM rejected_samples ORDER BY id DESC LIMIT {MOST_SAMPLES}
    ) AS newest WHERE source_id = ANY($1::int[]))
) AS samples
"""

_CLASSES: Final = "SELECT code, class FROM code_classes WHERE code_table = $1"


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
    stop_ends: float | None = None
    """When its planned stop ends, in seconds since the Unix epoch; None without one."""
    stop_reason: str = ""


def class_of(code: int, classes: Mapping[int, State]) -> State:
    """Return the state that a code means; unless classified, 0 is ok and others are failures."""
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
    connection: Connection,
    table: Table,
    classes: Mapping[int, State],
    others: Iterable[Table] = (),
) -> list[SourceState]:
    """Return the state of every source in a table, by id.

    Args:
        connection: A connection for reading.
        table: The table.
        classes: The states that codes mean.
        others: Tables whose sources are left out, unless they have rows in this one too. A source
            without any row belongs to the tables that its samples wait for or were rejected for.
    """
    code = f"newest.{quote(table.codes[0].name)}" if table.codes else "NULL::int"
    names = {"code": code, "now": quote(f"{table.name}_now"), "table": quote(table.name)}
    now_elsewhere = [quote(f"{one.name}_now") for one in others]
    with translated():
        if await is_distributed(connection):
            sources = await connection.fetch(_SOURCES)
            times = await connection.fetch(_TIMES.format(**names))
            elsewhere = {
                id_
                for now in now_elsewhere
                for (id_,) in await connection.fetch(f"SELECT source_id FROM {now}")
            }
            rows = [
                row
                for row in join_times(sources, times)
                if row[2] is not None or row[0] not in elsewhere
            ]
        else:
            where = _ELSEWHERE.format(" OR ".join(map(_HAS_ROWS.format, now_elsewhere)))
            rows = await connection.fetch(
                _STATES.format(**names, where=where if now_elsewhere else "")
            )
        if now_elsewhere:
            strangers = await read_strangers(
                connection, table, [row[0] for row in rows if row[2] is None]
            )
            rows = [row for row in rows if row[0] not in strangers]
    found = []
    for id_, labels, created_at, at, age, number, gap_, ends, reason in rows:
        gap = UNKNOWN_GAP if gap_ is None else gap_
        state = State.PLANNED if ends else state_of(number, age, gap, classes)
        found.append(
            SourceState(
                *(id_, read_labels(labels), state, number, created_at, at, age, gap),
                *(ends, reason or ""),
            )
        )
    return found


async def read_strangers(connection: Connection, table: Table, ids: Sequence[int]) -> set[int]:
    """Return which sources without rows have waiting or rejected samples of other tables only."""
    if not ids:
        return set()
    tables: defaultdict[int, set[str]] = defaultdict(set)
    for id_, name in await connection.fetch(_SAMPLES, ids):
        tables[id_].add(name)
    return {id_ for id_, names in tables.items() if table.name not in names}


def join_times(
    sources: Iterable[Sequence[Any]], times: Iterable[Sequence[Any]]
) -> Iterator[tuple[Any, ...]]:
    """Build rows like those of `_STATES` from rows of `_SOURCES` and `_TIMES`."""
    newest: dict[int, tuple[Any, ...]] = {}
    seconds: defaultdict[int, list[float]] = defaultdict(list)
    for id_, *state, time in times:
        newest[id_] = tuple(state)
        seconds[id_].append(time)
    for id_, labels, gap, ends, reason in sources:
        gaps = [later - earlier for earlier, later in pairwise(sorted(seconds[id_]))]
        usual = HELD * median(gaps) if gaps else None
        latest = newest.get(id_, (None,) * 4)
        yield (id_, labels, *latest, usual if gap is None else gap, ends, reason)


async def read_classes(connection: Connection, table: Table) -> dict[int, State]:
    """Return the states that people have given to codes of a table."""
    return await classes_of(connection, table.codes[0].codes) if table.codes else {}


async def classes_of(connection: Connection, code_table: str) -> dict[int, State]:
    """Return the states that people have given to codes in a table of codes."""
    with translated():
        rows = await connection.fetch(_CLASSES, code_table)
    return {code: State(class_) for code, class_ in rows}
