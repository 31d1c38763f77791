"""The declaration in force, and the error for receivers with a different one."""

from __future__ import annotations

import logging

import asyncpg
import pytest

from receiver.errors import SchemaError
from receiver.storage.connection.database import Database
from receiver.storage.schema.declaration import declaration_obstacle
from receiver.storage.schema.revisions import check_schema, migrate
from tests.conftest import MakeSettings
from tests.declaring import APP_LOGS, PRESSES, declare, with_columns
from tests.roles import as_role, plain_role

BY = "SELECT declared_by FROM receiver_tables"


async def test_the_same_declaration_is_no_obstacle(
    database_url: str, make_settings: MakeSettings, database: Database
) -> None:
    built_in = make_settings(database_url=database_url)
    by_file = declare(make_settings, database_url, app_logs=APP_LOGS)
    # Retention and timeouts are not part of the compared declaration.
    other_times = make_settings(database_url=database_url, retention="1d", pair_timeout="1h")
    for settings in (built_in, by_file, other_times):
        async with database.connection() as connection:
            assert await declaration_obstacle(connection, settings.catalogue) is None
        await check_schema(settings)


async def test_another_declaration_is_described_in_a_line(
    database_url: str,
    make_settings: MakeSettings,
    database: Database,
    connection: asyncpg.Connection,
) -> None:
    await migrate(declare(make_settings, database_url, app_logs=APP_LOGS, presses=PRESSES))
    by = await connection.fetchval(BY)
    changed = with_columns(
        PRESSES,
        strokes={"metric": "press_strokes", "type": "bigint"},
        heat={"metric": "heat", "type": "double"},
        pressure=None,
    )
    ours = declare(
        make_settings, database_url, presses={**changed, "match": {"job": "x"}}, more=APP_LOGS
    )
    async with database.connection() as used:
        obstacle = await declaration_obstacle(used, ours.catalogue)
    assert obstacle is not None
    assert obstacle.startswith(f"the tables were declared differently by {by} at 2")
    for part in (
        "table app_logs is only in the database",
        "table more is only in this receiver",
        "column presses.heat is only in this receiver",
        "column presses.pressure is only in the database",
        "column presses.strokes has metric press_strokes_total in the database, press_strokes in "
        "this receiver and required false in the database, true in this receiver",
        ", and 1 more; give every receiver",
        "or run `receiver migrate` with these",
    ):
        assert part in obstacle
    assert "\n" not in obstacle
    with pytest.raises(SchemaError) as refused:
        await check_schema(ours)
    assert str(refused.value) == obstacle


async def test_whoever_migrates_puts_his_declaration_in_force(
    database_url: str,
    make_settings: MakeSettings,
    connection: asyncpg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = make_settings(database_url=database_url)
    second = make_settings(database_url=database_url, status_metric="press_status")
    with caplog.at_level(logging.INFO):
        await migrate(second)
    (line,) = [line for line in caplog.messages if "declaration" in line]
    assert "has metric app_status in the database, press_status in this receiver" in line
    await check_schema(second)
    with pytest.raises(SchemaError, match="press_status in the database, app_status in this"):
        await check_schema(first)
    assert await connection.fetchval("SELECT count(*) FROM receiver_tables") == 1


async def test_a_database_without_a_declaration_is_yet_to_be_migrated(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    await connection.execute("DELETE FROM receiver_tables")
    settings = make_settings(database_url=database_url)
    with pytest.raises(SchemaError, match="no declaration of tables is in force: run `receiver mi"):
        await check_schema(settings)
    await migrate(settings)
    await check_schema(settings)


async def test_a_declaration_holds_any_text(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET standard_conforming_strings = off', "
        "current_database()); END $$"
    )
    table = {**PRESSES, "match": {"job": "a\\.b'c\\\\", "줄": ".*"}}
    settings = declare(make_settings, database_url, presses=table)
    await migrate(settings)
    await check_schema(settings)
    found = await connection.fetchval(
        "SELECT declaration #>> '{tables,presses,match,job}' FROM receiver_tables"
    )
    assert found == "a\\.b'c\\\\"


async def test_a_role_that_only_stores_needs_no_more_than_to_read_it(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    async with plain_role(database_url) as role:
        await connection.execute(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};"
            f"REVOKE INSERT, UPDATE, DELETE ON receiver_tables FROM {role}"
        )
        url = as_role(database_url, role)
        await migrate(make_settings(database_url=url))
        await check_schema(make_settings(database_url=url))
        with pytest.raises(SchemaError, match="permission denied for table receiver_tables"):
            await migrate(make_settings(database_url=url, status_metric="other"))
        await connection.execute(f"REVOKE ALL ON receiver_tables FROM {role}")
        with pytest.raises(SchemaError, match="lacks SELECT on receiver_tables"):
            await check_schema(make_settings(database_url=url))
