"""The views: by hand-computed cases, against a plain Python model, and by the plans they get."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple

import asyncpg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.logs import (
    START,
    Log,
    add_logs,
    add_sources,
    logs,
    refresh,
    seconds,
    stop_refreshing,
)
from tests.plans import EVENING, ROWS, SOURCES, add_many, rows_read, scans_of_logs
from tests.report_model import Held, held

HOUR = timedelta(hours=1)
INTERVALS = """
SELECT source_id, app_status, started_at, ended_at, rows, ongoing FROM {} ORDER BY 1, 3
"""
VIEW = INTERVALS.format("app_status_intervals")
BETWEEN = INTERVALS.format("app_status_intervals_between($1, $2)")


@pytest.fixture
async def connection(connection: asyncpg.Connection) -> asyncpg.Connection:
    """Connect to a database with four sources, without background refreshes."""
    await stop_refreshing(connection)
    await add_sources(connection, 4)
    return connection


class Interval(NamedTuple):
    """An interval as the view shows it, times in seconds since START."""

    source: int
    status: int
    started: float
    ended: float
    rows: int
    ongoing: bool = False


def relative(records: Sequence[asyncpg.Record], origin: datetime = START) -> list[Interval]:
    """Convert intervals from the database."""
    return [
        Interval(
            source, status, *((at - origin).total_seconds() for at in (started, ended)), *others
        )
        for source, status, started, ended, *others in records
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([], [], id="no row"),
        pytest.param(logs(1, [2]), [(1, 2, 0, 5, 1)], id="a single row"),
        pytest.param(logs(1, [0, 0, 0]), [(1, 0, 0, 15, 3)], id="one state"),
        pytest.param(
            logs(1, [0, 0, 2, 0]),
            [(1, 0, 0, 10, 2), (1, 2, 10, 15, 1), (1, 0, 15, 20, 1)],
            id="flips",
        ),
        pytest.param(logs(1, [0, 0], step=60), [(1, 0, 0, 120, 2)], id="a minute apart"),
        pytest.param(
            logs(1, [0] * 4) + logs(1, [0], start=START + seconds(30)),
            [(1, 0, 0, 35, 5)],
            id="just no gap",
        ),
        pytest.param(
            logs(1, [0] * 4) + logs(1, [0], start=START + seconds(30.001)),
            [(1, 0, 0, 20, 4), (1, 0, 30.001, 35.001, 1)],
            id="just a gap",
        ),
        pytest.param(
            logs(1, [0] * 4) + logs(1, [2], start=START + seconds(30)),
            [(1, 0, 0, 30, 4), (1, 2, 30, 35, 1)],
            id="another state after scrapes that failed",
        ),
        pytest.param(
            logs(1, [1, 1]) + logs(1, [1, 0], start=START + HOUR),
            [(1, 1, 0, 10, 2), (1, 1, 3600, 3605, 1), (1, 0, 3605, 3610, 1)],
            id="a gap within a state",
        ),
        pytest.param(
            logs(1, [0, 0, 1]) + logs(2, [1, 1, 0], start=START + seconds(1)),
            [(1, 0, 0, 10, 2), (1, 1, 10, 15, 1), (2, 1, 1, 11, 2), (2, 0, 11, 16, 1)],
            id="two sources",
        ),
    ],
)
async def test_intervals(
    connection: asyncpg.Connection, rows: list[Log], expected: list[tuple[Any, ...]]
) -> None:
    await add_logs(connection, rows)
    intervals = [Interval(*interval) for interval in expected]
    assert relative(await connection.fetch(VIEW)) == intervals
    everything = await connection.fetch(BETWEEN, START, START + 2 * HOUR)
    assert relative(everything) == intervals


async def test_an_interval_goes_on_while_rows_come(connection: asyncpg.Connection) -> None:
    now = datetime.now(UTC)
    await add_logs(
        connection,
        [
            *logs(1, [0, 2, 2], start=now - seconds(15)),
            *logs(2, [2, 2], start=now - seconds(60)),
        ],
    )
    intervals = await connection.fetch(VIEW)
    assert [(source, status, ongoing) for source, status, *_, ongoing in intervals] == [
        (1, 0, False),
        (1, 2, True),
        (2, 2, False),
    ]
    between = await connection.fetch(BETWEEN, now - HOUR, now + HOUR)
    assert [row["ongoing"] for row in between] == [row["ongoing"] for row in intervals]
    assert now - seconds(1) < intervals[1]["ended_at"] <= between[1]["ended_at"]


async def test_a_range_shows_how_it_was_at_its_end(connection: asyncpg.Connection) -> None:
    await add_logs(connection, logs(1, [0, 0, 2, 2, 2, 0]) + logs(2, [0], start=START - HOUR))
    cut = await connection.fetch(BETWEEN, START + seconds(5), START + seconds(20))
    assert relative(cut) == [(1, 0, 5, 10, 1, False), (1, 2, 10, 20, 2, True)]


async def test_the_longest_gap_can_be_given(connection: asyncpg.Connection) -> None:
    await add_logs(connection, logs(1, [0, 0]) + logs(1, [0], start=START + seconds(20)))
    query = INTERVALS.format(
        "app_status_intervals_between($1, until => $2, max_gap => '14 seconds')"
    )
    found = await connection.fetch(query, START, START + seconds(30))
    assert relative(found) == [(1, 0, 0, 10, 2, False), (1, 0, 20, 25, 1, False)]


def expected_intervals(rows: list[Log]) -> Iterator[Interval]:
    """Yield the intervals that the view must show for rows that are all long past."""
    for source, of_source in groupby(sorted(rows), key=lambda row: row[0]):
        current: list[Held] = []
        for row in held([(at, code) for _, at, code, _ in of_source]):
            if current and (row.code != current[-1].code or row.start != current[-1].end):
                yield interval(source, current)
                current = []
            current.append(row)
        yield interval(source, current)


def interval(source: int, rows: list[Held]) -> Interval:
    started, ended = ((at - START).total_seconds() for at in (rows[0].start, rows[-1].end))
    return Interval(source, rows[0].code, started, ended, len(rows))


steps = st.sampled_from([5.0, 14.999, 15.0, 15.001, 300.0, 4000.0])
histories = st.dictionaries(
    st.integers(1, 4), st.lists(st.tuples(steps, st.integers(0, 2)), min_size=1, max_size=12)
)


@hypothesis_settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(histories)
async def test_intervals_are_those_of_the_model(
    connection: asyncpg.Connection, histories: dict[int, list[tuple[float, int]]]
) -> None:
    rows: list[Log] = []
    for source, history in histories.items():
        at = START
        for step, status in history:
            at += seconds(step)
            rows.append((source, at, status, seconds(1)))
    await connection.execute("TRUNCATE app_logs")
    await add_logs(connection, rows)
    expected = list(expected_intervals(rows))
    assert relative(await connection.fetch(VIEW)) == expected
    everything = await connection.fetch(BETWEEN, START, START + 100 * HOUR)
    assert relative(everything) == expected


async def test_the_newest_row_of_each_source(connection: asyncpg.Connection) -> None:
    now = datetime.now(UTC)
    await add_logs(
        connection,
        [
            *logs(1, [0, 0, 2], start=now - seconds(13)),
            *logs(2, [2, 99], start=now - seconds(70)),
            *logs(3, [1, 0], start=START),
        ],
    )
    await refresh(connection)
    found = await connection.fetch("SELECT * FROM app_status_now ORDER BY source_id")
    assert list(found[0].keys()) == [
        *("source_id", "labels", "created_at", "age"),
        *("app_status", "error_name", "description", "ocr_value"),
    ]
    assert [
        (row["source_id"], row["created_at"], row["app_status"], row["error_name"]) for row in found
    ] == [
        (1, now - seconds(3), 2, "NETWORK_ERROR"),
        (2, now - seconds(65), 99, "UNKNOWN_ERROR"),
        (3, START + seconds(5), 0, "OK"),
    ]
    assert json.loads(found[0]["labels"]) == {"instance": "cam-1", "job": "factory"}
    assert found[0]["ocr_value"] == now - seconds(4)
    assert found[1]["description"] == "정의되지 않은 오류"
    assert seconds(65) <= found[1]["age"] < seconds(95)


async def hourly(connection: asyncpg.Connection) -> list[tuple[Any, ...]]:
    """Return the summary, with shares as numbers."""
    rows = await connection.fetch("SELECT * FROM app_status_hourly ORDER BY source_id, hour")
    return [(*row[:3], json.loads(row["shares"]), *row[4:]) for row in rows]


async def test_the_summary_of_two_hours(connection: asyncpg.Connection) -> None:
    outage = START + timedelta(minutes=59)
    await add_logs(
        connection,
        [
            # An outage with rows so rare that each holds for one interval; the hour ends within it.
            *((1, START + seconds(n), 0, seconds(n + 1)) for n in range(20)),
            *((1, outage + seconds(15 * n), 2 - n % 2, seconds(1)) for n in range(6)),
            *logs(2, [0, 0, 1, 0]),
        ],
    )
    delays = (seconds(1), seconds((210 + 4) / 24), seconds(18.85), seconds(20))
    second = (seconds(1),) * 4
    assert await hourly(connection) == [
        (1, START, 24, {"0": 20 / 24, "1": 2 / 24, "2": 2 / 24}, seconds(1), *delays),
        (1, START + HOUR, 2, {"1": 0.5, "2": 0.5}, seconds(30), *second),
        (2, START, 4, {"0": 0.75, "1": 0.25}, seconds(5), *second),
    ]


@pytest.mark.parametrize(
    ("statuses", "step", "longest"),
    [
        ([0, 0], 5, None),
        ([2], 5, 5),
        ([1, 0, 2, 2, 1, 0, 2, 2], 5, 15),
        ([2, 2, 2], 300, 900),
    ],
)
async def test_the_longest_outage(
    connection: asyncpg.Connection, statuses: list[int], step: float, longest: float | None
) -> None:
    await add_logs(connection, logs(1, statuses, step=step))
    ((*_, outage),) = await connection.fetch("SELECT rows, longest_outage FROM app_status_hourly")
    assert outage == (None if longest is None else seconds(longest))


async def test_wrong_clocks_and_units_fail_no_query(connection: asyncpg.Connection) -> None:
    await connection.execute(
        """
        INSERT INTO app_logs (source_id, created_at, app_status, ocr_value)
        SELECT 1, TIMESTAMPTZ '2025-03-03 09:00Z' + i * INTERVAL '1 s', 0, '58000-01-01 00:00Z'
        FROM generate_series(1, 1000) AS i;
        INSERT INTO app_logs (source_id, created_at, app_status, ocr_value) VALUES
            (1, '2025-03-03 09:00Z', 0, '294276-12-31 23:59Z'),
            (2, '1970-01-01 00:00Z', 0, '294276-12-31 23:59Z'),
            (3, '4700-01-02 00:00Z BC', 0, '294276-12-31 23:59Z'),
            (4, '290000-01-01 00:00Z', 0, '4700-01-02 00:00Z BC');
        """
    )
    await refresh(connection)
    (hour,) = await connection.fetch("SELECT source_id, rows FROM app_status_hourly")
    assert tuple(hour) == (1, 1001)
    assert await connection.fetchval("SELECT count(*) FROM app_status_now")
    sources = "SELECT count(DISTINCT source_id) FROM app_status_intervals"
    # One of the rows is in the future.
    assert await connection.fetchval(sources) == 3


async def test_a_right_on_a_view_is_enough(connection: asyncpg.Connection) -> None:
    role = await connection.fetchval("SELECT current_database() || '_analyst'")
    await add_logs(connection, logs(1, [0]))
    await refresh(connection)
    views = "app_status_now, app_status_intervals, app_status_hourly"
    await connection.execute(f"CREATE ROLE {role}; GRANT SELECT ON {views} TO {role}")
    try:
        await connection.execute(f"SET ROLE {role}")
        for view in views.split(", "):
            assert len(await connection.fetch(f"SELECT * FROM {view}")) == 1
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT * FROM app_status_intervals_between('-infinity')")
    finally:
        await connection.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")


async def test_everything_is_commented(connection: asyncpg.Connection) -> None:
    uncommented = """
        SELECT oid::regclass::text FROM pg_class c
        WHERE relnamespace = current_schema()::regnamespace AND relkind = 'v'
          AND obj_description(oid, 'pg_class') IS NULL
          AND NOT EXISTS (
              SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
        UNION ALL SELECT oid::regprocedure::text FROM pg_proc p
        WHERE pronamespace = current_schema()::regnamespace
          AND obj_description(oid, 'pg_proc') IS NULL
          AND NOT EXISTS (
              SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
    """
    assert await connection.fetch(uncommented) == []


OF_DAY = 110
"""Additional rows read per source and day: 50 rows twice, and some before and after."""
HOUR_OF_LOGS = f"app_status_intervals_between('{EVENING - 12 * HOUR}', '{EVENING - 11 * HOUR}')"


@pytest.mark.parametrize(
    ("query", "most"),
    [
        # Includes one row of each chunk of the last week.
        pytest.param("SELECT * FROM app_status_now", 3 * (SOURCES + 4), id="now"),
        pytest.param(
            "SELECT * FROM app_status_intervals WHERE source_id = 7",
            ROWS / SOURCES + 4 * OF_DAY,
            id="source",
        ),
        pytest.param(f"SELECT * FROM {HOUR_OF_LOGS}", 2500 + 2 * SOURCES * OF_DAY, id="hour"),
        pytest.param(
            f"SELECT * FROM {HOUR_OF_LOGS} WHERE source_id = 7",
            2500 / SOURCES + 2 * OF_DAY,
            id="source and hour",
        ),
        # Two hours at most; beside them, the oldest and the newest row of each source.
        pytest.param(
            f"SELECT * FROM app_status_hourly WHERE hour >= '{EVENING - 2 * HOUR}'",
            2 * 2500 + 2 * (SOURCES + 4),
            id="hourly",
        ),
    ],
)
async def test_no_more_is_read_than_was_asked_for(
    connection: asyncpg.Connection, query: str, most: float
) -> None:
    await add_many(connection, SOURCES, EVENING)
    scans = await scans_of_logs(connection, query)
    assert scans
    assert "Seq Scan" not in {scan["Node Type"] for scan in scans}
    assert rows_read(scans) <= most


async def test_sources_long_gone_are_not_searched_for(connection: asyncpg.Connection) -> None:
    await add_many(connection, 2)
    scans = await scans_of_logs(connection, "SELECT * FROM app_status_now")
    assert scans
    assert rows_read(scans) <= 3 * 6
