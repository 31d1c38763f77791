"""TimescaleDB policies, as its own catalog shows them."""

from __future__ import annotations

import logging
from datetime import timedelta

import asyncpg
import pytest

from receiver.storage.schema.revisions import migrate
from tests.conftest import MakeSettings
from tests.roles import as_role, plain_role
from tests.timescale import FIND_VERSION, require_compression, require_timescaledb

POLICIES = """
SELECT proc_name, COALESCE(config ->> 'compress_after', config ->> 'drop_after')::interval, job_id
FROM timescaledb_information.jobs WHERE hypertable_name = 'app_logs'
"""
DAY = timedelta(days=1)


@pytest.fixture
async def connection(connection: asyncpg.Connection) -> asyncpg.Connection:
    await require_timescaledb(connection)
    return connection


async def policies(connection: asyncpg.Connection) -> dict[str, timedelta]:
    return {name: age for name, age, _ in await connection.fetch(POLICIES)}


async def test_logs_are_compressed_after_a_week_and_kept_for_ever_by_default(
    connection: asyncpg.Connection,
) -> None:
    await require_compression(connection)
    assert await policies(connection) == {"policy_compression": 7 * DAY}
    layout = await connection.fetch(
        "SELECT attname, segmentby_column_index, orderby_asc "
        "FROM timescaledb_information.compression_settings WHERE hypertable_name = 'app_logs'"
    )
    assert {tuple(column) for column in layout} == {
        ("source_id", 1, None),
        ("created_at", None, False),
    }


async def test_a_policy_follows_its_setting(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    await require_compression(connection)
    for compress_after, retention, expected in (
        ("12h", "90d", {"policy_compression": DAY / 2, "policy_retention": 90 * DAY}),
        ("12h", "60d", {"policy_compression": DAY / 2, "policy_retention": 60 * DAY}),
        ("off", "60d", {"policy_retention": 60 * DAY}),
        ("off", "off", {}),
        ("7d", "off", {"policy_compression": 7 * DAY}),
    ):
        settings = make_settings(
            database_url=database_url, compress_after=compress_after, retention=retention
        )
        await migrate(settings)
        assert await policies(connection) == expected


async def test_what_fits_already_is_left_alone(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    """A schedule or layout changed by a user is kept, and no job is restarted."""
    await require_compression(connection)
    settings = make_settings(database_url=database_url, retention="30d")
    await migrate(settings)
    await connection.execute(
        "ALTER TABLE app_logs SET (timescaledb.compress, "
        "timescaledb.compress_segmentby = 'source_id', timescaledb.compress_orderby = 'created_at')"
    )
    jobs = set(await connection.fetch(POLICIES))
    await migrate(settings)
    assert set(await connection.fetch(POLICIES)) == jobs
    ascending = (
        "SELECT bool_or(orderby_asc) FROM timescaledb_information.compression_settings "
        "WHERE hypertable_name = 'app_logs'"
    )
    assert await connection.fetchval(ascending)


async def test_a_policy_made_by_hand_yields_to_the_settings(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    await require_compression(connection)
    await connection.execute(
        "SELECT add_retention_policy('app_logs', drop_created_before => INTERVAL '1 day')"
    )
    await migrate(make_settings(database_url=database_url))
    assert await policies(connection) == {"policy_compression": 7 * DAY}


async def test_under_the_apache_license_the_rest_works(
    database_url: str,
    make_settings: MakeSettings,
    connection: asyncpg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if await connection.fetchval("SHOW timescaledb.license") != "apache":
        pytest.skip("only a server's configuration can say timescaledb.license = 'apache'")
    with caplog.at_level(logging.INFO):
        await migrate(make_settings(database_url=database_url, retention="30d"))
    assert caplog.text.count("Apache license") == 1
    assert await policies(connection) == {}


async def test_a_version_that_cannot_compress_is_named(
    database_url: str,
    make_settings: MakeSettings,
    connection: asyncpg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    version = await connection.fetchval(FIND_VERSION)
    if tuple(map(int, version.split(".")[:2])) >= (2, 16):
        pytest.skip(f"TimescaleDB {version} compresses tables with foreign keys")
    if await connection.fetchval("SHOW timescaledb.license") != "timescale":
        pytest.skip("this TimescaleDB has the Apache license")
    await migrate(make_settings(database_url=database_url, retention="30d"))
    assert caplog.text.count(f"TimescaleDB {version} cannot compress") == 1
    assert await policies(connection) == {"policy_retention": 30 * DAY}


async def test_a_role_that_does_not_own_the_table_leaves_it_alone(
    database_url: str,
    make_settings: MakeSettings,
    connection: asyncpg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = await policies(connection)
    async with plain_role(database_url) as role:
        await connection.execute(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
        )
        url = as_role(database_url, role)
        await migrate(make_settings(database_url=url, retention="30d", chunk_interval="1h"))
    assert caplog.text.count("must be owner") == 1
    assert await policies(connection) == before
