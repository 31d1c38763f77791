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

from receiver.rows.columns import POSTGRES_EPOCH_MS
from receiver.rows.reasons import Reason
from receiver.storage.connection.database import FOLLOW_KEY, Connection, Database
from receiver.storage.reading.observing import newest_rows, observe
from receiver.storage.writing import contradicting, pending, settling, sources
from receiver.storage.writing.codes import statements_for
from receiver.storage.writing.copying import from_records
from receiver.storage.writing.inserting import copy_rows
from receiver.storage.writing.records import Record
from receiver.storage.writing.rejecting import FIND_DISCARDED, REJECT_SAMPLES
from receiver.storage.writing.settling import settle_waiting
from receiver.storage.writing.statements import statements_of
from receiver.storage.writing.writer import Writer
from tests.conftest import MakeSettings
from tests.databases import opened_database
from tests.plans import explain, visits
from tests.rows import CATALOGUE, LOGS, NOW, contents, ocr_alone, source, status_alone

COUNT = 1_000
TIMES = 7
"""From its fifth execution on, PostgreSQL may use one plan for all executions of a statement."""
MOST = 40
"""Maximum number of visited rows per written row; a nested loop would visit hundreds."""
DAY = 86_400_000_000

IDS = list(range(1, COUNT + 1))
TABLE = ["app_logs"] * COUNT
OCR = [0] * COUNT
STATUS = [1] * COUNT
NOTHING = [None] * COUNT

SOURCES = """
INSERT INTO sources (labels, digest)
SELECT '{}', sha256(number::text::bytea) FROM generate_series($1::int, $2::int) AS number
"""
ROWS = """
INSERT INTO app_logs (created_at, source_id, app_status, ocr_value)
SELECT '2000-01-01Z'::timestamptz + number * INTERVAL '1 ms', number, 1, '2000-01-01Z'
FROM generate_series(1, 1000) AS number
"""
WAITING = """
INSERT INTO pending_rows (table_name, created_at, source_id, samples)
SELECT 'app_logs', '2000-01-01Z'::timestamptz + number * INTERVAL '1 ms', number,
    '{"app_status": "1.0"}'
FROM generate_series(1, 1000) AS number
"""
REJECTED = """
INSERT INTO rejected_samples (source_id, metric, timestamp_ms, value, reason, table_name)
SELECT number, 'ocr_value', number, number, 'conflict', 'app_logs'
FROM generate_series(1, 1000) AS number
"""
TABLES = {"pending_rows": WAITING, "app_logs": ROWS, "rejected_samples": REJECTED}


async def analyze_empty(connection: asyncpg.Connection) -> None:
    await connection.execute("VACUUM ANALYZE")


async def analyze_one_row(connection: asyncpg.Connection) -> None:
    for table, fill in TABLES.items():
        await connection.execute(f"{fill} LIMIT 1")
        await connection.execute(f"VACUUM ANALYZE {table}")
        await connection.execute(f"DELETE FROM {table}")


async def analyze_emptied(connection: asyncpg.Connection) -> None:
    """Collect statistics of tables with many pages and no rows."""
    for table, fill in TABLES.items():
        await connection.execute(fill)
        await connection.execute(f"DELETE FROM {table} WHERE source_id < 1000")
        await connection.execute(f"VACUUM ANALYZE {table}")
        await connection.execute(f"DELETE FROM {table}")
        await connection.execute(f"ANALYZE {table}")


async def analyze_few(connection: asyncpg.Connection) -> None:
    """Collect statistics of tables with many pages and a handful of rows."""
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
    """The receiver's connection pool, on tables whose statistics are not updated."""
    for table in ("sources", "app_logs", "pending_rows", "rejected_samples"):
        await connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    async with opened_database(make_settings(database_url=database_url)) as database:
        yield database


def statements(times: list[int]) -> list[tuple[str, tuple[Any, ...]]]:
    """Return all statements that work on many rows, in an order in which each finds rows."""
    span = times[0], times[-1]
    rows = times, IDS, STATUS, OCR
    values = list(map(float, IDS))
    places = TABLE, times, IDS
    upsert = (pending.UPSERT, (*places, ['{"app_status": "1.0"}'] * COUNT))
    find = (statements_of(LOGS).find, (times, IDS, *span, IDS))
    digests = [sha256(f"{times[0]} {number}".encode()).digest() for number in IDS]
    milliseconds = [time // 1000 + POSTGRES_EPOCH_MS for time in times]
    rejected = (["ocr_value"] * COUNT, milliseconds, values, [Reason.NOT_A_NUMBER] * COUNT)
    column = ["ocr_value"] * COUNT
    codes = statements_for("error_codes", "app_status")
    return [
        (sources.STATEMENTS.find, ([sha256(str(number).encode()).digest() for number in IDS],)),
        (sources.STATEMENTS.add, (digests, ["{}"] * COUNT)),
        (codes.find, (IDS,)),
        (codes.add, (IDS,)),
        upsert,
        (pending.FIND, places),
        (pending.DELETE, places),
        upsert,
        (pending.TAKE, places),
        upsert,
        find,
        (statements_of(LOGS).insert, rows),
        (statements_of(LOGS).insert, rows),
        find,
        (statements_of(LOGS).fill, (*rows, *span)),
        (FOLLOW_KEY, ()),
        (settling.find_waiting(LOGS), (timedelta(0), 5_000, *span, ["app_status", "ocr_value"])),
        ("SET LOCAL enable_sort = on", ()),
        (pending.DELETE, places),
        (REJECT_SAMPLES, (IDS, NOTHING, NOTHING, *rejected, NOTHING, TABLE, column)),
        (contradicting.FIND_REJECTED, (IDS, milliseconds, ["app_status", "ocr_value"], "app_logs")),
        (FIND_DISCARDED, (IDS, NOTHING, *rejected, TABLE)),
        (REJECT_SAMPLES, (NOTHING, digests, ["{}"] * COUNT, *rejected, NOTHING, TABLE, column)),
        (FIND_DISCARDED, (NOTHING, digests, *rejected, TABLE)),
        upsert,
        find,
        (pending.DELETE, places),
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
                if not arguments:
                    await used.execute(statement)
                    continue
                plan = await explain(used, statement, *arguments)
                assert visits(plan) <= MOST * COUNT, (statement, plan)
            await used.execute(FOLLOW_KEY)
            plan = await explain(used, newest_rows(LOGS), 300, timedelta(days=36_500))
            assert visits(plan) <= MOST * COUNT, plan


async def test_checking_sources_does_not_read_all_of_them_for_each_row(
    database: Database, connection: asyncpg.Connection
) -> None:
    """The server caches the plan of a foreign key check, made when there were few sources."""
    await connection.execute(SOURCES, 1, 3)
    await connection.execute("ANALYZE sources")
    async with database.transaction() as used:
        for turn in range(TIMES):
            some = [log(turn * DAY, 1 + number % 3, number) for number in range(30)]
            await copy_rows(used, from_records(LOGS, some))
        await used.execute(SOURCES, 4, COUNT)
        before = await sources_read(used)
        await copy_rows(used, from_records(LOGS, [log(TIMES * DAY, number, 0) for number in IDS]))
        assert await sources_read(used) - before <= 2 * COUNT


def log(day: int, source_id: int, number: int) -> Record:
    return day + number, source_id, [0.0, 0.0], source()


async def sources_read(connection: Connection) -> int:
    """Return the number of rows of `sources` that this transaction has read."""
    read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = $1"
    count: int = await connection.fetchval(read, "sources")
    return count


async def test_the_server_keeps_no_plan_of_ours(database: Database) -> None:
    """Each statement is planned for its actual parameters, which a generic plan ignores."""
    writer = Writer(database, CATALOGUE)
    who = source()
    for turn in range(TIMES):
        await writer.write(contents(status_alone(who, NOW + turn)))
        await writer.write(contents(ocr_alone(who, NOW + turn)))
        await settle_waiting(database, CATALOGUE, timedelta(hours=2))
        await observe(database, CATALOGUE)
    async with database.connection() as used:
        assert await used.fetchval("SELECT count(*) FROM app_logs") == TIMES
        assert await used.fetchval("SELECT count(*) FROM pg_prepared_statements") == 0
