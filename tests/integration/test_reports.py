"""What reports say of random histories is what a slow, obvious model says of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, time, timedelta
from functools import reduce
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests import report_model as model
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


# Scrapes of 5 s, now and then late, missing, or gone for long.
steps = st.sampled_from(
    [5.0] * 12 + [4.9, 5.2, 10, 14.999, 15, 15.001, 60, 301, 4000, 40_000, 100_000]
)
runs = st.tuples(steps, st.sampled_from(CODES), st.integers(1, 80))
histories = st.dictionaries(st.integers(1, 3), st.lists(runs, max_size=8), min_size=1)
moments = st.integers(-3600, 3600 * 60).map(lambda number: START + seconds(number))
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
random_cases = hypothesis_settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def rows_of(history: list[tuple[float, int, int]]) -> list[tuple[datetime, int]]:
    """Rows of a source: each run begins after a step, and has a row every five seconds."""
    rows = []
    at = START
    for step, code, count in history:
        at += seconds(step)
        for _ in range(count):
            rows.append((at, code))
            at += seconds(5)
        at -= seconds(5)
    return rows


async def fill(
    connection: asyncpg.Connection,
    histories: dict[int, list[tuple[float, int, int]]],
    stops: list[model.Stop],
    classes: dict[int, str],
    max_gap: timedelta | None = None,
) -> dict[int, list[tuple[datetime, int]]]:
    """Store what a test is about; rows come in no order."""
    await connection.execute("TRUNCATE app_logs, planned_stops, code_classes")
    await connection.execute("UPDATE report_settings SET max_gap = $1", max_gap)
    rows = {source: rows_of(history) for source, history in histories.items()}
    flat = [(source, at, code, seconds(1)) for source in rows for at, code in rows[source]]
    await add_logs(connection, sorted(flat, key=lambda row: hash(row[1])))
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
    await connection.executemany(
        "INSERT INTO code_classes VALUES ('error_codes', $1, $2)", list(classes.items())
    )
    return rows


@random_cases
@given(histories, ranges, stops, classes, gaps)
async def test_every_moment_is_what_the_model_says(
    connection: asyncpg.Connection,
    histories: dict[int, list[tuple[float, int, int]]],
    bounds: list[datetime],
    stops: list[model.Stop],
    classes: dict[int, str],
    max_gap: timedelta | None,
) -> None:
    rows = await fill(connection, histories, stops, classes, max_gap)
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


@random_cases
@given(histories, ranges, stops, classes)
async def test_reports_say_what_the_model_says(
    connection: asyncpg.Connection,
    histories: dict[int, list[tuple[float, int, int]]],
    bounds: list[datetime],
    stops: list[model.Stop],
    classes: dict[int, str],
) -> None:
    rows = await fill(connection, histories, stops, classes)
    sources = list(rows)
    found = await connection.fetch(FIGURES.format("source_id"), *bounds, "source", sources)
    everything = {
        source: model.states(
            source,
            rows[source],
            START - 2 * HOUR,
            START + 9000 * HOUR,
            stops=stops,
            classes=classes,
        )
        for source in sources
    }
    since, until = bounds
    expected = {source: model.figures(everything[source], since, until) for source in sources}
    assert {row[0]: model.Figures(*row[1:]) for row in found} == expected
    (total,) = await connection.fetch(FIGURES.format("name"), *bounds, "total", sources)
    assert model.Figures(*total[1:]) == reduce(model.add, expected.values())


SHIFTS = {
    "early": (time(6), time(14), (1, 2, 3, 4, 5)),
    "night": (time(22), time(6), (1, 2, 3, 4, 5, 6, 7)),
    "whole": (time(7, 30), time(7, 30), (6, 7)),
    "odd": (time(2, 30), time(3, 10), (7,)),
}


@random_cases
@given(histories, ranges, st.sampled_from(["Europe/Berlin", "Asia/Seoul", "America/St_Johns"]))
async def test_time_is_split_between_shifts_and_failures_are_counted_once(
    connection: asyncpg.Connection,
    histories: dict[int, list[tuple[float, int, int]]],
    bounds: list[datetime],
    zone: str,
) -> None:
    rows = await fill(connection, histories, [], {})
    await connection.execute("TRUNCATE report_shifts")
    await connection.execute("UPDATE report_settings SET time_zone = $1", zone)
    await connection.executemany(
        "INSERT INTO report_shifts VALUES ($1, $2, $3, $4)",
        [(name, *shift) for name, shift in SHIFTS.items()],
    )
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
                        model.states(source, rows[source], START - 2 * HOUR, START + 9000 * HOUR),
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
