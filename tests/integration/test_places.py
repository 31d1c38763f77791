"""Our table names keep referring to our tables, whatever schemas precede in the search path."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from receiver.config.settings import Settings
from receiver.storage.diagnosis import diagnose
from receiver.storage.diagnosis.findings import Level
from receiver.storage.schema.retention import delete_old
from receiver.storage.schema.revisions import migrate, schema_transaction, upgrade
from receiver.storage.schema.timescale import is_hypertable
from tests.conftest import MakeSettings
from tests.databases import opened_database
from tests.receivers import receiving
from tests.timescale import require_compression

NOW = 1_700_000_000_000
SCHEMAS = """
SELECT DISTINCT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname IN ('app_logs', 'error_codes', 'sources', 'pending_rows', 'rejected_samples',
    'backfills', 'receiver_schema_version', 'receiver_tables', 'app_status_now', 'app_logs_now',
    'app_status_hourly', 'app_status_hourly_stored')
UNION SELECT n.nspname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.proname ~ '^app_(status|logs)_' OR p.proname ~ '^receiver_'
"""
JOBS = """
SELECT proc_name, (config ->> 'drop_after')::interval FROM timescaledb_information.jobs
WHERE hypertable_name = 'app_logs' OR proc_name = 'policy_refresh_continuous_aggregate'
"""
DAY = timedelta(days=1)


@pytest.fixture
async def connection(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(empty_database_url, statement_cache_size=0)
    yield connection
    await connection.close()


async def add_own_schema(connection: asyncpg.Connection) -> None:
    """Create a schema that comes first in the search path of our role from now on."""
    role = await connection.fetchval("SELECT quote_ident(current_user)")
    await connection.execute(f"CREATE SCHEMA {role}")


async def problems(settings: Settings) -> list[str]:
    levels = {Level.PROBLEM, Level.WARNING}
    found = [finding async for _, finding in diagnose(settings) if finding.level in levels]
    return [finding.found for finding in found if "autovacuum" not in finding.found]


async def test_a_schema_that_is_added_later_gets_no_second_set_of_tables(
    empty_database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    settings = make_settings(database_url=empty_database_url)
    async with schema_transaction(settings) as used:
        await upgrade(used, "0001")
    await add_own_schema(connection)
    async with receiving(settings) as receiver:
        await receiver.send(
            ({"__name__": "app_status", "job": "a"}, NOW, 0.0),
            ({"__name__": "ocr_value", "job": "a"}, NOW, NOW / 1000),
        )
        assert (await receiver.get("/"))[0] == 200
    assert [schema for (schema,) in await connection.fetch(SCHEMAS)] == ["public"]
    assert await connection.fetchval("SELECT count(*) FROM public.app_logs") == 1


async def test_a_hypertable_stays_one_when_a_schema_comes_before_it(
    empty_database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    await migrate(make_settings(database_url=empty_database_url, retention="30d"))
    await require_compression(connection)
    await add_own_schema(connection)
    assert await is_hypertable(connection, "app_logs")
    settings = make_settings(database_url=empty_database_url, retention="60d")
    await migrate(settings)
    jobs = dict(await connection.fetch(JOBS))
    assert jobs["policy_retention"] == 60 * DAY
    assert [schema for (schema,) in await connection.fetch(SCHEMAS)] == ["public"]
    assert not [found for found in await problems(settings) if "plain table" in found]


async def test_timescaledb_may_have_a_schema_of_its_own(
    empty_database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    offered = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')"
    if not await connection.fetchval(offered):
        pytest.skip("this server has no TimescaleDB; RECEIVER_TEST_DATABASE_URL can name one")
    await connection.execute('CREATE SCHEMA "Time Scale"')
    await connection.execute('CREATE EXTENSION timescaledb SCHEMA "Time Scale"')
    await require_compression(connection)
    settings = make_settings(database_url=empty_database_url, retention="30d")
    await migrate(settings)
    jobs = dict(await connection.fetch(JOBS))
    assert jobs.keys() == {
        "policy_compression",
        "policy_retention",
        "policy_refresh_continuous_aggregate",
    }
    assert not [found for found in await problems(settings) if "plain table" in found]
    await migrate(make_settings(database_url=empty_database_url, retention="off"))
    assert "policy_retention" not in dict(await connection.fetch(JOBS))
    await connection.execute("INSERT INTO sources (labels, digest) VALUES ('{}', '')")
    await connection.execute(
        "INSERT INTO app_logs (created_at, app_status, ocr_value, source_id) "
        "VALUES ('2020-01-01', 0, '2020-01-01', 1), (now(), 0, now(), 1)"
    )
    async with opened_database(settings) as database:
        await delete_old(database, settings)
    assert await connection.fetchval("SELECT count(*) FROM app_logs") == 1


async def test_tables_go_where_the_search_path_of_the_url_says(
    empty_database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    await connection.execute("CREATE SCHEMA plant")
    separator = "&" if "?" in empty_database_url else "?"
    url = f"{empty_database_url}{separator}search_path=plant,public"
    settings = make_settings(database_url=url)
    await migrate(settings)
    assert [schema for (schema,) in await connection.fetch(SCHEMAS)] == ["plant"]
    await migrate(settings)
    assert not [found for found in await problems(settings) if "plain table" in found]
