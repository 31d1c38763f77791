"""Declared tables: created, widened, never narrowed."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import asyncpg
import pytest

from receiver.errors import SchemaError
from receiver.storage.schema.revisions import check_schema, migrate, plan
from tests.conftest import MakeSettings
from tests.declaring import (
    APP_LOGS,
    PRESSES,
    columns_of,
    declare,
    run_plan,
    schema_of,
    with_columns,
)
from tests.roles import as_role, plain_role, run_script
from tests.waiting import until

SOURCE = "INSERT INTO sources (labels, digest) VALUES ('{}', '') RETURNING id"
TIMESTAMP = "timestamp with time zone"
LONGEST = "x" * 63
"""A name of the maximum length in PostgreSQL, 63 bytes."""


async def test_a_declared_table_has_its_columns(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    await migrate(declare(make_settings, database_url, app_logs=APP_LOGS, presses=PRESSES))
    assert await columns_of(connection, "presses") == {
        "id": ("bigint", True),
        "created_at": (TIMESTAMP, True),
        "line": ("text", False),
        "place": ("bigint", False),
        "pressure": ("double precision", True),
        "state": ("integer", True),
        "strokes": ("bigint", False),
        "source_id": ("integer", True),
    }
    assert await columns_of(connection, "press_states") == {
        "code": ("integer", True),
        "name": ("text", True),
        "description": ("text", False),
        "created_at": (TIMESTAMP, False),
    }
    indexes = "SELECT indexdef FROM pg_indexes WHERE tablename = 'presses' ORDER BY 1"
    assert [index.partition(" USING ")[2] for (index,) in await connection.fetch(indexes)] == [
        "btree (created_at DESC)",
        "btree (source_id, created_at)",
    ]


async def test_codes_are_those_of_their_table(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    await migrate(declare(make_settings, database_url, presses=PRESSES))
    id_ = await connection.fetchval(SOURCE)
    insert = f"INSERT INTO presses (pressure, state, source_id) VALUES (1, 7, {id_})"
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await connection.execute(insert)
    await connection.execute("INSERT INTO press_states VALUES (7, 'STUCK')")
    await connection.execute(insert)
    await connection.execute("UPDATE press_states SET code = 8")
    assert await connection.fetchval("SELECT state FROM presses") == 8


async def test_to_migrate_again_changes_and_locks_nothing(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    settings = declare(make_settings, database_url, app_logs=APP_LOGS, presses=PRESSES)
    await migrate(settings)
    before = await schema_of(connection)
    assert await plan(settings) == []
    async with connection.transaction():
        # A migration would wait for any lock that it takes.
        await connection.execute("LOCK TABLE presses, press_states, error_codes IN SHARE MODE")
        async with asyncio.timeout(20):
            await migrate(settings)
    assert await schema_of(connection) == before


async def test_replicas_may_make_tables_at_once(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    settings = declare(make_settings, database_url, presses=PRESSES)
    await asyncio.gather(*(migrate(settings) for _ in range(4)))
    await check_schema(settings)
    assert await connection.fetchval("SELECT count(*) FROM receiver_tables") == 1


async def test_what_is_added_later_may_be_null(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    await migrate(declare(make_settings, database_url, presses=PRESSES))
    id_ = await connection.fetchval(SOURCE)
    await connection.execute("INSERT INTO press_states VALUES (0, 'OK')")
    await connection.execute(
        f"INSERT INTO presses (pressure, state, source_id) VALUES (1, 0, {id_})"
    )
    wider = with_columns(
        PRESSES,
        heat={"metric": "press_heat", "type": "double"},
        alarm={"metric": "press_alarm", "type": "code", "codes": "alarms"},
    )
    wider["labels"] = {**PRESSES["labels"], "shift": "text"}
    await migrate(declare(make_settings, database_url, presses=wider))
    columns = await columns_of(connection, "presses")
    assert columns["heat"] == ("double precision", False)
    assert columns["alarm"] == ("integer", False)
    assert columns["shift"] == ("text", False)
    row = await connection.fetchrow("SELECT pressure, heat, alarm, shift FROM presses")
    assert tuple(row) == (1.0, None, None, None)
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await connection.execute("UPDATE presses SET alarm = 7")


async def test_what_is_not_declared_any_more_stays_and_is_not_needed(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    await migrate(declare(make_settings, database_url, app_logs=APP_LOGS, presses=PRESSES))
    narrower = with_columns(PRESSES, pressure=None)
    await migrate(declare(make_settings, database_url, presses=narrower))
    columns = await columns_of(connection, "presses")
    assert columns["pressure"] == ("double precision", False)
    assert columns["state"] == ("integer", True)
    # A table that is no longer declared is left unchanged.
    assert (await columns_of(connection, "app_logs"))["ocr_value"] == (TIMESTAMP, True)
    await migrate(declare(make_settings, database_url, app_logs=APP_LOGS, presses=PRESSES))
    assert (await columns_of(connection, "presses"))["pressure"] == ("double precision", False)


async def test_a_column_that_becomes_optional_need_not_have_a_value(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    optional = {"metric": "ocr_value", "type": "timestamp", "required": False}
    await migrate(
        declare(make_settings, database_url, app_logs=with_columns(APP_LOGS, ocr_value=optional))
    )
    assert (await columns_of(connection, "app_logs"))["ocr_value"] == (TIMESTAMP, False)


async def test_columns_of_the_users_own_are_left_alone(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    await run_script(
        connection,
        """
        ALTER TABLE app_logs ADD plant TEXT NOT NULL DEFAULT 'A', ADD line TEXT;
        UPDATE app_logs SET line = 'x';
        ALTER TABLE app_logs ALTER line SET NOT NULL;
        CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN NEW.line := ''x''; RETURN NEW; END';
        CREATE TRIGGER fill BEFORE INSERT ON app_logs FOR EACH ROW EXECUTE FUNCTION fill()
        """,
    )
    settings = make_settings(database_url=database_url)
    assert await plan(settings) == []
    optional = with_columns(APP_LOGS, ocr_value=None)
    await migrate(declare(make_settings, database_url, app_logs=optional))
    columns = await columns_of(connection, "app_logs")
    assert columns["plant"] == ("text", True)
    assert columns["line"] == ("text", True)
    assert columns["ocr_value"] == (TIMESTAMP, False)


async def test_a_column_that_nobody_fills_keeps_no_row_out(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    await connection.execute("ALTER TABLE app_logs ADD line TEXT")
    await connection.execute("ALTER TABLE app_logs ALTER line SET NOT NULL")
    await migrate(make_settings(database_url=database_url))
    assert (await columns_of(connection, "app_logs"))["line"] == ("text", False)


@pytest.mark.parametrize("wider", ["bigint", "numeric", "count"])
async def test_a_type_that_somebody_has_widened_is_left_alone(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection, wider: str
) -> None:
    # TimescaleDB changes no type where chunks may be compressed.
    settings = declare(make_settings, database_url, presses={**PRESSES, "compress_after": "off"})
    await migrate(settings)
    await connection.execute("CREATE DOMAIN count AS bigint CHECK (VALUE >= 0)")
    await connection.execute("DROP VIEW presses_now")
    await connection.execute(f"ALTER TABLE presses ALTER strokes TYPE {wider}")
    await migrate(settings)
    assert (await columns_of(connection, "presses"))["strokes"][0] == wider
    assert await plan(settings) == []


async def test_a_migration_that_deadlocks_with_a_writer_is_run_again(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    """A writer has locked the second table to be widened, and requests the first."""
    table = {"columns": {"heat": {"metric": "heat", "type": "double"}}}
    wider = with_columns(table, more={"metric": "more", "type": "double"})
    await migrate(declare(make_settings, database_url, a=table, b=table))
    waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'b'::regclass AND NOT granted"
    async with connection.transaction():
        # The migration, not the writer, detects the deadlock.
        await connection.execute("SET LOCAL deadlock_timeout = '1min'")
        await connection.execute("LOCK TABLE b IN ROW EXCLUSIVE MODE")
        settings = declare(make_settings, database_url, a=wider, b=wider)
        migration = asyncio.create_task(migrate(settings))

        async def waits() -> bool:
            return bool(await connection.fetchval(waiting))

        await until(waits)
        await connection.execute("LOCK TABLE a IN ROW EXCLUSIVE MODE")
    async with asyncio.timeout(20):
        await migration
    assert await plan(settings) == []


# --- what is refused ------------------------------------------------------------------------------

RENAMED = 'ALTER TABLE "presses" RENAME TO "presses_old"'
REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "",
        with_columns(PRESSES, strokes={"metric": "s", "type": "double"}),
        "column strokes of table presses is bigint, but declared as double",
        'ALTER TABLE "presses" RENAME COLUMN "strokes" TO "strokes_old"',
    ),
    (
        "ALTER TABLE presses ADD strokes_old INT",
        with_columns(PRESSES, strokes={"metric": "s", "type": "boolean"}),
        "column strokes of table presses is bigint, but declared as boolean",
        'ALTER TABLE "presses" RENAME COLUMN "strokes" TO "strokes_old_2"',
    ),
    (
        "",
        {**PRESSES, "labels": {"line": {"label": "line", "type": "bigint"}, "place": "bigint"}},
        "column line of table presses is text, but declared as bigint",
        'ALTER TABLE "presses" RENAME COLUMN "line" TO "line_old"',
    ),
    (
        "",
        with_columns(PRESSES, state={"metric": "s", "type": "code", "codes": "error_codes"}),
        "the codes of column state of table presses are in press_states, but declared to be in "
        "error_codes",
        'ALTER TABLE "presses" RENAME COLUMN "state" TO "state_old"',
    ),
    (
        "DROP TABLE presses CASCADE; CREATE VIEW presses AS SELECT 1 AS one",
        PRESSES,
        "presses is a view, but declared as a table",
        RENAMED,
    ),
    (
        "DROP TABLE presses CASCADE; CREATE TABLE presses (id INT, made TIMESTAMPTZ)",
        PRESSES,
        "table presses is not one of the receiver's: it has no column created_at",
        RENAMED,
    ),
    (
        "DROP TABLE presses CASCADE;"
        "CREATE TABLE presses (id INT, created_at DATE, source_id INT PRIMARY KEY)",
        PRESSES,
        "its column created_at is date, not timestamp with time zone",
        RENAMED,
    ),
    (
        "DROP TABLE press_states CASCADE; CREATE TABLE press_states (code TEXT, name TEXT)",
        PRESSES,
        "table press_states is not one of the receiver's: its column code is text, not integer",
        'ALTER TABLE "press_states" RENAME TO "press_states_old"',
    ),
    (
        "ALTER TABLE press_states DROP CONSTRAINT press_states_pkey CASCADE",
        PRESSES,
        "table press_states has no unique index on (code)",
        'ALTER TABLE "press_states" ADD PRIMARY KEY (code)',
    ),
]


@pytest.mark.parametrize(("before", "table", "message", "remedy"), REFUSED)
async def test_what_is_not_additive_is_refused_with_statements_that_help(
    database_url: str,
    make_settings: MakeSettings,
    connection: asyncpg.Connection,
    before: str,
    table: dict[str, Any],
    message: str,
    remedy: str,
) -> None:
    await migrate(declare(make_settings, database_url, presses=PRESSES))
    await connection.execute(before or "SELECT")
    found = await schema_of(connection)
    settings = declare(make_settings, database_url, presses=table)
    for operation in (migrate, plan):
        with pytest.raises(SchemaError) as refused:
            await operation(settings)
        said, *lines = str(refused.value).splitlines()
        assert message in said
        assert len(lines) == 2
        assert lines[0].startswith("nothing was changed: ")
        assert lines[1] == f"{remedy};"
    assert await schema_of(connection) == found
    await connection.execute(remedy)
    await migrate(settings)
    await check_schema(settings)


async def test_the_statements_to_run_can_be_copied(
    database_url: str, make_settings: MakeSettings
) -> None:
    await migrate(declare(make_settings, database_url, presses=PRESSES))
    declare(make_settings, database_url, presses=REFUSED[0][1])
    words = ("tables", "plan", f"--database-url={database_url}", "--tables-file=tables.yaml")
    command = (sys.executable, "-m", "receiver", *words)
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, output = await process.communicate()
    message, advice, statement = output.decode().splitlines()
    assert process.returncode == 1
    assert REFUSED[0][2] in message
    assert advice.startswith("receiver: nothing was changed: ")
    assert statement == f"{REFUSED[0][3]};"


async def test_a_key_that_is_gone_is_asked_for(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    await connection.execute("ALTER TABLE app_logs DROP CONSTRAINT app_logs_pkey")
    settings = make_settings(database_url=database_url)
    with pytest.raises(SchemaError, match="has no unique index on") as refused:
        await migrate(settings)
    await connection.execute(str(refused.value).splitlines()[-1])
    await migrate(settings)


async def test_all_that_is_refused_is_named_at_once(
    database_url: str, make_settings: MakeSettings
) -> None:
    await migrate(declare(make_settings, database_url, presses=PRESSES))
    changed = with_columns(
        PRESSES,
        strokes={"metric": "s", "type": "double"},
        pressure={"metric": "p", "type": "bigint"},
    )
    with pytest.raises(SchemaError) as refused:
        await migrate(declare(make_settings, database_url, presses=changed))
    assert str(refused.value).count("\n") == 4


async def test_a_role_that_may_not_change_tables_is_said_what_to_do(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    wider = with_columns(APP_LOGS, heat={"metric": "heat", "type": "double", "required": False})
    async with plain_role(database_url) as role:
        await connection.execute(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};"
            f"GRANT CREATE ON SCHEMA public TO {role}"
        )
        url = as_role(database_url, role)
        with pytest.raises(SchemaError) as refused:
            await migrate(declare(make_settings, url, app_logs=wider))
        assert "must be owner of table app_logs" in str(refused.value)
        assert "run `receiver migrate` as the owner of the tables" in str(refused.value)
        assert "\n" not in str(refused.value)
        await migrate(declare(make_settings, database_url, app_logs=wider))
        await migrate(declare(make_settings, url, app_logs=wider))


# --- names ----------------------------------------------------------------------------------------

NAMES = ["order", "select", "Press Line", 'quo"te', "생산 현황", "a'b", "{x}", "%s", "x" * 40]


@pytest.mark.parametrize("name", NAMES)
async def test_any_name_will_do(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection, name: str
) -> None:
    columns = {
        name: {"metric": "m", "type": "code", "codes": f"{name[:30]}_c"},
        "user": {"metric": "n", "type": "bigint"},
        LONGEST: {"metric": "o", "type": "code", "codes": f"{name[:30]}_c"},
        "라" * 21: {"metric": "p", "type": "timestamp", "required": False},
    }
    table = {"labels": {"table": "text", "labels": "text", "age": "bigint"}, "columns": columns}
    settings = declare(make_settings, database_url, **{name: table})
    await migrate(settings)
    assert (await columns_of(connection, name)).keys() >= columns.keys()
    assert await plan(settings) == []
    wider = {**table, "columns": {**columns, "주문": {"metric": "q", "type": "boolean"}}}
    settings = declare(make_settings, database_url, **{name: wider})
    await migrate(settings)
    assert "주문" in await columns_of(connection, name)
    assert "주문" in await columns_of(connection, f"{name}_now")
    assert await plan(settings) == []
    for view in ("_now", "_intervals"):
        await connection.fetch(f"SELECT * FROM {quoted(name + view)}")
    await connection.fetch(f"SELECT * FROM {quoted(name + '_intervals_between')}('-infinity')")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# --- plan -----------------------------------------------------------------------------------------


async def test_a_plan_run_by_hand_is_what_migrate_does(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    settings = declare(make_settings, database_url, app_logs=APP_LOGS, presses=PRESSES)
    before = await schema_of(connection)
    await plan(settings)
    assert await schema_of(connection) == before
    assert len(await run_plan(connection, settings)) > 5
    assert await plan(settings) == []
    await check_schema(settings)
    wider = with_columns(PRESSES, heat={"metric": "heat", "type": "double"}, pressure=None)
    settings = declare(make_settings, database_url, app_logs=APP_LOGS, presses=wider)
    statements = await run_plan(connection, settings)
    assert 'ALTER TABLE "presses" ADD COLUMN "heat" double precision' in statements
    assert 'ALTER TABLE "presses" ALTER COLUMN "pressure" DROP NOT NULL' in statements
    assert await plan(settings) == []
    await check_schema(settings)


async def test_a_plan_for_an_empty_database_names_the_revisions(
    empty_database_url: str, make_settings: MakeSettings
) -> None:
    settings = declare(make_settings, empty_database_url, app_logs=APP_LOGS, presses=PRESSES)
    first, *others = await plan(settings)
    assert first.startswith("-- `receiver migrate` first applies revisions 0001, 0002")
    assert any(statement.startswith('CREATE TABLE "presses"') for statement in others)
    assert not any(statement.startswith('CREATE TABLE "app_logs"') for statement in others)
    await migrate(settings)
    assert await plan(settings) == []


async def test_what_is_done_to_tables_is_logged(
    database_url: str, make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        await migrate(declare(make_settings, database_url, presses=PRESSES))
    assert 'CREATE TABLE "presses" ( id BIGINT' in caplog.text
