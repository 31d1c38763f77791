"""Statements of the write path take time in proportion to what they write, whatever the server
believes about the size of a table: statistics lag behind, and a cached plan even more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from hashlib import sha256
from typing import Any

import asyncpg
import pytest

from receiver.rows.batch import POSTGRES_EPOCH_MS
from receiver.rows.model import Reason
from receiver.storage import queries
from receiver.storage.connection.database import Connection, Database
from receiver.storage.reading.observing import observe
from receiver.storage.writing import codes, sources
from receiver.storage.writing.inserting import copy_logs
from receiver.storage.writing.pending import settle_waiting
from receiver.storage.writing.records import LogRecord
from receiver.storage.writing.writer import LogWriter
from tests.conftest import MakeSettings
from tests.integration.test_logs import NAMES, NOW, contents, ocr_half, source, status_half
from tests.plans import explain, visits

COUNT = 1_000
TIMES = 7
"""From its fifth execution on, PostgreSQL may use one plan for all executions of a statement."""
MOST = 40
"""Visits that a statement may take for each of its rows; a nested loop would take hundreds."""
DAY = 86_400_000_000

IDS = list(range(1, COUNT + 1))
OCR = [0] * COUNT
STATUS = [1] * COUNT
NOTHING = [None] * COUNT

SOURCES = """
INSERT INTO sources (labels, digest)
SELECT '{}', sha256(number::text::bytea) FROM generate_series($1::int, $2::int) AS number
"""
LOGS = """
INSERT INTO app_logs (created_at, source_id, app_status, ocr_value)
SELECT '2000-01-01Z'::timestamptz + number * INTERVAL '1 ms', number, 1, '2000-01-01Z'
FROM generate_series(1, 1000) AS number
"""
HALVES = """
INSERT INTO pending_halves (created_at, source_id, app_status)
SELECT '2000-01-01Z'::timestamptz + number * INTERVAL '1 ms', number, 1
FROM generate_series(1, 1000) AS number
"""
REJECTED = """
INSERT INTO rejected_samples (source_id, metric, timestamp_ms, value, reason)
SELECT number, 'ocr_value', number, number, 'conflict' FROM generate_series(1, 1000) AS number
"""
TABLES = {"pending_halves": HALVES, "app_logs": LOGS, "rejected_samples": REJECTED}


async def analyze_empty(connection: asyncpg.Connection) -> None:
    await connection.execute("VACUUM ANALYZE")


async def analyze_one_row(connection: asyncpg.Connection) -> None:
    for table, fill in TABLES.items():
        await connection.execute(f"{fill} LIMIT 1")
        await connection.execute(f"VACUUM ANALYZE {table}")
        await connection.execute(f"DELETE FROM {table}")


async def analyze_emptied(connection: asyncpg.Connection) -> None:
    """No rows on many pages."""
    for table, fill in TABLES.items():
        await connection.execute(fill)
        await connection.execute(f"DELETE FROM {table} WHERE source_id < 1000")
        await connection.execute(f"VACUUM ANALYZE {table}")
        await connection.execute(f"DELETE FROM {table}")
        await connection.execute(f"ANALYZE {table}")


async def analyze_few(connection: asyncpg.Connection) -> None:
    """A handful of rows on many pages."""
    for table, fill in TABLES.items():
        await connection.execute(fill)
        await connection.execute(f"DELETE FROM {table} WHERE source_id < 995")
        await connection.execute(f"VACUUM ANALYZE {table}")
        await connection.execute(f"DELETE FROM {table}")


STATISTICS = {
    "empty": analyze_empty,
    "one row": analyze_one_row,
    "emptied": analyze_emptied,
    "few rows": analyze_few,
}


@pytest.fixture
async def database(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> AsyncIterator[Database]:
    """The product's connections to tables whose statistics nobody renews."""
    for table in ("sources", "app_logs", "pending_halves", "rejected_samples"):
        await connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    database = Database(make_settings(database_url=database_url))
    await database.open()
    yield database
    await database.close()


def statements(times: list[int]) -> list[tuple[str, tuple[Any, ...]]]:
    """All that work on many rows, in an order in which each of them finds rows."""
    names = tuple(NAMES.values())
    span = times[0], times[-1]
    rows = times, IDS, STATUS, OCR
    values = list(map(float, IDS))
    halves = (queries.UPSERT_HALVES, (*rows[:3], NOTHING, NOTHING, NOTHING))
    settle_at_once = (queries.SETTLE_AT_ONCE, (*names, *span, times, IDS, IDS))
    digests = [sha256(f"{times[0]} {number}".encode()).digest() for number in IDS]
    milliseconds = [time // 1000 + POSTGRES_EPOCH_MS for time in times]
    rejected = ([names[1]] * COUNT, milliseconds, values, [Reason.NOT_A_NUMBER] * COUNT, NOTHING)
    return [
        (sources.STATEMENTS.find, ([sha256(str(number).encode()).digest() for number in IDS],)),
        (sources.STATEMENTS.add, (digests, ["{}"] * COUNT)),
        (codes.STATEMENTS.find, (IDS,)),
        (codes.STATEMENTS.add, (IDS,)),
        halves,
        (queries.FIND_HALVES, (times, IDS)),
        (queries.DELETE_HALVES, (times, IDS)),
        halves,
        (queries.TAKE_HALVES, (times, IDS)),
        halves,
        settle_at_once,
        (queries.INSERT_LOGS, rows),
        (queries.INSERT_LOGS, rows),
        (queries.FIND_CONFLICTS, (times, IDS, [2] * COUNT, OCR, *span, IDS)),
        settle_at_once,
        halves,
        (queries.SETTLE_WAITING, (*names, *span, timedelta(0), 5_000)),
        (queries.REJECT_SAMPLES, (IDS, NOTHING, NOTHING, *rejected)),
        (queries.FIND_DISCARDED, (IDS, NOTHING, *rejected[:4])),
        (queries.REJECT_SAMPLES, (NOTHING, digests, ["{}"] * COUNT, *rejected)),
        (queries.FIND_DISCARDED, (NOTHING, digests, *rejected[:4])),
        halves,
        settle_at_once,
    ]


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("apart", [1_000, 0], ids=["each at its time", "all at one time"])
async def test_each_statement_visits_few_rows_for_each_row_that_it_writes(
    database: Database, connection: asyncpg.Connection, statistics: str, apart: int
) -> None:
    await connection.execute(SOURCES, 1, COUNT)
    await connection.execute("INSERT INTO error_codes (code, name) VALUES (3, 'x')")
    await STATISTICS[statistics](connection)
    for turn in range(TIMES):
        times = [turn * DAY + number * apart for number in IDS]
        async with database.transaction() as used:
            for statement, arguments in statements(times):
                plan = await explain(used, statement, *arguments)
                assert visits(plan) <= MOST * COUNT, (statement, plan)
            await used.execute(queries.FOLLOW_KEY)
            plan = await explain(used, queries.NEWEST_ROWS, 300, timedelta(days=36_500))
            assert visits(plan) <= MOST * COUNT, plan


async def test_checking_sources_does_not_read_all_of_them_for_each_row(
    database: Database, connection: asyncpg.Connection
) -> None:
    """The server keeps the plan of a foreign key's check; it was made when there were few."""
    await connection.execute(SOURCES, 1, 3)
    await connection.execute("ANALYZE sources")
    async with database.transaction() as used:
        for turn in range(TIMES):
            await copy_logs(used, [log(turn * DAY, 1 + number % 3, number) for number in range(30)])
        await used.execute(SOURCES, 4, COUNT)
        before = await sources_read(used)
        await copy_logs(used, [log(TIMES * DAY, number, 0) for number in IDS])
        assert await sources_read(used) - before <= 2 * COUNT


def log(day: int, source_id: int, number: int) -> LogRecord:
    return day + number, source_id, 0, 0, 0.0, 0.0


async def sources_read(connection: Connection) -> int:
    """Rows of `sources` that this transaction has read."""
    read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = $1"
    count: int = await connection.fetchval(read, "sources")
    return count


async def test_the_server_keeps_no_plan_of_ours(database: Database) -> None:
    """It plans each statement for its parameters, of which it would know nothing."""
    writer = LogWriter(database, NAMES)
    who = source()
    for turn in range(TIMES):
        await writer.write(contents(status_half(who, NOW + turn)))
        await writer.write(contents(ocr_half(who, NOW + turn)))
        await settle_waiting(database, timedelta(hours=2), NAMES)
        await observe(database)
    async with database.connection() as used:
        assert await used.fetchval("SELECT count(*) FROM app_logs") == TIMES
        assert await used.fetchval("SELECT count(*) FROM pg_prepared_statements") == 0
