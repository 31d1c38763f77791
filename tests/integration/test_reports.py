"""Reports of random histories agree with a slow, obvious reference model.

Some of the days are precomputed, some are not, and in some, rows have changed since then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, time, timedelta
from functools import reduce
from typing import Any, NamedTuple

import asyncpg
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from receiver.config.catalogue import built_in
from receiver.storage.reading.began import LOOKED_BACK, read_began
from receiver.storage.reading.connection import Viewer
from receiver.storage.reading.states import SourceState, State, class_of
from tests import report_model as model
from tests.conftest import MakeSettings
from tests.logs import add_logs, add_sources, seconds, stop_refreshing

START = datetime(2025, 3, 28, 22, tzinfo=UTC)
"""Two days before the clocks of Berlin go forward."""
HOUR = timedelta(hours=1)
CODES = (0, 1, 2, 99)
STATES = (
    "SELECT source_id, state, code, started_at, ended_at FROM state_intervals({}) ORDER BY 1, 4"
)
FIGURES = (
    "SELECT {}, up, down, planned, unknown, failures, micro_stops, micro_stop_time "
    "FROM report('app_logs', $1, $2, $3, $4)"
)


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    await stop_refreshing(connection)
    await add_sources(connection, 3)
    yield connection
    await connection.close()


@pytest.fixture
def viewer(database_url: str, make_settings: MakeSettings) -> Viewer:
    return Viewer(make_settings(database_url=database_url))


# Scrapes of 5 s, now and then late, missing, or gone for long.
steps = st.sampled_from(
    [5.0] * 12 + [4.9, 5.2, 10, 14.999, 15, 15.001, 60, 301, 4000, 7190, 40_000, 86_000, 100_000]
)
runs = st.tuples(
    steps, st.sampled_from(CODES), st.integers(1, 80), st.sampled_from([5.0, 5.0, 60.0, 300.0])
)
Run = tuple[float, int, int, float]
histories = st.dictionaries(st.integers(1, 3), st.lists(runs, max_size=8), min_size=1)
moments = st.one_of(
    st.integers(-3600, 3600 * 60).map(lambda number: START + seconds(number)),
    # Midnights of UTC, the boundaries of precomputed days.
    st.integers(-1, 5).map(lambda number: START + (2 + 24 * number) * HOUR),
)
ranges = st.tuples(moments, moments).map(sorted).filter(lambda pair: pair[0] < pair[1])
stops = st.lists(
    st.builds(
        lambda times, sources: model.Stop(times[0], times[1], frozenset(sources)),
        ranges,
        st.sampled_from([(1,), (2,), (1, 2, 3)]),
    ),
    max_size=3,
)
classes = st.dictionaries(st.sampled_from(CODES), st.sampled_from(["ok", "failure", "planned"]))
gaps = st.sampled_from([None, None, seconds(4), seconds(60), HOUR])


class Mix(NamedTuple):
    """The rounds of precomputing days, and the changes between them."""

    kept: int
    """Rounds of precomputing before any change."""
    late: frozenset[int]
    """The days in which rows come late, change or are deleted."""
    rounds: int
    """Rounds of precomputing after the changes."""
    classes_late: bool


mixes = st.builds(
    Mix,
    st.sampled_from([0, 5, 100, 100, 100]),
    st.frozensets(st.integers(0, 5), max_size=2),
    st.integers(0, 4),
    st.booleans(),
)
random_cases = hypothesis_settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def rows_of(history: list[Run]) -> list[tuple[datetime, int]]:
    """Return the rows of a source; a run has a step before it, a row count and a distance."""
    rows = []
    at = START
    for step, code, count, apart in history:
        at += seconds(step)
        for _ in range(count):
            rows.append((at, code))
            at += seconds(apart)
        at -= seconds(apart)
    return rows


async def fill(
    connection: asyncpg.Connection,
    histories: dict[int, list[Run]],
    stops: list[model.Stop],
    classes: dict[int, str],
    mix: Mix,
    max_gap: timedelta | None = None,
) -> dict[int, list[tuple[datetime, int]]]:
    """Store the data of a test; rows come in random order."""
    await connection.execute("TRUNCATE app_logs, planned_stops, code_classes")
    await connection.execute("UPDATE report_settings SET max_gap = $1", max_gap)
    await connection.executemany(
        "INSERT INTO planned_stops (started_at, ended_at, source_id, labels) "
        "VALUES ($1, $2, $3, $4)",
        [
            (stop.start, stop.end, None, '{"job": "factory"}')
            if len(stop.sources) > 1
            else (stop.start, stop.end, *stop.sources, "{}")
            for stop in stops
        ],
    )
    if not mix.classes_late:
        await set_classes(connection, classes)
    rows = {source: rows_of(history) for source, history in histories.items()}
    flat = [(source, at, code, seconds(1)) for source in rows for at, code in rows[source]]
    flat.sort(key=lambda row: hash(row[1]))
    touched = [row for row in flat if (row[1] - START + 22 * HOUR).days in mix.late]
    late, changed = touched[::3], touched[1::3]
    await add_logs(connection, [row for row in flat if row not in late and row not in changed])
    await add_logs(connection, [(source, at, 1, delay) for source, at, _, delay in changed])
    extra = [(source, at + seconds(1.5), 1, delay) for source, at, _, delay in touched[::7]]
    await add_logs(connection, extra)
    for _ in range(mix.kept):
        if not await keep(connection):
            break
    await add_logs(connection, late)
    for source, at, code, _ in changed:
        await connection.execute(
            "UPDATE app_logs SET app_status = $3 WHERE source_id = $1 AND created_at = $2",
            *(source, at, code),
        )
    for source, at, *_ in extra:
        await connection.execute(
            "DELETE FROM app_logs WHERE source_id = $1 AND created_at = $2", source, at
        )
    if mix.classes_late:
        await set_classes(connection, classes)
    for _ in range(mix.rounds):
        await keep(connection)
    return rows


async def keep(connection: asyncpg.Connection) -> bool:
    """Precompute one more day; return whether there is more to do."""
    return bool(await connection.fetchval("SELECT receiver_keep_reports('app_logs', most => 3)"))


async def set_classes(connection: asyncpg.Connection, classes: dict[int, str]) -> None:
    await connection.executemany(
        "INSERT INTO code_classes VALUES ('error_codes', $1, $2)", list(classes.items())
    )


@random_cases
@given(histories, ranges, stops, classes, gaps, mixes)
async def test_every_moment_is_what_the_model_says(
    connection: asyncpg.Connection,
    histories: dict[int, list[Run]],
    bounds: list[datetime],
    stops: list[model.Stop],
    classes: dict[int, str],
    max_gap: timedelta | None,
    mix: Mix,
) -> None:
    rows = await fill(connection, histories, stops, classes, mix, max_gap)
    sources = list(rows)
    found = await connection.fetch(STATES.format("'app_logs', $1, $2, $3"), *bounds, sources)
    expected = [
        (source, *interval)
        for source in sorted(sources)
        for interval in model.states(
            source, rows[source], *bounds, stops=stops, classes=classes, max_gap=max_gap
        )
    ]
    assert merged(found) == merged(expected)


def merged(intervals: list[Any]) -> list[tuple[Any, ...]]:
    """Stops that touch each other may be one interval or two."""
    joined: list[tuple[Any, ...]] = []
    for source, state, code, start, end in intervals:
        if joined and joined[-1][:3] == (source, state, code) and joined[-1][4] == start:
            joined[-1] = (*joined[-1][:4], end)
        else:
            joined.append((source, state, code, start, end))
    return joined


STOPPED = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 5)), max_size=2)
"""Planned stops of all sources: minutes since their end, and their length."""


@random_cases
@given(histories, STOPPED, classes, gaps, mixes)
# Scrapes of 30 s that become scrapes of 4 s, during one failure.
@example({1: [(0, 1, 800, 30.0), (4, 1, 100, 4.0)]}, [], {}, None, Mix(0, frozenset(), 0, False))
# The same in both directions, with another failure in between.
@example(
    {1: [(0, 0, 9, 4.0), (4, 1, 60, 4.0), (30, 2, 60, 30.0)]},
    [(1, 2)],
    {0: "planned"},
    None,
    Mix(0, frozenset(), 2, False),
)
async def test_a_state_began_when_the_model_says(
    connection: asyncpg.Connection,
    viewer: Viewer,
    histories: dict[int, list[Run]],
    stopped: list[tuple[int, int]],
    classes: dict[int, str],
    max_gap: timedelta | None,
    mix: Mix,
) -> None:
    now = datetime.now(UTC)
    stops = [
        model.Stop(end - length * seconds(60), end, frozenset((1, 2, 3)))
        for end, length in ((now - ago * seconds(60), length) for ago, length in stopped)
    ]
    await fill(connection, {}, stops, classes, mix, max_gap)
    rows = {
        source: [(at + (now - seconds(1) - made[-1][0]), code) for at, code in made]
        for source, history in histories.items()
        if (made := rows_of(history))
    }
    await add_logs(
        connection, [(id_, at, code, seconds(1)) for id_ in rows for at, code in rows[id_]]
    )
    for _ in range(mix.rounds):
        await keep(connection)
    meant = {code: State(class_) for code, class_ in classes.items()}
    sources = [
        SourceState(id_, {}, class_of(made[-1][1], meant), made[-1][1], None, None, 1.0, 12.0)
        for id_, made in rows.items()
    ]
    async with viewer.connection() as viewing:
        found = await read_began(viewing, built_in().tables[0], sources, meant)
    assert found.keys() == {one.id for one in sources if one.state is not State.OK}
    for id_, began in found.items():
        until = rows[id_][-1][0] + seconds(0.1)
        known = model.states(
            *(id_, rows[id_], now - LOOKED_BACK, until),
            stops=stops,
            classes=classes,
            max_gap=max_gap,
        )
        expected = model.last_began(known)
        # A day before the time of the database's clock, which is somewhat later than `now`.
        tolerance = 60 if expected == now - LOOKED_BACK else 0.00001
        assert began == pytest.approx(expected.timestamp(), rel=0, abs=tolerance)


@random_cases
@given(histories, ranges, stops, classes, mixes)
async def test_reports_say_what_the_model_says(
    connection: asyncpg.Connection,
    histories: dict[int, list[Run]],
    bounds: list[datetime],
    stops: list[model.Stop],
    classes: dict[int, str],
    mix: Mix,
) -> None:
    rows = await fill(connection, histories, stops, classes, mix)
    sources = list(rows)
    found = await connection.fetch(FIGURES.format("source_id"), *bounds, "source", sources)
    everything = {
        source: model.states(
            source,
            rows[source],
            START - 30 * HOUR,
            START + 9000 * HOUR,
            stops=stops,
            classes=classes,
        )
        for source in sources
    }
    since, until = bounds
    expected = {source: model.figures(everything[source], since, until) for source in sources}
    assert {row[0]: model.Figures(*row[1:]) for row in found} == expected
    down = [
        interval
        for source in sources
        for interval in everything[source]
        if interval.state == "down" and interval.start < until and interval.end > since
    ]
    codes = await connection.fetch(
        "SELECT code, times, down FROM report_codes('app_logs', $1, $2, $3)", *bounds, sources
    )
    assert {row["code"]: (row["times"], row["down"]) for row in codes} == {
        code: (
            sum(one.start >= since for one in down if one.code == code),
            sum((cut(one, since, until) for one in down if one.code == code), timedelta(0)),
        )
        for code in {one.code for one in down}
    }
    (total,) = await connection.fetch(FIGURES.format("name"), *bounds, "total", sources)
    assert model.Figures(*total[1:]) == reduce(model.add, expected.values())


def cut(interval: model.Interval, since: datetime, until: datetime) -> timedelta:
    """Return how much of an interval lies in a range."""
    return min(interval.end, until) - max(interval.start, since)


SHIFTS = {
    "early": (time(6), time(14), (1, 2, 3, 4, 5)),
    "night": (time(22), time(6), (1, 2, 3, 4, 5, 6, 7)),
    "whole": (time(7, 30), time(7, 30), (6, 7)),
    "odd": (time(2, 30), time(3, 10), (7,)),
}


async def set_calendar(connection: asyncpg.Connection, zone: str) -> None:
    await connection.execute("TRUNCATE report_shifts")
    await connection.execute("UPDATE report_settings SET time_zone = $1", zone)
    await connection.executemany(
        "INSERT INTO report_shifts VALUES ($1, $2, $3, $4)",
        [(name, *shift) for name, shift in SHIFTS.items()],
    )


@random_cases
@given(
    histories, ranges, st.sampled_from(["Europe/Berlin", "Asia/Seoul", "America/St_Johns"]), mixes
)
async def test_time_is_split_between_shifts_and_failures_are_counted_once(
    connection: asyncpg.Connection,
    histories: dict[int, list[Run]],
    bounds: list[datetime],
    zone: str,
    mix: Mix,
) -> None:
    if not mix.classes_late:
        await set_calendar(connection, zone)
    rows = await fill(connection, histories, [], {}, mix)
    if mix.classes_late:
        await set_calendar(connection, zone)
        for _ in range(mix.rounds):
            await keep(connection)
    sources = list(rows)
    found = await connection.fetch(FIGURES.format("name"), *bounds, "shift", sources)
    expected = {}
    for name, (starts, ends, days) in SHIFTS.items():
        spans = model.shift_times(starts, ends, days, zone, *bounds)
        if spans:
            expected[name] = reduce(
                model.add,
                (
                    model.figures(
                        model.states(source, rows[source], START - 30 * HOUR, START + 9000 * HOUR),
                        *span,
                    )
                    for source in sources
                    for span in spans
                ),
            )
    assert {row[0]: model.Figures(*row[1:]) for row in found} == expected


async def test_a_night_shift_is_as_long_as_the_clocks_make_it(
    connection: asyncpg.Connection,
) -> None:
    await connection.execute(
        "UPDATE report_settings SET time_zone = 'Europe/Berlin';"
        "INSERT INTO report_shifts (name, starts, ends) VALUES ('night', '22:00', '06:00');"
        "INSERT INTO report_holidays VALUES ('2025-03-31', 'a holiday')"
    )
    found = await connection.fetch(
        "SELECT day::text, ended_at - started_at "
        "FROM shift_times('2025-03-29 12:00Z', '2025-04-02Z')"
    )
    assert [tuple(row) for row in found] == [
        ("2025-03-29", 7 * HOUR),
        ("2025-03-30", 8 * HOUR),
        ("2025-04-01", 8 * HOUR),
    ]
