"""Foreign keys are checked once per batch, and no row is ever an orphan."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from receiver.errors import DatabaseUnavailableError, MissingReferenceError, UnavailableError
from receiver.rows.model import Row, Source
from receiver.rows.tables import Table
from receiver.storage.connection.database import Database
from receiver.storage.connection.places import quote
from receiver.storage.schema.revisions import migrate
from receiver.storage.writing import references
from receiver.storage.writing.references import FEWEST
from receiver.storage.writing.writer import Options, Writer
from tests.conftest import MakeSettings
from tests.databases import opened_database
from tests.roles import as_role, plain_role
from tests.rows import (
    CATALOGUE,
    NOW,
    contents,
    count,
    row,
    source,
)

CODES = '{"app_status": {"table": "error_codes", "keys": [0]}}'
ROLE = "SELECT current_setting('session_replication_role')"
OBSTACLE = f"SELECT receiver_references_obstacle('app_logs', '{CODES}')"


async def skip_on_hypertable(connection: asyncpg.Connection) -> None:
    if await connection.fetchval("SELECT to_regclass('timescaledb_information.hypertables')"):
        pytest.skip("a hypertable's references are checked row by row")


def batch(who: Source, start: int, status: int = 0) -> list[Row]:
    return [row(who, NOW + start + number, status) for number in range(FEWEST)]


@pytest.mark.parametrize("enabled", [True, False])
async def test_a_batch_is_checked_once(
    database: Database, connection: asyncpg.Connection, *, enabled: bool
) -> None:
    await skip_on_hypertable(connection)
    writer = Writer(database, CATALOGUE, options=Options(checks_batches=enabled))
    who = source()
    await writer.write(contents(row(who)))
    reads = "SELECT idx_scan FROM pg_stat_xact_user_tables WHERE relname = 'sources'"
    counted: list[int] = []

    async with database.transaction() as used:
        before = await used.fetchval(reads)
        await used.fetchval("SELECT receiver_check_references('app_logs', $1, $2)", CODES, [who.id])
        counted.append(await used.fetchval(reads) - before)
    assert counted[0] <= 2
    await writer.write(contents(*batch(who, 1)))
    await writer.write(contents(*batch(who, 1)))
    assert await count(connection, "app_logs") == 1 + FEWEST
    assert await connection.fetchval(OBSTACLE) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
            "CREATE TRIGGER t AFTER INSERT ON app_logs EXECUTE FUNCTION t()",
            "triggers",
        ),
        (
            "CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
            "CREATE TRIGGER t BEFORE INSERT ON app_logs FOR EACH ROW EXECUTE FUNCTION t();"
            "ALTER TABLE app_logs ENABLE REPLICA TRIGGER t",
            "triggers",
        ),
        ("ALTER TABLE app_logs ADD UNIQUE (id) DEFERRABLE INITIALLY DEFERRED", "triggers"),
        (
            "CREATE TABLE lines (id INT PRIMARY KEY);"
            "ALTER TABLE app_logs ADD line INT REFERENCES lines",
            "foreign keys",
        ),
        ("CREATE TABLE part () INHERITS (app_logs)", "partitions"),
    ],
)
async def test_where_more_would_be_left_out_each_row_is_checked(
    database: Database,
    connection: asyncpg.Connection,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    said: str,
) -> None:
    await skip_on_hypertable(connection)
    caplog.set_level("INFO")
    monkeypatch.setattr(references, "REST", 0)
    await connection.execute(change)
    assert said in await connection.fetchval(OBSTACLE)
    writer = Writer(database, CATALOGUE)
    for start in (0, FEWEST):
        await writer.write(contents(*batch(source(), start)))
    assert await count(connection, "app_logs") == 2 * FEWEST
    logged = [text for text in caplog.messages if "checked row by row" in text]
    assert len(logged) == 1
    assert said in logged[0]


async def test_a_trigger_of_the_users_runs_from_its_first_row_on(
    database: Database, connection: asyncpg.Connection
) -> None:
    await skip_on_hypertable(connection)
    writer, who = Writer(database, CATALOGUE), source()
    await writer.write(contents(*batch(who, 0)))
    await connection.execute(
        """
        CREATE TABLE seen (id BIGINT);
        CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO seen VALUES (NEW.id); RETURN NEW; END';
        CREATE TRIGGER see AFTER INSERT ON app_logs FOR EACH ROW EXECUTE FUNCTION see()
        """
    )
    await writer.write(contents(*batch(who, FEWEST)))
    assert await count(connection, "seen") == FEWEST


@pytest.mark.parametrize("rows", [1, FEWEST])
async def test_a_batch_sees_what_others_commit_meanwhile_whatever_the_default_is(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection, rows: int
) -> None:
    name = await connection.fetchval("SELECT quote_ident(current_database())")
    await connection.execute(
        f"""
        ALTER DATABASE {name} SET default_transaction_isolation = 'serializable';
        CREATE TABLE seen (level TEXT);
        CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO seen SELECT current_setting(''transaction_isolation''); RETURN NEW; END';
        CREATE TRIGGER see AFTER INSERT ON app_logs FOR EACH ROW EXECUTE FUNCTION see()
        """
    )
    async with opened_database(make_settings(database_url=database_url)) as database:
        await Writer(database, CATALOGUE).write(contents(*batch(source(), 0)[:rows]))
    seen = await connection.fetch("SELECT DISTINCT level FROM seen")
    assert [level for (level,) in seen] == ["read committed"]


async def test_a_role_that_may_not_checks_each_row(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    async with plain_role(database_url) as role:
        await connection.execute(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
        )
        settings = make_settings(database_url=as_role(database_url, role))
        async with opened_database(settings) as database:
            async with database.transaction() as used:
                assert "may not set session_replication_role" in await used.fetchval(OBSTACLE)
            await Writer(database, CATALOGUE).write(contents(*batch(source(), 0)))
    assert await count(connection, "app_logs") == FEWEST


async def test_only_a_checked_batch_skips_the_checks_by_row(
    database: Database, connection: asyncpg.Connection
) -> None:
    await skip_on_hypertable(connection)
    orphan = """
        INSERT INTO app_logs (created_at, source_id, app_status, ocr_value)
        VALUES (now(), -1, 0, now())
    """
    writer, who = Writer(database, CATALOGUE), source()
    for start in (0, FEWEST):
        await writer.write(contents(*batch(who, start)))
        async with database.connection() as used:
            assert await used.fetchval(ROLE) == "origin"
        with pytest.raises(MissingReferenceError):
            async with database.transaction() as used:
                await used.execute(orphan)
        with pytest.raises(MissingReferenceError):
            async with database.connection() as used:
                await used.execute(orphan)
    assert await count(connection, "app_logs") == 2 * FEWEST


async def test_a_session_skips_triggers_until_it_is_used_for_something_else(
    database: Database, connection: asyncpg.Connection
) -> None:
    """Changing the setting for each batch discards the plans of the functions that check it."""
    await skip_on_hypertable(connection)
    await Writer(database, CATALOGUE).write(contents(*batch(source(), 0)))
    (used,) = await connection.fetch(
        "SELECT pid, query FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND query LIKE '%COPY%'"
    )
    async with database.transaction(skips_triggers=True) as session:
        assert session.get_server_pid() == used["pid"]
        assert await session.fetchval(ROLE) == "replica"
        await session.execute("ROLLBACK; BEGIN")
        assert await session.fetchval(ROLE) == "replica"


async def test_a_session_that_may_not_check_again_is_ended(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    await skip_on_hypertable(connection)
    if connection.get_server_version().major < 15:
        pytest.skip("only superusers may set session_replication_role")
    grant = "ON PARAMETER session_replication_role"
    async with plain_role(database_url) as role:
        await connection.execute(f"GRANT SET {grant} TO {role}")
        settings = make_settings(database_url=as_role(database_url, role))
        async with opened_database(settings) as database:
            async with database.transaction(skips_triggers=True) as used:
                pid = used.get_server_pid()
            await connection.execute(f"REVOKE SET {grant} FROM {role}")
            with pytest.raises(DatabaseUnavailableError):
                async with database.connection():
                    pass
            async with database.connection() as used:
                assert used.get_server_pid() != pid
                assert await used.fetchval(ROLE) == "origin"


DECLARED = """
tables:
  "로봇 table":
    labels: {job: text}
    columns:
      상태: {metric: robot_state, type: code, codes: "robot states"}
      load: {metric: robot_load, type: double}
"""
BUILT_IN = """
tables:
  app_logs:
    columns:
      app_status: {metric: app_status, type: code, codes: error_codes}
      ocr_value: {metric: ocr_value, type: timestamp}
"""


CHANGING = 2.0
"""Seconds. Codes that never stop changing could keep a batch from ever being stored."""


async def send(writer: Writer, tables: Sequence[Table], number: int, end: float) -> int:
    """Write batches of new sources, each until it is stored; return the number of batches."""
    turn = 0
    while time.monotonic() < end:
        rows: list[Row] = []
        for table in tables:
            who = source(f"{number} {turn}", table)
            rows += batch(who, turn * 1000, status=7 + turn % 2)
            rows += batch(who, turn * 1000 + 500, status=9)
        stored = False
        while not stored:
            with suppress(UnavailableError):
                await writer.write(contents(*rows))
                stored = True
        turn += 1
    return turn


async def renumber(other: asyncpg.Connection, code_tables: Sequence[str], end: float) -> None:
    for code, codes in itertools.cycle(itertools.product((7, 8, 9), map(quote, code_tables))):
        if time.monotonic() > end:
            return
        for statement in (
            f"UPDATE {codes} SET code = code + 100 WHERE code = {code}",
            f"DELETE FROM {codes} WHERE code = {code + 100}",
        ):
            with suppress(asyncpg.PostgresError):
                await other.execute(statement)
        # Without a pause hardly any batch is stored, and few batches would reveal few orphans.
        await asyncio.sleep(0.005)


async def delete(other: asyncpg.Connection, _: Sequence[str], end: float) -> None:
    while time.monotonic() < end:
        for (id_,) in await other.fetch("SELECT id FROM sources ORDER BY id DESC LIMIT 2"):
            with suppress(asyncpg.PostgresError):
                await other.execute("DELETE FROM sources WHERE id = $1", id_)
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "declared",
    [BUILT_IN, DECLARED, BUILT_IN + DECLARED.replace("tables:", "")],
    ids=["app_logs", "declared", "both in one batch"],
)
async def test_no_row_is_an_orphan_while_codes_and_sources_change(
    empty_database_url: str, make_settings: MakeSettings, tmp_path: Path, declared: str
) -> None:
    """Fails if the codes and sources are looked up without a lock."""
    file = tmp_path / "tables.yaml"
    file.write_text(declared)
    settings = make_settings(database_url=empty_database_url, tables_file=file)
    await migrate(settings)
    connection = await asyncpg.connect(empty_database_url)
    await skip_on_hypertable(connection)
    catalogue = settings.catalogue
    databases = [Database(settings) for _ in range(2)]
    others = [await asyncpg.connect(empty_database_url) for _ in range(2)]
    for database in databases:
        await database.open()
    end = time.monotonic() + CHANGING
    changing = [
        asyncio.create_task(change(other, catalogue.code_tables, end))
        for change, other in zip((renumber, delete), others, strict=True)
    ]
    writers = [Writer(database, catalogue) for database in databases]
    turns = await asyncio.gather(
        *(send(writer, catalogue.tables, place, end) for place, writer in enumerate(writers))
    )
    await asyncio.gather(*changing)
    for table in catalogue.tables:
        assert await count(connection, quote(table.name)) == sum(turns) * 2 * FEWEST
        (column,) = table.codes
        orphans = f"""
            SELECT count(*) FROM {quote(table.name)} t
            WHERE NOT EXISTS (
                SELECT FROM {quote(column.codes)} c WHERE c.code = t.{quote(column.name)}
            ) OR NOT EXISTS (SELECT FROM sources s WHERE s.id = t.source_id)
        """
        assert await connection.fetchval(orphans) == 0
    assert await connection.fetchval("SELECT count(*) FROM rejected_samples") == 0
    for used in (*others, *databases, connection):
        await used.close()
