"""An unusable database: `migrate` and `serve` report it in one clear line and change nothing."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from receiver.config.catalogue import built_in
from receiver.config.settings import Settings
from receiver.errors import SchemaError, SetupError
from receiver.process.app import STORE
from receiver.process.serve import serve
from receiver.storage.connection.connecting import is_distributed
from receiver.storage.connection.database import session
from receiver.storage.schema import requirements, timescale
from receiver.storage.schema.requirements import RIGHTS_OF_CITUS, rights
from receiver.storage.schema.revisions import check_schema, migrate
from tests.conftest import MakeSettings
from tests.receivers import Point, receiving
from tests.roles import as_role, execute, latin1_database, plain_role
from tests.waiting import until

CONTENTS = """
SELECT c.relname, c.relkind::text, c.relacl::text FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION ALL SELECT extname, 'extension', extversion FROM pg_extension
ORDER BY 1, 2
"""
NOW = 1_700_000_000_000
DEADLINE = 30
AssertRefused = Callable[..., Awaitable[None]]


@pytest.fixture
async def role(empty_database_url: str) -> AsyncIterator[str]:
    async with plain_role(empty_database_url) as role:
        yield role


async def contents(database_url: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(database_url)
    found = [tuple(row) for row in await connection.fetch(CONTENTS)]
    await connection.close()
    return found


async def ended(*words: str) -> tuple[int | None, str]:
    """Run a command; return its exit code and its standard error."""
    environment = {name: os.environ[name] for name in os.environ if "RECEIVER" not in name}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "receiver", *words),
        stderr=asyncio.subprocess.PIPE,
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        async with asyncio.timeout(DEADLINE):
            _, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode, errors.decode()


@pytest.fixture
def assert_refused(make_settings: MakeSettings) -> AssertRefused:
    """Return a check that both commands fail with the expected error, and change nothing."""

    async def check(database_url: str, *wanted: str, look_as: str | None = None) -> None:
        before = await contents(look_as or database_url)
        settings = make_settings(database_url=database_url)
        for command in (migrate, serve):
            with pytest.raises(SetupError) as refused:
                async with asyncio.timeout(DEADLINE):
                    await command(settings)
            assert all(word in str(refused.value) for word in wanted), refused.value
            assert "\n" not in str(refused.value)
        assert await contents(look_as or database_url) == before

    return check


async def skip_without_timescaledb(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    offers = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')"
    )
    await connection.close()
    if not offers:
        pytest.skip("this server has no TimescaleDB; RECEIVER_TEST_DATABASE_URL can name one")


async def test_a_refusal_is_one_line(empty_database_url: str) -> None:
    await execute(empty_database_url, "CREATE TABLE app_logs (theirs TEXT)")
    database = ("--database-url", empty_database_url)
    for words in (("migrate", *database), ("serve", "--listen", "127.0.0.1:0", *database)):
        code, errors = await ended(*words)
        *log, message = errors.splitlines()
        assert message.startswith("receiver: schema public of database receiver_test_")
        assert all("INFO" in line for line in log)
        assert code == 1


async def test_no_right_to_create_tables(
    assert_refused: AssertRefused, empty_database_url: str, role: str
) -> None:
    await execute(empty_database_url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    await assert_refused(
        as_role(empty_database_url, role),
        f"role {role} may not create tables in schema public",
        f"GRANT USAGE, CREATE ON SCHEMA public TO {role}",
        look_as=empty_database_url,
    )


async def test_no_schema_at_all(
    assert_refused: AssertRefused, empty_database_url: str, role: str
) -> None:
    await execute(empty_database_url, "DROP SCHEMA public")
    await assert_refused(
        as_role(empty_database_url, role),
        'no schema of the search_path ("$user", public) is usable',
        look_as=empty_database_url,
    )


async def test_no_right_to_connect(
    assert_refused: AssertRefused, empty_database_url: str, role: str
) -> None:
    connection = await asyncpg.connect(empty_database_url)
    name = await connection.fetchval("SELECT current_database()")
    await connection.close()
    await execute(empty_database_url, f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")
    await assert_refused(
        as_role(empty_database_url, role),
        f'permission denied for database "{name}"',
        look_as=empty_database_url,
    )


async def test_no_right_to_create_the_extension(
    assert_refused: AssertRefused, empty_database_url: str, role: str
) -> None:
    await skip_without_timescaledb(empty_database_url)
    await execute(empty_database_url, f"GRANT CREATE ON SCHEMA public TO {role}")
    await assert_refused(
        as_role(empty_database_url, role),
        f"role {role} may not create it",
        "CREATE EXTENSION timescaledb",
        look_as=empty_database_url,
    )


async def test_an_extension_that_the_server_does_not_load(
    assert_refused: AssertRefused, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await skip_without_timescaledb(empty_database_url)
    await execute(empty_database_url, "CREATE EXTENSION timescaledb")
    monkeypatch.setattr(requirements, "IS_LOADED", "SELECT false")
    await assert_refused(empty_database_url, "does not load it: ", "shared_preload_libraries")


@pytest.mark.parametrize("table", ["app_logs", "error_codes", "sources", "alembic_version"])
async def test_a_database_of_another_application(
    assert_refused: AssertRefused, empty_database_url: str, table: str
) -> None:
    await execute(empty_database_url, f"CREATE TABLE {table} (version_num TEXT)")
    await assert_refused(empty_database_url, f"has {table} of another application", "?search_path=")


async def test_another_applications_tables_in_another_schema_are_in_nobodys_way(
    empty_database_url: str, make_settings: MakeSettings
) -> None:
    others = "CREATE TABLE public.app_logs (theirs TEXT); CREATE SCHEMA ours"
    await execute(empty_database_url, others)
    url = empty_database_url + ("&" if "?" in empty_database_url else "?")
    settings = make_settings(database_url=f"{url}search_path=ours,public")
    async with receiving(settings) as receiver:
        await receiver.send(*pair(0))
    connection = await asyncpg.connect(empty_database_url)
    assert await connection.fetchval("SELECT count(*) FROM ours.app_logs") == 1
    assert await connection.fetchval("SELECT count(*) FROM public.app_logs") == 0
    await connection.close()


async def test_a_schema_newer_than_the_code(
    assert_refused: AssertRefused, database_url: str
) -> None:
    await execute(database_url, "UPDATE receiver_schema_version SET version_num = '9999'")
    await assert_refused(database_url, "9999, which is newer", "install a newer receiver")


async def test_a_database_that_is_not_utf8(assert_refused: AssertRefused, server_url: str) -> None:
    async with latin1_database(server_url) as url:
        await assert_refused(url, "LATIN1, it must be UTF8", "ENCODING 'UTF8'")


async def test_a_server_too_old(
    empty_database_url: str, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "OLDEST_SERVER", 99)
    settings = make_settings(database_url=empty_database_url)
    before = await contents(empty_database_url)
    with pytest.raises(SetupError, match=r"PostgreSQL 1\d\.\d+.* is too old.* 99 or newer"):
        await migrate(settings)
    for migrates in (True, False):
        changed = settings.model_copy(update={"migrate_on_start": migrates})
        async with receiving(changed, wait=False) as receiver:
            with pytest.raises(SetupError, match="is too old"):
                await receiver.app[STORE].opening
    assert await contents(empty_database_url) == before


async def test_no_right_to_write(assert_refused: AssertRefused, database_url: str) -> None:
    async with plain_role(database_url) as role:
        await grant(database_url, role)
        await execute(database_url, f"REVOKE INSERT ON sources, app_logs FROM {role}")
        await assert_refused(
            as_role(database_url, role),
            f"role {role} lacks INSERT on sources, INSERT on app_logs: ",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ",
            look_as=database_url,
        )


async def test_no_right_to_add_to_rows_that_may_lack_a_sample(
    assert_refused: AssertRefused, database_url: str
) -> None:
    # The state after the column was added to a table with rows.
    await execute(database_url, "ALTER TABLE app_logs ALTER COLUMN ocr_value DROP NOT NULL")
    async with plain_role(database_url) as role:
        await grant(database_url, role)
        await execute(database_url, f"REVOKE UPDATE ON app_logs FROM {role}")
        await assert_refused(
            as_role(database_url, role),
            f"role {role} lacks UPDATE on app_logs: ",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ",
            look_as=database_url,
        )


async def test_the_rights_that_are_asked_for_are_enough(
    database_url: str, connection: asyncpg.Connection, make_settings: MakeSettings
) -> None:
    """They suffice to store rows, whole or sample by sample, and to show them."""
    async with plain_role(database_url) as role:
        settings = make_settings(
            database_url=as_role(database_url, role),
            migrate_on_start=False,
            maintenance_interval="1s",
        )
        with pytest.raises(SchemaError, match=f"role {role} lacks ") as asked:
            await check_schema(settings)
        await connection.execute(str(asked.value).partition(" run ")[2])
        async with receiving(settings) as receiver:
            for _ in range(2):
                await receiver.send(*scrape(NOW), *scrape(NOW + 1, 77))
            await receiver.send(*scrape(NOW, 5))
            for sample in scrape(NOW + 2):
                await receiver.send(sample)
            for path in ("/", "/board", "/logs", "/rejected", "/codes", "/reports", "/calendar"):
                assert (await receiver.get(path))[0] == 200, path
    assert await connection.fetchval("SELECT count(*) FROM app_logs") == 3
    assert await connection.fetchval("SELECT count(*) FROM rejected_samples") == 1


def scrape(timestamp: int, status: float = 0) -> list[Point]:
    """Return the samples of one row."""
    return [
        ({"__name__": "app_status"}, timestamp, status),
        ({"__name__": "ocr_value"}, timestamp, timestamp / 1000),
    ]


# --- temporary obstacles -----------------------------------------------------------------------


async def test_a_database_that_is_yet_to_be_made_is_waited_for(
    empty_database_url: str, make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    parts = urlsplit(empty_database_url)
    later = f"{parts.path[1:]}_later"
    server = await asyncpg.connect(empty_database_url)
    try:
        settings = make_settings(database_url=parts._replace(path=f"/{later}").geturl())
        async with receiving(settings, wait=False) as receiver:
            await until(lambda: f'database "{later}" does not exist' in caplog.text)
            assert not receiver.app[STORE].opening.done()
            await server.execute(f"CREATE DATABASE {later} ENCODING 'UTF8' TEMPLATE template0")
            await until(receiver.ready)
    finally:
        await server.execute(f"DROP DATABASE IF EXISTS {later} WITH (FORCE)")
        await server.close()


# --- what is not required -----------------------------------------------------------------------


async def grant(database_url: str, role: str) -> None:
    """Grant the required privileges to a role, and no others."""
    connection = await asyncpg.connect(database_url)
    required = rights(built_in())
    if await is_distributed(connection):
        required |= RIGHTS_OF_CITUS
    for name, granted in required.items():
        await connection.execute(f"GRANT {', '.join(granted)} ON {name} TO {role}")
    await connection.close()


@pytest.mark.parametrize("may_create", [True, False])
async def test_an_extension_that_is_not_loaded_is_done_without(
    empty_database_url: str,
    role: str,
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    *,
    may_create: bool,
) -> None:
    await skip_without_timescaledb(empty_database_url)
    await execute(empty_database_url, f"GRANT CREATE ON SCHEMA public TO {role}")
    for module in (requirements, timescale):
        monkeypatch.setattr(module, "IS_LOADED", "SELECT false")
    url = empty_database_url if may_create else as_role(empty_database_url, role)
    await migrate(make_settings(database_url=url))
    found = await contents(empty_database_url)
    assert ("app_logs", "r", None) in found
    assert "timescaledb" not in {name for name, _, _ in found}


def pair(number: int, status: float = 0) -> list[Point]:
    return [
        ({"__name__": "app_status", "instance": "a"}, NOW + number, status),
        ({"__name__": "ocr_value", "instance": "a"}, NOW + number, NOW / 1000),
    ]


async def test_the_rights_that_are_required_are_enough(
    database_url: str, connection: asyncpg.Connection, make_settings: MakeSettings
) -> None:
    async with plain_role(database_url) as role:
        await grant(database_url, role)
        settings = make_settings(
            database_url=as_role(database_url, role),
            migrate_on_start=False,
            maintenance_interval="50ms",
            pair_timeout="100ms",
        )
        await send_everything(settings)
    codes = await connection.fetch("SELECT app_status FROM app_logs ORDER BY created_at")
    assert [row["app_status"] for row in codes] == [0, 7, 0]


async def send_everything(settings: Settings) -> None:
    """Send samples of every kind: pairs, single, repeated, contradicting, and rejected ones."""
    async with receiving(settings) as receiver, session(settings) as connection:
        await receiver.send(*pair(0))
        await receiver.send(*pair(0), *pair(1, 7))
        for half in pair(2):
            await receiver.send(half)
        await receiver.send(pair(0, 1)[0])
        await receiver.send(*pair(3, 0.5))

        async def settled() -> bool:
            waiting = await connection.fetchval("SELECT count(*) FROM pending_rows")
            rejected = await connection.fetchval("SELECT count(*) FROM rejected_samples")
            return (waiting, rejected) == (0, 3)

        await until(settled)


async def test_the_rights_that_are_advised_can_be_granted_whatever_a_table_is_called(
    empty_database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    file = tmp_path / "tables.yaml"
    column = "{columns: {a: {metric: a, type: double}}}"
    file.write_text(f"tables: {{user: {column}, Table: {column}, '압력 (bar)': {column}}}")
    await migrate(make_settings(database_url=empty_database_url, tables_file=file))
    async with plain_role(empty_database_url) as role:
        url = as_role(empty_database_url, role)
        settings = make_settings(database_url=url, tables_file=file)
        with pytest.raises(SetupError, match="lacks") as refused:
            await check_schema(settings)
        await execute(empty_database_url, str(refused.value).partition("run ")[2])
        await check_schema(settings)
