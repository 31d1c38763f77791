"""Precomputed days of reports agree with the rows, whatever changes in them and when."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from receiver.config.settings import Settings
from receiver.storage.connection.database import Database
from receiver.storage.schema.keeping import keep_reports
from receiver.storage.schema.revisions import migrate
from tests.conftest import MakeSettings
from tests.declaring import declare
from tests.logs import add_logs, add_sources, has_timescaledb, logs, stop_refreshing
from tests.roles import as_role, plain_role
from tests.waiting import until

DAY = timedelta(days=1)
START = datetime(2025, 3, 3, 21, tzinfo=UTC)
RANGE = START - DAY, START + 3 * DAY
KEEP = "SELECT receiver_keep_reports('app_logs')"
RUNS = "SELECT source_id, code, started_at, ended_at FROM {}($1, $2, $3, $4, $5) ORDER BY 1, 3"
READY = "SELECT count(*) FROM receiver_ready_days('app_logs', 'app_status', $1, $2, '{1,2}')"
REPORTS = (
    "SELECT * FROM report('app_logs', $1, $2)",
    "SELECT * FROM report_codes('app_logs', $1, $2)",
)
CHANGES = "SELECT count(*) FROM report_changes"
LATE = """
INSERT INTO app_logs (source_id, created_at, app_status, ocr_value)
VALUES ($1, $2, 2, '2025-03-01')
"""


@pytest.fixture
async def connection(connection: asyncpg.Connection) -> asyncpg.Connection:
    """Connect to a database with two sources, some of whose days are precomputed."""
    await stop_refreshing(connection)
    await add_sources(connection, 2)
    for source in (1, 2):
        rows = logs(source, [*[0] * 900, *[1] * 500, *[0] * 200], start=START, step=20)
        await add_logs(connection, rows)
    await keep_all(connection)
    assert await connection.fetchval(READY, *RANGE) == 6
    return connection


async def keep_all(connection: asyncpg.Connection) -> None:
    """Precompute everything, for which no older transaction may be in flight on the server."""

    async def kept() -> bool:
        while await connection.fetchval(KEEP):
            pass
        return bool(await connection.fetchval("SELECT first_day FROM report_ranges"))

    await until(kept)
    assert await connection.fetchval(CHANGES) == 0


async def runs(connection: asyncpg.Connection, function: str) -> list[tuple[Any, ...]]:
    arguments = ("app_logs", "app_status", *RANGE, [1, 2])
    return [tuple(row) for row in await connection.fetch(RUNS.format(function), *arguments)]


async def check(connection: asyncpg.Connection) -> None:
    """Check that the precomputed data agrees with the rows."""
    found = await runs(connection, "receiver_known_runs")
    assert found == await runs(connection, "receiver_code_runs")
    known = [await connection.fetch(report, *RANGE) for report in REPORTS]
    alone = connection.transaction()
    await alone.start()
    await connection.execute("DELETE FROM report_ranges")
    assert [await connection.fetch(report, *RANGE) for report in REPORTS] == known
    await alone.rollback()


CHANGING = {
    "inserted": "INSERT INTO app_logs (source_id, created_at, app_status, ocr_value) "
    "VALUES (1, '2025-03-03 23:59:59', 2, now()), (1, '2025-03-05 12:00', 2, now())",
    "changed": "UPDATE app_logs SET app_status = 99 "
    "WHERE source_id = 2 AND created_at < '2025-03-03 21:30'",
    "moved": "UPDATE app_logs SET created_at = created_at + INTERVAL '3 days' "
    "WHERE source_id = 1 AND created_at > '2025-03-04 05:00'",
    "to another source": "UPDATE app_logs SET source_id = 2, created_at = created_at + "
    "INTERVAL '1 second' WHERE source_id = 1 AND created_at > '2025-03-04 05:00'",
    "deleted": "DELETE FROM app_logs WHERE source_id = 1 AND created_at > '2025-03-04 03:00'",
    "deleted at midnight": "DELETE FROM app_logs "
    "WHERE created_at BETWEEN '2025-03-03 23:50' AND '2025-03-04'",
    "renumbered": "UPDATE error_codes SET code = 7 WHERE code = 1",
    "all deleted": "DELETE FROM app_logs",
    "truncated": "TRUNCATE app_logs",
    "longer gap": "DELETE FROM app_logs WHERE created_at > '2025-03-04 04:00' "
    "AND EXTRACT(minute FROM created_at) < 50; UPDATE report_settings SET max_gap = '2 hours'",
}


@pytest.mark.parametrize("statement", CHANGING.values(), ids=CHANGING)
async def test_what_is_kept_is_what_the_rows_say_at_every_moment(
    connection: asyncpg.Connection, statement: str
) -> None:
    if "3 days" in statement and await has_timescaledb(connection):
        pytest.skip("a row of a hypertable does not move to another chunk")
    before = await runs(connection, "receiver_known_runs")
    async with connection.transaction():
        await connection.execute(statement)
        await check(connection)
    await check(connection)
    assert await runs(connection, "receiver_known_runs") != before
    await connection.fetchval(KEEP)
    await check(connection)
    await keep_all(connection)
    await check(connection)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO code_classes VALUES ('error_codes', 1, 'ok')",
        "INSERT INTO code_classes VALUES ('error_codes', 0, 'planned')",
        "UPDATE report_settings SET micro_stop = '1 day'",
        "INSERT INTO planned_stops (started_at, ended_at, labels) "
        """VALUES ('2025-03-04 03:00', '2025-03-04 04:00', '{"instance": "cam-2"}')""",
    ],
)
async def test_what_reports_go_by_may_change(
    connection: asyncpg.Connection, statement: str
) -> None:
    before = [await connection.fetch(report, *RANGE) for report in REPORTS]
    await connection.execute(statement)
    await check(connection)
    assert [await connection.fetch(report, *RANGE) for report in REPORTS] != before
    await keep_all(connection)
    await check(connection)


async def test_rows_are_noted_where_their_references_were_checked_at_once(
    connection: asyncpg.Connection,
) -> None:
    if await has_timescaledb(connection):
        pytest.skip("a hypertable's references are checked row by row")
    codes = '{"app_status": {"table": "error_codes", "keys": [2]}}'
    assert (
        await connection.fetchval("SELECT receiver_references_obstacle('app_logs', $1)", codes)
        is None
    )
    async with connection.transaction():
        await connection.execute("SELECT receiver_check_references('app_logs', $1, '{1}')", codes)
        await add_logs(connection, logs(1, [2], start=START + timedelta(seconds=7)))
    assert await connection.fetchval(CHANGES) == 1
    await check(connection)


async def test_a_row_that_comes_while_its_day_is_computed_is_not_lost(
    connection: asyncpg.Connection, database_url: str
) -> None:
    """After another change, a lock holds up the computation once it has read the rows."""
    if await has_timescaledb(connection):
        pytest.skip("triggers of a hypertable cannot be made to fire always")
    other, blocker = [await asyncpg.connect(database_url) for _ in range(2)]
    await connection.execute(LATE, 1, START + timedelta(seconds=3))
    block = blocker.transaction()
    await block.start()
    await blocker.execute("SELECT FROM sources WHERE id = 1 FOR UPDATE")
    computing = asyncio.create_task(connection.fetchval(KEEP))
    waiting = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND pid = $1"
    await until(lambda: other.fetchval(waiting, connection.get_server_pid()))
    # Skip the foreign key check of the source, which the lock would hold up too.
    await other.execute("SET session_replication_role = replica")
    await other.execute(LATE, 1, START + timedelta(seconds=6))
    await block.rollback()
    await computing
    await check(connection)
    assert await connection.fetchval(CHANGES) == 1
    await keep_all(connection)
    await check(connection)
    for used in (other, blocker):
        await used.close()


async def test_a_row_that_is_not_committed_when_its_day_is_computed_is_not_lost(
    connection: asyncpg.Connection, database_url: str
) -> None:
    other = await asyncpg.connect(database_url)
    await connection.execute(LATE, 1, START + timedelta(seconds=3))
    async with other.transaction():
        await other.execute(LATE, 1, START + timedelta(seconds=6))
        await connection.fetchval(KEEP)
        await check(connection)
    await check(connection)
    await keep_all(connection)
    await check(connection)
    await other.close()


async def test_days_wait_for_transactions_that_began_to_write_before(
    connection: asyncpg.Connection, database_url: str
) -> None:
    other = await asyncpg.connect(database_url)
    await connection.execute("DELETE FROM report_ranges; DELETE FROM report_days")
    async with other.transaction():
        await other.execute("SELECT pg_current_xact_id()")
        for _ in range(5):
            await connection.fetchval(KEEP)
        assert await connection.fetchval(READY, *RANGE) == 0
    await keep_all(connection)
    assert await connection.fetchval(READY, *RANGE) == 6
    await other.close()


async def test_without_the_triggers_nothing_is_kept(connection: asyncpg.Connection) -> None:
    await connection.execute("DROP TRIGGER receiver_note_updated ON app_logs")
    assert not await connection.fetchval(KEEP)
    assert await connection.fetchval("SELECT count(*) FROM report_days") == 0
    await check(connection)


async def test_triggers_are_made_again(
    connection: asyncpg.Connection, database_url: str, make_settings: MakeSettings
) -> None:
    await connection.execute("DROP TRIGGER receiver_note_updated ON app_logs")
    await migrate(make_settings(database_url=database_url))
    assert await connection.fetchval("SELECT receiver_watches_rows('app_logs')")


async def test_whoever_may_not_read_what_is_kept_reads_the_rows(
    connection: asyncpg.Connection, database_url: str
) -> None:
    expected = await connection.fetch("SELECT * FROM report('app_logs', $1, $2)", *RANGE)
    async with plain_role(database_url) as role:
        await connection.execute(
            "GRANT SELECT ON app_logs, error_codes, sources, receiver_tables, code_classes, "
            f"report_settings, report_shifts, report_holidays, planned_stops TO {role}"
        )
        theirs = await asyncpg.connect(as_role(database_url, role))
        assert await theirs.fetch("SELECT * FROM report('app_logs', $1, $2)", *RANGE) == expected
        await theirs.close()


async def test_whoever_may_write_rows_needs_no_right_on_what_is_kept(
    connection: asyncpg.Connection, database_url: str
) -> None:
    async with plain_role(database_url) as role:
        await connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON app_logs TO {role}")
        theirs = await asyncpg.connect(as_role(database_url, role))
        await theirs.execute("SET search_path = pg_catalog")
        for statement in (
            LATE.replace("app_logs", "public.app_logs").replace("$1, $2", "1, '2025-03-04 12:00'"),
            "UPDATE public.app_logs SET app_status = 0 WHERE created_at = '2025-03-04 12:00'",
            "DELETE FROM public.app_logs WHERE created_at = '2025-03-04 12:00'",
        ):
            await theirs.execute(statement)
            assert await connection.fetchval(CHANGES) > 0
            await keep_all(connection)
            await check(connection)
        await theirs.close()


async def test_maintenance_keeps_what_is_not_deleted_soon(
    connection: asyncpg.Connection,
    database: Database,
    database_url: str,
    make_settings: MakeSettings,
) -> None:
    now = await connection.fetchval("SELECT now()")
    settings = declare(
        make_settings,
        database_url,
        app_logs={
            "columns": {
                "app_status": {"metric": "app_status", "type": "code", "codes": "error_codes"},
                "ocr_value": {"metric": "ocr_value", "type": "timestamp", "unit": "seconds"},
            },
            "retention": "20d",
        },
    )
    for age in range(2, 25):
        await add_logs(connection, logs(1, [0, 1, 0], start=now - age * DAY))

    async def kept() -> bool:
        await keep_reports(database, settings)
        return bool(
            await connection.fetchval("SELECT max(day) >= $1 FROM report_days", now - 3 * DAY)
        )

    await until(kept)
    assert await connection.fetchval("SELECT min(day) > $1 FROM report_days", now - 17 * DAY)
    await connection.execute("DELETE FROM app_logs WHERE created_at < $1", now - 20 * DAY)
    await until(lambda: kept_nothing_changed(connection, database, settings))


async def kept_nothing_changed(
    connection: asyncpg.Connection, database: Database, settings: Settings
) -> bool:
    await keep_reports(database, settings)
    return bool(await connection.fetchval(CHANGES) == 0)


async def test_a_role_that_cannot_make_triggers_can_start(
    connection: asyncpg.Connection, database_url: str, make_settings: MakeSettings
) -> None:
    async with plain_role(database_url) as role:
        await connection.execute(
            f"DROP TRIGGER receiver_note_updated ON app_logs;"
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"
        )
        await migrate(make_settings(database_url=as_role(database_url, role)))
    assert not await connection.fetchval("SELECT receiver_watches_rows('app_logs')")
