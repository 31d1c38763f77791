"""Old rows are deleted, without blocking anyone."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import asyncpg
import pytest

from receiver.errors import DatabaseUnavailableError, RefusedByDatabaseError
from receiver.storage.connection.database import Database
from receiver.storage.connection.locks import TRY_MAINTENANCE_LOCK
from receiver.storage.schema import retention
from receiver.storage.schema.retention import delete_old
from receiver.storage.schema.revisions import migrate
from receiver.storage.schema.timescale import is_hypertable
from tests.conftest import MakeSettings
from tests.declaring import declare
from tests.receivers import receiving
from tests.timescale import require_timescaledb
from tests.waiting import until

# One row a minute for two days, two sources at each time.
FILL = """
INSERT INTO sources (labels, digest) VALUES ('{"a": 1}', 'a'), ('{"a": 2}', 'b');
INSERT INTO app_logs (created_at, app_status, ocr_value, source_id)
SELECT now() - minute * INTERVAL '1 minute', 0, now(), id
FROM generate_series(1, 2880) AS minute, sources;
"""
REJECT = """
INSERT INTO rejected_samples
    (source_id, table_name, metric, timestamp_ms, value, reason, rejected_at)
SELECT (SELECT min(id) FROM sources), 'app_logs', 'app_status', day, 0.5, 'not_whole',
    now() - day * INTERVAL '1 day'
FROM generate_series(60, 1, -1) AS day
"""
WRITE = """
INSERT INTO app_logs (app_status, ocr_value, source_id) SELECT 0, now(), min(id) FROM sources
"""
SPAN = "SELECT count(*), EXTRACT(EPOCH FROM now() - min(created_at)) / 60 FROM app_logs"


@pytest.fixture
async def connection(connection: asyncpg.Connection) -> asyncpg.Connection:
    await connection.execute(FILL)
    return connection


async def require_plain_table(connection: asyncpg.Connection) -> None:
    if await is_hypertable(connection, "app_logs"):
        pytest.skip("app_logs is a hypertable here")


async def rejected(connection: asyncpg.Connection) -> int:
    return int(await connection.fetchval("SELECT count(*) FROM rejected_samples"))


async def test_logs_are_kept_for_ever_by_default_and_rejected_samples_for_30_days(
    connection: asyncpg.Connection, database: Database, make_settings: MakeSettings
) -> None:
    await connection.execute(REJECT)
    await connection.execute("UPDATE app_logs SET ocr_value = '-infinity'")
    await delete_old(database, make_settings())
    assert (await connection.fetchrow(SPAN))[0] == 2 * 2880
    assert await rejected(connection) == 29


async def test_rejected_samples_are_kept_if_they_are_to_be(
    connection: asyncpg.Connection, database: Database, make_settings: MakeSettings
) -> None:
    await connection.execute(REJECT)
    await delete_old(database, make_settings(rejected_retention="off"))
    assert await rejected(connection) == 60


@pytest.mark.parametrize("at_once", [50, 5000])
async def test_rows_of_a_plain_table_are_deleted_to_the_minute(
    connection: asyncpg.Connection,
    database: Database,
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
) -> None:
    await require_plain_table(connection)
    monkeypatch.setattr(retention, "AT_ONCE", at_once)
    monkeypatch.setattr(retention, "REST", 0)
    await delete_old(database, make_settings(retention="1d"))
    rows, oldest = await connection.fetchrow(SPAN)
    assert rows in {2 * 1439, 2 * 1440}
    assert oldest <= 1441


async def test_chunks_go_one_by_one_where_no_policy_drops_them(
    connection: asyncpg.Connection, database: Database, make_settings: MakeSettings
) -> None:
    """As with the Apache license, which has no policies."""
    await require_timescaledb(connection)
    await delete_old(database, make_settings(retention="1d"))
    _, oldest = await connection.fetchrow(SPAN)
    assert oldest >= 1438
    assert await connection.fetchval("SELECT count(*) FROM show_chunks('app_logs')") == 2


async def test_where_a_policy_drops_chunks_nothing_else_does(
    connection: asyncpg.Connection,
    database: Database,
    database_url: str,
    make_settings: MakeSettings,
) -> None:
    await require_timescaledb(connection)
    if await connection.fetchval("SHOW timescaledb.license") != "timescale":
        pytest.skip("this TimescaleDB has the Apache license")
    settings = make_settings(database_url=database_url, retention="1d")
    # Only after there is something to drop, as a new policy runs at once.
    await migrate(settings)
    await connection.execute(
        "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs"
    )
    await connection.execute(
        "INSERT INTO app_logs (created_at, app_status, ocr_value, source_id) "
        "SELECT now() - INTERVAL '9 days', 0, now(), min(id) FROM sources"
    )
    await delete_old(database, settings)
    _, oldest = await connection.fetchrow(SPAN)
    assert oldest > 8 * 1440


async def test_whoever_reads_an_old_chunk_stops_its_deletion_and_nobody_else(
    connection: asyncpg.Connection,
    database: Database,
    database_url: str,
    make_settings: MakeSettings,
) -> None:
    await require_timescaledb(connection)
    reader = await asyncpg.connect(database_url)
    async with reader.transaction():
        await reader.fetchval("SELECT count(*) FROM app_logs")
        with pytest.raises(DatabaseUnavailableError, match="lock timeout"):
            await delete_old(database, make_settings(retention="1d"))
        async with asyncio.timeout(1):
            await connection.execute(WRITE)
    await delete_old(database, make_settings(retention="1d"))
    assert await connection.fetchval("SELECT count(*) FROM show_chunks('app_logs')") == 2
    await reader.close()


async def test_a_row_that_somebody_works_on_is_not_waited_for(
    connection: asyncpg.Connection,
    database: Database,
    database_url: str,
    make_settings: MakeSettings,
) -> None:
    await require_plain_table(connection)
    worker = await asyncpg.connect(database_url)
    async with worker.transaction():
        await worker.execute(
            "UPDATE app_logs SET app_status = 1 WHERE created_at < now() - INTERVAL '47 hours'"
        )
        async with asyncio.timeout(10):
            await delete_old(database, make_settings(retention="1d"))
    _, oldest = await connection.fetchrow(SPAN)
    assert oldest >= 2880
    await delete_old(database, make_settings(retention="1d"))
    _, oldest = await connection.fetchrow(SPAN)
    assert oldest <= 1441
    await worker.close()


async def test_each_table_keeps_its_rows_as_long_as_it_says(
    connection: asyncpg.Connection,
    database: Database,
    database_url: str,
    make_settings: MakeSettings,
) -> None:
    await require_plain_table(connection)
    columns = {"heat": {"metric": "heat", "type": "double"}}
    settings = declare(
        make_settings,
        database_url,
        Short={"columns": columns, "retention": "1d"},
        forever={"columns": columns},
        long={"columns": columns, "retention": "36h"},
    )
    await migrate(settings)
    for name in settings.catalogue.by_name:
        await connection.execute(
            f'INSERT INTO "{name}" (created_at, heat, source_id) '
            "SELECT created_at, 1, source_id FROM app_logs"
        )
    # A failure with one table does not affect the others.
    await connection.execute(
        """
        CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END';
        CREATE TRIGGER stay BEFORE DELETE ON "Short" EXECUTE FUNCTION stay()
        """
    )
    with pytest.raises(RefusedByDatabaseError):
        await delete_old(database, settings)
    spans = {
        name: (await connection.fetchrow(SPAN.replace("app_logs", f'"{name}"')))[1]
        for name in settings.catalogue.by_name
    }
    assert spans["Short"] >= 2880
    assert spans["forever"] >= 2880
    assert spans["long"] <= 36 * 60 + 1
    await connection.execute('DROP TRIGGER stay ON "Short"')
    await delete_old(database, settings)
    assert (await connection.fetchrow(SPAN.replace("app_logs", '"Short"')))[1] <= 1441


async def test_only_one_replica_deletes_at_a_time(
    connection: asyncpg.Connection, database: Database, make_settings: MakeSettings
) -> None:
    await connection.execute(REJECT)
    async with connection.transaction():
        assert await connection.fetchval(TRY_MAINTENANCE_LOCK)
        await delete_old(database, make_settings())
    assert await rejected(connection) == 60


async def test_a_round_ends_in_time_and_the_next_goes_on(
    connection: asyncpg.Connection,
    database: Database,
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await connection.execute(REJECT)
    monkeypatch.setattr(retention, "AT_ONCE", 10)
    settings = make_settings(maintenance_interval="1ms")
    for left in (50, 40, 30, 29):
        await delete_old(database, settings)
        assert await rejected(connection) == left


async def test_the_receiver_deletes_by_itself(
    connection: asyncpg.Connection, database_url: str, make_settings: MakeSettings
) -> None:
    await connection.execute(REJECT)
    values: dict[str, Any] = {"maintenance_interval": "50ms", "rejected_retention": "10d"}
    async with receiving(make_settings(database_url=database_url, **values)):

        async def deleted() -> bool:
            return await rejected(connection) == 9

        await until(deleted)


async def test_trouble_is_told_once(
    connection: asyncpg.Connection,
    database_url: str,
    make_settings: MakeSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await connection.execute(
        """
        CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END';
        CREATE TRIGGER stay BEFORE DELETE ON rejected_samples EXECUTE FUNCTION stay()
        """
    )
    settings = make_settings(database_url=database_url, maintenance_interval="20ms")
    with caplog.at_level(logging.WARNING):
        async with receiving(settings):
            told = "maintenance failed"
            await until(lambda: caplog.text.count(told) >= 1)
            scans = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()"
            before = await connection.fetchval(scans)

            async def failed_again() -> bool:
                return bool(await connection.fetchval(scans) >= before + 4)

            await until(failed_again)
    assert caplog.text.count(told) <= 2
