"""Everything works through a real pgbouncer, in either mode with its default configuration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from receiver.commands.cli import build_parser, load_command
from receiver.config.settings import Settings
from receiver.errors import ErrorCodeError, SetupError
from receiver.storage.diagnosis import diagnose
from receiver.storage.diagnosis.findings import Level
from receiver.storage.editing.codes import CodeTable
from receiver.storage.reading.listing import Listing
from receiver.storage.reading.selecting import default_table
from receiver.storage.reading.sources import find_named
from receiver.storage.reading.tables import (
    connect,
)
from receiver.storage.schema.revisions import migrate
from receiver.storage.writing.backfills import Bookmark, Progress
from tests.conftest import MakeSettings
from tests.databases import opened_database
from tests.poolers import ask, pooling
from tests.receivers import Point, Running, receiving

NOW = 1_700_000_000_000
CLIENTS = 20
MODES = ("session", "transaction")

# Startup parameters that a pooler may be configured to drop before they reach the server.
SWALLOW = (
    "ignore_startup_parameters = extra_float_digits,synchronous_commit,search_path,options,"
    "timescaledb.max_tuples_decompressed_per_dml_transaction,statement_timeout"
)

# Records the synchronous_commit mode of each transaction that wrote to a table.
WATCH = """
CREATE TABLE commits (id INT GENERATED ALWAYS AS IDENTITY, relation TEXT, mode TEXT, path TEXT);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO commits (relation, mode, path) VALUES
        (TG_RELNAME, current_setting('synchronous_commit'), current_setting('search_path'));
    RETURN NULL;
END $$;
"""
WATCHED = ("app_logs", "pending_rows", "sources", "error_codes", "rejected_samples", "backfills")

# Settings that a server session must have for the next client, which may be anyone.
SETTINGS = """
SELECT name, setting FROM pg_settings WHERE name IN (
    'default_transaction_read_only', 'transaction_read_only', 'statement_timeout', 'search_path',
    'synchronous_commit', 'enable_seqscan', 'jit_above_cost', 'max_parallel_workers_per_gather'
) ORDER BY name
"""


@pytest.fixture(params=MODES)
async def pooled_url(
    request: pytest.FixtureRequest, empty_database_url: str, shared_dir: Path
) -> AsyncIterator[str]:
    """Put an empty database behind a pooler, with few sessions so that transactions alternate."""
    size = 2 if request.param == "transaction" else 20
    async with pooling(empty_database_url, shared_dir, request.param, size=size) as url:
        yield url


def points(number: int, *, instance: str, names: tuple[str, ...]) -> list[Point]:
    values = {"app_status": float(number % 3), "ocr_value": NOW / 1000}
    return [
        ({"__name__": name, "instance": instance, "job": "factory"}, NOW + number, values[name])
        for name in names
    ]


async def send_all_kinds(receiver: Running) -> None:
    """Send pairs, samples in separate requests, repeated samples, and values that are rejected."""
    both = ("app_status", "ocr_value")
    await asyncio.gather(
        *(
            receiver.send(*points(number, instance=f"pair-{number}", names=both))
            for number in range(CLIENTS)
        )
    )
    for names in (("app_status",), ("ocr_value",), both):
        await asyncio.gather(
            *(
                receiver.send(*points(number, instance=f"half-{number}", names=names))
                for number in range(CLIENTS)
            )
        )
    labels = {"__name__": "app_status", "instance": "wrong"}
    await receiver.send((labels, NOW, 0.5))


async def test_all_that_writes_works_through_a_pooler(
    pooled_url: str, make_settings: MakeSettings
) -> None:
    settings = make_settings(database_url=pooled_url)
    async with receiving(settings) as receiver:
        await send_all_kinds(receiver)
        await send_all_kinds(receiver)
        for page in ("/", "/logs?range=all", "/rejected", "/codes"):
            assert (await receiver.get(page))[0] == 200, page
        metrics = (await receiver.get("/metrics"))[1]
        assert "receiver_database_up 1.0" in metrics
        assert await receiver.ready()
    counts = "SELECT (SELECT count(*) FROM app_logs), (SELECT count(*) FROM pending_rows)"
    assert tuple((await ask(pooled_url, counts))[0]) == (2 * CLIENTS, 0)
    await migrate(settings)


async def test_all_that_reads_works_through_a_pooler(
    pooled_url: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = make_settings(database_url=pooled_url)
    async with receiving(settings) as receiver:
        await send_all_kinds(receiver)
    async with connect(settings) as connection:
        logs = await Listing(default_table(settings.catalogue)).newest(connection, 100)
        assert len(logs) == 2 * CLIENTS
        assert logs[0].created_at.endswith("+00")
        await CodeTable().add(connection, 500, "NEW", None)
        with pytest.raises(ErrorCodeError, match="registered already"):
            await CodeTable().add(connection, 500, "NEW", None)
        await CodeTable().rename(connection, 500, "RENAMED", "renamed")
    found = await ask(pooled_url, "SELECT name FROM error_codes WHERE code = 500")
    assert found[0][0] == "RENAMED"
    for kind in ("csv", "parquet"):
        assert await export(settings, tmp_path / f"logs.{kind}") == 0
    assert len((tmp_path / "logs.csv").read_text().splitlines()) == 1 + 2 * CLIENTS
    problems = [
        finding async for _, finding in diagnose(settings) if finding.level == Level.PROBLEM
    ]
    assert not problems
    async with opened_database(settings) as database:
        bookmark = Bookmark(database, "http://prometheus", ("7d",))
        await bookmark.write(Progress(1, 9, 5))
        assert await bookmark.read() == Progress(1, 9, 5)


async def export(settings: Settings, path: Path) -> int:
    url = settings.database_url
    assert url is not None
    parser, flags = build_parser("export")
    words = ("--start=2000-01-01T00:00Z", "--end=2100-01-01T00:00Z", f"-o={path}")
    parsed = parser.parse_args(["export", f"--database-url={url.get_secret_value()}", *words])
    loaded = Settings.load(flags["export"](parsed_args=parsed))
    return int(await load_command("export").run(loaded, parsed))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("more", ["", SWALLOW], ids=["as it comes", "swallowing"])
@pytest.mark.parametrize(("default", "wanted"), [("off", "on"), ("remote_apply", "remote_apply")])
async def test_every_commit_is_durable_whatever_the_default(
    empty_database_url: str,
    shared_dir: Path,
    make_settings: MakeSettings,
    mode: str,
    more: str,
    default: str,
    wanted: str,
) -> None:
    await migrate(make_settings(database_url=empty_database_url))
    name = (await ask(empty_database_url, "SELECT quote_ident(current_database())"))[0][0]
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = {default}; {WATCH}")
    for table in WATCHED:
        await connection.execute(
            f"CREATE TRIGGER watch AFTER INSERT OR UPDATE OR DELETE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION watch()"
        )
    await connection.close()
    async with pooling(empty_database_url, shared_dir, mode, more=more) as url:
        settings = make_settings(database_url=url)
        async with receiving(settings) as receiver:
            await send_all_kinds(receiver)
        async with connect(settings) as session:
            await CodeTable().add(session, 500, "NEW", None)
    async with connect(make_settings(database_url=empty_database_url)) as session:
        await CodeTable().add(session, 501, "NEWER", None)
    modes = await ask(empty_database_url, "SELECT DISTINCT relation, mode FROM commits")
    assert {mode for _, mode in modes} == {wanted}
    assert {relation for relation, _ in modes} == {*WATCHED} - {"backfills"}


async def test_other_clients_of_the_pooler_find_sessions_as_they_were(
    empty_database_url: str, shared_dir: Path, make_settings: MakeSettings
) -> None:
    async with pooling(empty_database_url, shared_dir, "transaction", size=1) as url:
        before = await ask(url, SETTINGS)
        settings = make_settings(database_url=f"{url}&statement_timeout=9s")
        async with receiving(settings) as receiver:
            await send_all_kinds(receiver)
            assert (await receiver.get("/"))[0] == 200
        async for _ in diagnose(settings):
            pass
        assert await ask(url, SETTINGS) == before


async def test_the_search_path_of_the_url_holds_in_each_transaction(
    pooled_url: str, make_settings: MakeSettings
) -> None:
    await ask(pooled_url, "CREATE SCHEMA plant")
    for parameter in ("search_path=plant", "options=-csearch_path%3Dplant"):
        settings = make_settings(database_url=f"{pooled_url}&{parameter}")
        async with receiving(settings) as receiver:
            await send_all_kinds(receiver)
            assert (await receiver.get("/"))[0] == 200
        async with connect(settings) as connection:
            for name in ("pair-1", "instance=pair-1"):
                assert len(await find_named(connection, name)) == 1
            assert await Listing(default_table(settings.catalogue)).newest(connection, 1)
    assert (await ask(pooled_url, "SELECT count(*) FROM plant.app_logs"))[0][0] == 2 * CLIENTS
    assert (await ask(pooled_url, "SELECT to_regclass('public.app_logs')"))[0][0] is None


async def test_a_wrong_parameter_is_named_through_a_pooler(
    pooled_url: str, make_settings: MakeSettings
) -> None:
    with pytest.raises(SetupError, match=r"RECEIVER_DATABASE_URL: .*statment_timeout"):
        await migrate(make_settings(database_url=f"{pooled_url}&statment_timeout=5s"))
