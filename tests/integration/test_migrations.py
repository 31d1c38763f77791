"""Migrations: run by one or several receivers, and refused on a newer schema."""

from __future__ import annotations

import asyncio
import logging

import asyncpg
import pytest

from receiver.config.catalogue import built_in
from receiver.errors import SchemaError
from receiver.storage.reading.listing import Listing
from receiver.storage.schema.revisions import (
    check_schema,
    known_revisions,
    migrate,
    migrations_directory,
)
from tests.conftest import MakeSettings
from tests.logs import has_timescaledb, stop_refreshing

COLUMNS = """
SELECT table_name, column_name, data_type, is_nullable = 'YES' AS nullable
FROM information_schema.columns WHERE table_schema = 'public'
  AND table_name IN ('error_codes', 'app_logs')
ORDER BY table_name, ordinal_position
"""


async def test_the_users_tables_have_the_promised_columns(connection: asyncpg.Connection) -> None:
    found = [tuple(row) for row in await connection.fetch(COLUMNS)]
    codes = await connection.fetch("SELECT code, name, description FROM error_codes ORDER BY 1")
    assert found == [
        ("app_logs", "id", "bigint", False),
        ("app_logs", "created_at", "timestamp with time zone", False),
        ("app_logs", "app_status", "integer", False),
        ("app_logs", "ocr_value", "timestamp with time zone", False),
        ("app_logs", "source_id", "integer", False),
        ("error_codes", "code", "integer", False),
        ("error_codes", "name", "text", False),
        ("error_codes", "description", "text", True),
        ("error_codes", "created_at", "timestamp with time zone", True),
    ]
    assert [tuple(code) for code in codes] == [
        (0, "OK", "정상 상태"),
        (1, "DB_ERROR", "데이터베이스 연결 오류"),
        (2, "NETWORK_ERROR", "네트워크 장애"),
        (99, "UNKNOWN_ERROR", "정의되지 않은 오류"),
    ]


async def test_replicas_may_migrate_at_once(
    empty_database_url: str, make_settings: MakeSettings
) -> None:
    settings = make_settings(database_url=empty_database_url)
    await asyncio.gather(*(migrate(settings) for _ in range(4)))
    await check_schema(settings)


async def test_a_schema_behind_the_code_is_named(
    empty_database_url: str, make_settings: MakeSettings
) -> None:
    settings = make_settings(database_url=empty_database_url)
    with pytest.raises(SchemaError, match=r"at revision none.*run `receiver migrate`"):
        await check_schema(settings)


async def test_a_schema_newer_than_the_code_is_left_alone(
    database_url: str, connection: asyncpg.Connection, make_settings: MakeSettings
) -> None:
    await connection.execute("UPDATE receiver_schema_version SET version_num = '9999'")
    settings = make_settings(database_url=database_url)
    for operation in (migrate, check_schema):
        with pytest.raises(SchemaError, match="9999, which is newer than this receiver"):
            await operation(settings)
    assert await connection.fetchval("SELECT version_num FROM receiver_schema_version") == "9999"


async def test_a_refused_statement_is_one_clear_error(
    empty_database_url: str, make_settings: MakeSettings
) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("CREATE TYPE app_logs AS ENUM ('mine')")
    with pytest.raises(SchemaError, match='type "app_logs" already exists'):
        await migrate(make_settings(database_url=empty_database_url))
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert await connection.fetchval(tables) == 0
    await connection.close()


async def test_with_timescaledb_app_logs_is_a_hypertable(
    database_url: str, connection: asyncpg.Connection, make_settings: MakeSettings
) -> None:
    if not await has_timescaledb(connection):
        pytest.skip("this server has no TimescaleDB; RECEIVER_TEST_DATABASE_URL can name one")
    interval = (
        "SELECT time_interval::text FROM timescaledb_information.dimensions "
        "WHERE hypertable_name = 'app_logs'"
    )
    assert await connection.fetchval(interval) == "1 day"
    await migrate(make_settings(database_url=database_url, chunk_interval="6h"))
    assert await connection.fetchval(interval) == "06:00:00"


async def test_rows_in_a_plain_table_stay_there_when_timescaledb_comes(
    database_url: str,
    connection: asyncpg.Connection,
    make_settings: MakeSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if not await has_timescaledb(connection):
        pytest.skip("this server has no TimescaleDB; RECEIVER_TEST_DATABASE_URL can name one")
    await stop_refreshing(connection)
    await connection.execute(
        """
        CREATE TABLE plain (LIKE app_logs INCLUDING ALL);
        DROP TABLE app_logs CASCADE;
        ALTER TABLE plain RENAME TO app_logs;
        INSERT INTO sources (labels, digest) VALUES ('{}', '');
        INSERT INTO app_logs (app_status, ocr_value, source_id) SELECT 0, now(), id FROM sources
        """
    )
    with caplog.at_level(logging.WARNING):
        await migrate(make_settings(database_url=database_url))
    assert "create_hypertable" in caplog.text


async def test_the_newest_logs_come_from_an_index(connection: asyncpg.Connection) -> None:
    await connection.execute(
        """
        INSERT INTO sources (labels, digest) VALUES ('{}', '');
        INSERT INTO app_logs (created_at, app_status, ocr_value, source_id)
        SELECT now() - i * interval '1 second', 0, now(), (SELECT max(id) FROM sources)
        FROM generate_series(1, 20000) AS i;
        ANALYZE;
        """
    )
    query = Listing(built_in().tables[0]).newest_statement.replace("$1", "10")
    plan = "\n".join(line for (line,) in await connection.fetch(f"EXPLAIN {query}"))
    # No more rows are sorted than are shown.
    found = plan.partition("Limit")[2]
    assert "Index Scan" in found
    assert "Sort" not in found


def test_revisions_have_numbers_in_a_row() -> None:
    assert list(known_revisions()) == [
        f"{number:04}" for number in range(1, 1 + len(list(migrations_directory().iterdir())))
    ]
