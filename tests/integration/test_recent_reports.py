"""Precomputed parts of unfinished days agree with the rows, whatever changes in them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.logs import add_logs, add_sources, seconds, stop_refreshing
from tests.waiting import until

HOUR = timedelta(hours=1)
KEEP = "SELECT receiver_keep_reports('app_logs', most => 1)"
RUNS = "SELECT source_id, code, started_at, ended_at FROM {}($1, $2, $3, $4, $5) ORDER BY 1, 3"
REPORTS = (
    "SELECT * FROM report('app_logs', $1, $2)",
    "SELECT * FROM report('app_logs', $1, $2, 'shift')",
    "SELECT * FROM report_codes('app_logs', $1, $2)",
)
KEPT = """
SELECT count(*) FROM report_days d, report_ranges r
WHERE d.day >= r.end_day AND d.upto > d.day AND d.source_id = $1 AND cardinality(d.codes) > 0
"""
STORE = """
INSERT INTO app_logs (source_id, created_at, app_status, ocr_value)
SELECT 1, t, (EXTRACT(EPOCH FROM t)::bigint / 1200 % 7 = 0)::int, t
FROM generate_series(now() - $1::interval, now() - $2::interval, '20 seconds') AS t
"""


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect to a database with three sources and a shift."""
    # As in the receiver's own connections: JIT compilation of these statements takes seconds.
    connection = await asyncpg.connect(database_url, server_settings={"jit": "off"})
    await stop_refreshing(connection)
    await add_sources(connection, 3)
    await connection.execute("INSERT INTO report_shifts VALUES ('early', '06:00', '14:30')")
    yield connection
    await connection.close()


async def keep_all(connection: asyncpg.Connection) -> None:
    """Precompute everything, for which no older transaction may be in flight on the server."""

    async def kept() -> bool:
        while await connection.fetchval(KEEP):
            pass
        query = "SELECT recent_end IS NOT NULL AND recent_source IS NULL FROM report_ranges"
        return bool(await connection.fetchval(query))

    await until(kept)


async def check(connection: asyncpg.Connection, since: datetime, end: datetime) -> None:
    """Check that the precomputed data agrees with the rows, in one snapshot."""
    alone = connection.transaction(isolation="repeatable_read")
    await alone.start()
    arguments = ("app_logs", "app_status", since, end, [1, 2, 3])
    known, read = [
        await connection.fetch(RUNS.format(function), *arguments)
        for function in ("receiver_known_runs", "receiver_code_runs")
    ]
    assert known == read
    reports = [await connection.fetch(report, since, end) for report in REPORTS]
    await connection.execute("DELETE FROM report_ranges")
    assert [await connection.fetch(report, since, end) for report in REPORTS] == reports
    await alone.rollback()


async def check_all(connection: asyncpg.Connection) -> None:
    """Check ranges that begin or end in and between precomputed and other parts."""
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for since, end in (
        (now - 80 * HOUR, now + HOUR),
        (midnight, now),
        (now - 7 * HOUR, now - 2 * HOUR),
        (midnight - 25 * HOUR, midnight),
    ):
        await check(connection, since, end)


async def test_the_last_hours_are_kept(connection: asyncpg.Connection) -> None:
    await connection.execute(STORE, 60 * HOUR, HOUR / 2)
    await keep_all(connection)
    assert await connection.fetchval(KEPT, 1) > 0
    newest = await connection.fetchval("SELECT max(upto) FROM report_days")
    assert datetime.now(UTC) - newest < 1.5 * HOUR
    await check_all(connection)


async def test_what_is_kept_of_a_day_grows(connection: asyncpg.Connection) -> None:
    await connection.execute(STORE, 60 * HOUR, HOUR / 2)
    await keep_all(connection)
    for back in ("9 hours", "2 hours 10 minutes"):
        # As it was kept so long ago, of a day that may have been another one.
        await connection.execute(
            "DELETE FROM report_days WHERE upto IS NOT NULL AND day >= now() - $1::text::interval;",
            back,
        )
        await connection.execute(
            """
            WITH cut AS (
                SELECT d.day, u.upto, array_agg(r.code ORDER BY r.s) AS codes,
                    array_agg(r.s ORDER BY r.s) AS starts,
                    array_agg(least(r.e, u.upto) ORDER BY r.s) AS ends
                FROM report_days d
                CROSS JOIN LATERAL (SELECT least(d.upto, now() - $1::text::interval)) AS u (upto)
                CROSS JOIN LATERAL unnest(d.codes, d.started_at, d.ended_at) AS r (code, s, e)
                WHERE d.upto IS NOT NULL AND r.s < u.upto GROUP BY d.day, u.upto
            )
            UPDATE report_days d SET codes = c.codes, started_at = c.starts, ended_at = c.ends,
                upto = c.upto
            FROM cut c WHERE c.day = d.day AND d.upto IS NOT NULL
            """,
            back,
        )
        await check_all(connection)
        await connection.execute("UPDATE report_ranges SET recent_end = NULL")
        await keep_all(connection)
        await check_all(connection)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO app_logs (source_id, created_at, app_status, ocr_value) "
        "VALUES (1, now() - INTERVAL '90 minutes 1.7 seconds', 2, now())",
        "UPDATE app_logs SET app_status = 99 WHERE created_at BETWEEN "
        "now() - INTERVAL '3 hours' AND now() - INTERVAL '2 hours'",
        "DELETE FROM app_logs WHERE created_at BETWEEN now() - INTERVAL '100 minutes' "
        "AND now() - INTERVAL '80 minutes'",
        "DELETE FROM app_logs WHERE created_at > now() - INTERVAL '30 hours'",
        "TRUNCATE app_logs",
        "UPDATE report_settings SET max_gap = '3 seconds'",
    ],
)
async def test_what_has_changed_is_read_from_the_rows_at_once(
    connection: asyncpg.Connection, statement: str
) -> None:
    await connection.execute(STORE, 60 * HOUR, HOUR / 2)
    await keep_all(connection)
    async with connection.transaction():
        await connection.execute(statement)
    await check_all(connection)
    for _ in range(3):
        await connection.fetchval(KEEP)
        await check_all(connection)
    await keep_all(connection)
    await check_all(connection)


async def test_a_source_of_rare_rows_is_not_kept_before_its_day_is_finished(
    connection: asyncpg.Connection,
) -> None:
    """Its usual interval is the median of a day that has not ended."""
    now = datetime.now(UTC)
    rare = [(2, now - 5 * n * HOUR / 60, n % 5 // 4, seconds(1)) for n in range(720)]
    await add_logs(connection, rare)
    await connection.execute(STORE, 60 * HOUR, HOUR / 2)
    await keep_all(connection)
    assert await connection.fetchval(KEPT, 2) == 0
    await check_all(connection)


# Runs of a code: time after the previous run, number of rows, and their distance.
steps = st.sampled_from([5.0] * 8 + [14.9, 15.1, 60, 301, 1900, 7190, 14_500])
history = st.lists(
    st.tuples(
        steps, st.integers(0, 2), st.integers(1, 250), st.sampled_from([5.0, 5.0, 30.0, 150.0])
    ),
    min_size=1,
    max_size=9,
)


def rows_of(history: list[tuple[float, int, int, float]], last: datetime) -> list[Any]:
    """Return times and codes of a source whose last row is at `last`."""
    rows, at = [], 0.0
    for step, code, count, apart in history:
        rows += [(at + step + n * apart, code) for n in range(count)]
        at = rows[-1][0]
    return [(last - seconds(at - time), code) for time, code in rows]


@hypothesis_settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.dictionaries(st.integers(1, 3), history, min_size=1),
    st.sampled_from([0.0, 3.0, 1000.0, 3000.0, 9000.0]),
    st.integers(0, 12),
    st.integers(0, 60),
    st.integers(1, 40),
)
async def test_random_histories(
    connection: asyncpg.Connection,
    histories: dict[int, Any],
    tail: float,
    rounds: int,
    first_late: int,
    every: int,
) -> None:
    await connection.execute("TRUNCATE app_logs")
    now = datetime.now(UTC)
    rows = [
        (source, at, code, seconds(1))
        for source, line in histories.items()
        for at, code in rows_of(line, now - seconds(tail))
    ]
    late = rows[first_late :: every * 40]
    await add_logs(connection, [row for row in rows if row not in late])
    for _ in range(40):
        if not await connection.fetchval(KEEP):
            break
    await check_all(connection)
    await add_logs(connection, late)
    for _ in range(rounds):
        await connection.fetchval(KEEP)
    await check_all(connection)
