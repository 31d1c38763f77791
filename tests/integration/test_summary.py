"""The hourly summary as a continuous aggregate: the same figures, and their retention."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import asyncpg
import pytest

from receiver.storage.schema.revisions import migrate, migrations_directory
from tests.conftest import MakeSettings
from tests.logs import (
    HAS_SUMMARY,
    START,
    add_logs,
    add_sources,
    logs,
    refresh,
    seconds,
    stop_refreshing,
)

DAY = timedelta(days=1)
START_OFFSET = """
SELECT (config ->> 'start_offset')::interval FROM timescaledb_information.jobs
WHERE proc_name = 'policy_refresh_continuous_aggregate'
"""
LICENSE = "SELECT current_setting('timescaledb.license', true)"
NO_SUMMARY = (
    "this server has no TimescaleDB under the Timescale licence; RECEIVER_TEST_DATABASE_URL can "
    "name one"
)
HOURS = "SELECT * FROM app_status_hourly ORDER BY source_id, hour"


@pytest.fixture
async def connection(connection: asyncpg.Connection) -> asyncpg.Connection:
    """A database with TimescaleDB whose summary is refreshed when the test says so."""
    if await connection.fetchval(LICENSE) != "timescale":
        pytest.skip(NO_SUMMARY)
    await stop_refreshing(connection)
    await add_sources(connection, 3)
    return connection


def plain_summary() -> str:
    """Return the migration's statement for app_status_hourly, under another name."""
    script = (migrations_directory() / "0002_views.sql").read_text()
    (view,) = re.findall(
        r"^CREATE VIEW app_status_hourly (AS\b.*?;)$", script, re.MULTILINE | re.DOTALL
    )
    return f"CREATE VIEW plain_hourly {view}"


async def test_it_shows_what_the_plain_view_shows(connection: asyncpg.Connection) -> None:
    await add_logs(
        connection,
        [
            *logs(1, [0, 2, 2, 0, 1] * 300, step=7.3),
            *((2, START + seconds(n * n), n % 4 // 2, seconds(n % 7)) for n in range(200)),
            *logs(3, [0], start=datetime.now(UTC) - seconds(5)),
        ],
    )
    await connection.execute(plain_summary())
    expected = await connection.fetch(HOURS.replace("app_status_hourly", "plain_hourly"))
    assert len(expected) > 10
    assert await connection.fetch(HOURS) == expected
    await refresh(connection)
    stored = "SELECT count(*) FROM app_status_hourly_stored"
    only_stored = (
        "ALTER MATERIALIZED VIEW app_status_hourly_stored SET (timescaledb.materialized_only = {})"
    )
    await connection.execute(only_stored.format("true"))
    assert await connection.fetchval(stored) == len(expected) - 1
    await connection.execute(only_stored.format("false"))
    assert await connection.fetch(HOURS) == expected


async def test_late_rows_come_into_it(connection: asyncpg.Connection) -> None:
    await add_logs(connection, logs(1, [0, 0]))
    await refresh(connection)
    await add_logs(connection, [*logs(1, [2], start=START + seconds(10)), *logs(2, [0])])
    await refresh(connection)
    found = [(row["source_id"], row["rows"]) for row in await connection.fetch(HOURS)]
    assert found == [(1, 3), (2, 1)]


async def test_the_present_hour_is_shown_at_once(connection: asyncpg.Connection) -> None:
    now = datetime.now(UTC)
    await add_logs(connection, logs(1, [0, 0], start=now - 2 * DAY))
    await refresh(connection)
    await add_logs(connection, logs(1, [1, 0], start=now - seconds(5)))
    newest = await connection.fetchrow(f"{HOURS} DESC LIMIT 1")
    assert json.loads(newest["shares"])["0"] >= 0.5


async def test_it_outlives_the_rows(
    connection: asyncpg.Connection, database_url: str, make_settings: MakeSettings
) -> None:
    now = datetime.now(UTC)
    old, recent = now - 40 * DAY, now - 20 * DAY
    await add_logs(connection, logs(1, [0, 2], start=old) + logs(2, [0], start=recent))
    await refresh(connection)
    before = await connection.fetch(HOURS)
    newest = "SELECT source_id, created_at, app_status FROM app_status_now ORDER BY 1"
    seen = await connection.fetch(newest)
    assert [source for source, *_ in seen] == [1, 2]
    await migrate(make_settings(database_url=database_url, retention="30d"))
    assert await connection.fetchval(START_OFFSET) == timedelta(days=30)
    await connection.execute("SELECT drop_chunks('app_logs', INTERVAL '30 days')")
    assert await connection.fetchval("SELECT count(*) FROM app_logs") == 1
    await add_logs(connection, logs(2, [0], start=recent + seconds(5)))
    for days in (60, 10):
        await refresh(connection)
        found = await connection.fetch(HOURS)
        assert found[: len(before) - 1] == before[:-1]
        assert found[-1]["rows"] >= 1
        await migrate(make_settings(database_url=database_url, retention=f"{days}d"))
        # A longer offset would empty the summary of dropped rows.
        assert await connection.fetchval(START_OFFSET) == min(30, days) * DAY
    assert (await connection.fetch(newest))[0] == seen[0]


async def test_the_shortest_retention_stops_no_migration(
    connection: asyncpg.Connection, database_url: str, make_settings: MakeSettings
) -> None:
    await migrate(make_settings(database_url=database_url, retention="1h"))
    assert await connection.fetchval(START_OFFSET) == timedelta(hours=3)
    await refresh(connection)


async def test_migrating_again_changes_nothing(
    connection: asyncpg.Connection, database_url: str, make_settings: MakeSettings
) -> None:
    jobs = (
        "SELECT job_id, proc_name, config, scheduled FROM timescaledb_information.jobs ORDER BY 1"
    )
    before = await connection.fetch(jobs)
    await migrate(make_settings(database_url=database_url))
    assert await connection.fetch(jobs) == before


@pytest.fixture
async def humble_url(empty_database_url: str) -> AsyncIterator[str]:
    """Yield the URL of the database for a role that may not create the extension."""
    server = await asyncpg.connect(empty_database_url)
    offered = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')"
    if not await server.fetchval(offered) or await server.fetchval(LICENSE) == "apache":
        await server.close()
        pytest.skip(NO_SUMMARY)
    role = await server.fetchval("SELECT current_database() || '_owner'")
    await server.execute(f"CREATE ROLE {role} LOGIN; GRANT ALL ON SCHEMA public TO {role}")
    url = urlsplit(empty_database_url)
    yield url._replace(netloc=f"{role}@{url.netloc.rpartition('@')[2]}").geturl()
    await server.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")
    await server.close()


async def test_it_comes_when_the_hypertable_does(
    empty_database_url: str,
    humble_url: str,
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Privileges on the plain view are kept."""
    # Simulates a server on which TimescaleDB was installed later.
    monkeypatch.setattr("receiver.storage.schema.requirements.LACKS_EXTENSION", "SELECT false")
    settings = make_settings(database_url=humble_url)
    await migrate(settings)
    connection = await asyncpg.connect(empty_database_url)
    await add_sources(connection, 1)
    await add_logs(connection, logs(1, [0, 2]))
    before = await connection.fetch(HOURS)
    await connection.execute(
        """
        CREATE VIEW of_my_own AS SELECT hour, rows FROM app_status_hourly;
        GRANT SELECT ON app_status_hourly TO pg_monitor;
        """
    )
    await connection.execute("CREATE EXTENSION timescaledb")
    await migrate(settings)
    assert not await connection.fetchval(HAS_SUMMARY)
    await connection.execute(
        "SELECT create_hypertable('app_logs', by_range('created_at'), "
        "create_default_indexes => false, migrate_data => true)"
    )
    await migrate(settings)
    assert await connection.fetchval(HAS_SUMMARY)
    await stop_refreshing(connection)
    assert await connection.fetch(HOURS) == before
    assert await connection.fetchval("SELECT rows FROM of_my_own") == 2
    rights = "SELECT has_table_privilege('pg_monitor', 'app_status_hourly', 'SELECT')"
    assert await connection.fetchval(rights)
    await connection.close()


async def test_under_the_apache_licence_the_view_stays_plain(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    if await connection.fetchval(LICENSE) != "apache":
        await connection.close()
        pytest.skip("this server has no TimescaleDB under the Apache licence")
    await add_sources(connection, 1)
    await add_logs(connection, logs(1, [0, 2]))
    assert await connection.fetchval("SELECT rows FROM app_status_hourly") == 2
    assert not await connection.fetchval(HAS_SUMMARY)
    await connection.close()
