"""Tables that Citus distributes; RECEIVER_TEST_CITUS_URL names the coordinator of a cluster."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from receiver.commands.cli import build_parser, load_command
from receiver.config.settings import Settings
from receiver.errors import ConflictingTransactionError, SetupError
from receiver.storage.connection.database import Database
from receiver.storage.diagnosis import diagnose
from receiver.storage.reading.periods import Period
from receiver.storage.reading.reports import read_figures
from receiver.storage.reading.tables import connect
from receiver.storage.schema import revisions
from receiver.storage.schema.retention import delete_old
from receiver.storage.schema.revisions import migrate, plan
from receiver.storage.writing.records import Contents
from receiver.storage.writing.writer import How, Writer
from tests.cluster import find_workers, on_node, run
from tests.conftest import MakeSettings
from tests.receivers import Point, encode, receiving
from tests.tables import catalogue, press, robot, write_tables
from tests.waiting import until

NOW = 1_700_000_000_000
LONG = timedelta(seconds=60)

pytestmark = pytest.mark.skipif(
    not os.environ.get("RECEIVER_TEST_CITUS_URL"),
    reason="RECEIVER_TEST_CITUS_URL names no cluster",
)

DISTRIBUTED = """
SELECT logicalrelid::text FROM pg_dist_partition
WHERE partmethod::text = $1 AND ($1 = 'h' OR repmodel = 't') ORDER BY 1
"""
# Many rows of a few sources, and none of others.
FEW = """
INSERT INTO sources (labels, digest)
SELECT jsonb_build_object('n', n), sha256(n::text::bytea) FROM generate_series(1, 40) AS n;
INSERT INTO source_keys SELECT id FROM sources;
INSERT INTO app_logs (created_at, app_status, ocr_value, source_id)
SELECT now() - n * INTERVAL '1 minute', 0, now(), k.id
FROM generate_series(1, 3000) AS n, source_keys k WHERE k.id < 8
"""
BREAK = """
SELECT count(*) FROM run_command_on_workers($$
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
      AND backend_type = 'client backend'
$$)
"""


@pytest.fixture
def settings(empty_database_url: str, make_settings: MakeSettings) -> Settings:
    return make_settings(database_url=empty_database_url, maintenance_interval="200ms", shards=4)


@pytest.fixture
async def session(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(empty_database_url)
    yield connection
    await connection.close()


async def names(connection: asyncpg.Connection, method: str) -> list[str]:
    return [name for (name,) in await connection.fetch(DISTRIBUTED, method)]


def pair(moment: int, source: int = 0, status: float = 0) -> list[Point]:
    labels = {"instance": f"app-{source}"}
    at = NOW + 1000 * moment
    return [
        ({"__name__": "app_status", **labels}, at, status),
        ({"__name__": "ocr_value", **labels}, at, at / 1000),
    ]


@pytest.mark.parametrize("view", ["app_logs_now", "app_status_now"])
async def test_newest_rows_are_not_looked_for_among_those_of_others(
    settings: Settings, session: asyncpg.Connection, view: str
) -> None:
    """With few sources on a node, the index on the times of all rows looks cheap to the planner."""
    await migrate(settings)
    await session.execute(FEW)
    await session.execute("ANALYZE app_logs")
    await session.execute("SET citus.explain_all_tasks = on")
    lines = [line for (line,) in await session.fetch(f"EXPLAIN SELECT * FROM {view}")]
    assert any("app_logs_pkey" in line for line in lines)
    assert not any("app_logs_created_at_idx" in line for line in lines)


async def test_empty_tables_are_distributed(
    settings: Settings, session: asyncpg.Connection, tmp_path: Path
) -> None:
    await migrate(settings)
    assert await names(session, "h") == [
        "app_logs",
        "pending_rows",
        "rejected_samples",
        "source_keys",
    ]
    assert {"sources", "error_codes", "planned_stops"} <= {*await names(session, "n")}
    shards = "SELECT count(*) FROM pg_dist_shard WHERE logicalrelid = 'app_logs'::regclass"
    assert await session.fetchval(shards) == 4
    # Tables that are declared later, and their codes, while the existing tables have rows.
    async with receiving(settings) as receiver:
        await receiver.send(*pair(0))
    wider = settings.model_copy(update={"tables_file": Path(write_tables(tmp_path))})
    assert any("create_distributed_table" in line for line in await plan(wider))
    await migrate(wider)
    assert {*catalogue().by_name} <= {*await names(session, "h")}
    assert {*catalogue().code_tables} <= {*await names(session, "n")}
    async with receiving(wider) as receiver:
        await receiver.send(*press(NOW, 1.5, 1, strokes=7), *robot(NOW, 3, note=1))
    assert not any(line.startswith("SELECT create_") for line in await plan(wider))


async def test_a_new_table_beside_distributed_ones_is_distributed_in_any_case(
    settings: Settings, session: asyncpg.Connection, tmp_path: Path
) -> None:
    await migrate(settings)
    wider = {"tables_file": Path(write_tables(tmp_path)), "citus": "off"}
    await migrate(settings.model_copy(update=wider))
    assert {*catalogue().by_name} <= {*await names(session, "h")}


async def test_tables_with_rows_are_distributed_when_told(
    settings: Settings, session: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    plain = settings.model_copy(update={"citus": "off"})
    await migrate(plain)
    assert await names(session, "h") == []
    async with receiving(plain) as receiver:
        await receiver.send(*pair(0, status=0.5), *pair(1, status=7), *pair(2)[:1])
    await migrate(settings)
    assert "receiver migrate --distribute" in caplog.text
    assert await names(session, "h") == []
    await migrate(settings, with_rows=True)
    assert "app_logs" in await names(session, "h")
    counts = "SELECT (SELECT count(*) FROM app_logs), (SELECT count(*) FROM rejected_samples)"
    assert tuple(await session.fetchrow(counts)) == (1, 2)
    async with receiving(settings) as receiver:
        await receiver.send(*pair(0, status=0.5), *pair(1, status=7), *pair(2)[1:], *pair(3))
    assert tuple(await session.fetchrow(counts)) == (3, 2)


async def test_tables_are_distributed_while_rows_arrive(
    settings: Settings, session: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A deadlock fails the test.
    monkeypatch.setattr(revisions, "ATTEMPTS", 1)
    plain = settings.model_copy(update={"citus": "off"})
    await migrate(plain)
    moments, stopped = itertools.count(), asyncio.Event()

    async def has_rows() -> bool:
        return bool(await session.fetchval("SELECT count(*) > 1000 FROM app_logs"))

    async with receiving(plain) as receiver:

        async def keep_sending(source: int) -> None:
            while not stopped.is_set():
                rows = [pair(next(moments), source) for _ in range(20)]
                await receiver.send(*(point for row in rows[:10] for point in row))
                await receiver.send(*(point for row in rows[10:] for point in row[:1]))
                await receiver.send(*(point for row in rows[10:] for point in row[1:]))

        senders = [asyncio.create_task(keep_sending(source)) for source in range(6)]
        await until(has_rows)
        await migrate(settings, with_rows=True)
        stopped.set()
        await asyncio.gather(*senders)
    assert "app_logs" in await names(session, "h")
    assert await session.fetchval("SELECT count(*) FROM app_logs") == next(moments)


async def test_repeated_and_contradicting_samples_are_counted(
    settings: Settings, session: asyncpg.Connection
) -> None:
    async with receiving(settings) as receiver:
        for _ in range(3):
            assert await receiver.post(encode(pair(0) + pair(1, 1))) == (204, "")
        assert await receiver.post(encode(pair(0, status=5))) == (204, "")
        # A new code, in a row whose samples come separately.
        await receiver.send(pair(2, status=77)[0])
        await receiver.send(pair(2, status=77)[1])
        metrics = (await receiver.get("/metrics"))[1]
    assert await session.fetchval("SELECT count(*) FROM app_logs") == 3
    rejected = await session.fetch("SELECT metric, value, reason FROM rejected_samples")
    assert [tuple(row) for row in rejected] == [("app_status", 5, "conflict")]
    assert 'reason="conflict",table="app_logs"} 1.0' in metrics.replace(", ", ",")


async def test_sources_of_others_are_read_like_our_own(
    settings: Settings, session: asyncpg.Connection
) -> None:
    async with receiving(settings):
        await session.execute("INSERT INTO sources (labels, digest) VALUES ('{}', '')")
        await session.execute(
            "INSERT INTO app_logs (source_id, created_at, app_status, ocr_value) "
            "SELECT id, now(), 1, now() FROM sources"
        )

        async def is_read() -> bool:
            return bool(await session.fetchval("SELECT app_status FROM app_status_now") == 1)

        await until(is_read)


async def test_lost_connections_to_workers_cost_no_row(
    settings: Settings, session: asyncpg.Connection
) -> None:
    async with receiving(settings) as first, receiving(settings) as second:
        load = [sample for moment in range(40) for sample in pair(moment, moment % 7)] * 3

        async def disturb() -> None:
            for left in (100, 60, 20):
                await until(lambda left=left: fewer(left))
                # BREAK also ends this session's own connections to the workers.
                with suppress(asyncpg.PostgresError):
                    await session.fetchval(BREAK)

        async def fewer(left: int) -> bool:
            return len(load) < left

        async def work() -> None:
            while load:
                some = [load.pop() for _ in range(min(5, len(load)))]
                await (first if len(load) % 2 else second).send(*some)

        disturbing = asyncio.create_task(disturb())
        await asyncio.gather(*(work() for _ in range(4)))
        await disturbing

        async def whole() -> bool:
            return bool(
                await session.fetchval("SELECT count(*) FROM app_logs") == 40
                and await session.fetchval("SELECT count(*) FROM pending_rows") == 0
            )

        await until(whole)
    assert await session.fetchval("SELECT count(*) FROM rejected_samples") == 0
    # The database cannot be dropped while it has prepared transactions.
    await session.execute("SELECT recover_prepared_transactions()")


# The sources by the shards of their rows, and the nodes of the shards.
FIND_SHARDS = """
SELECT p.shardid, p.groupid, s.id, s.labels ->> 'instance'
FROM sources s
JOIN pg_dist_placement p ON p.shardid = get_shard_id_for_distribution_column('app_logs', s.id)
ORDER BY p.shardid, s.id
"""
ADD_ROW = """
INSERT INTO app_logs (source_id, created_at, app_status, ocr_value) VALUES ($1, $2, 0, $2)
"""
TOUCH = "UPDATE pending_rows SET arrived_at = now() WHERE source_id = $1"
# Whether a statement waits for another transaction, on any node.
WAITS = "SELECT EXISTS (SELECT FROM citus_lock_waits WHERE blocked_statement LIKE $1)"


async def find_apart(session: asyncpg.Connection) -> Iterator[tuple[int, int]]:
    """Find two sources on different nodes, in the order in which a batch locks their rows.

    Returns:
        Their ids and the numbers of their applications.
    """
    nodes: dict[int, tuple[int, int]] = {}
    for _, node, id_, name in await session.fetch(FIND_SHARDS):
        nodes.setdefault(node, (id_, int(name.removeprefix("app-"))))
    return iter(nodes.values())


@pytest.mark.parametrize("whole", [True, False], ids=["rows", "halves"])
async def test_a_batch_that_deadlocks_over_nodes_is_written_again(
    whole: bool,
    settings: Settings,
    session: asyncpg.Connection,
    empty_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another transaction locks rows of two nodes in reverse; Citus ends the younger one."""
    conflicts: list[str] = []
    # A COPY locks no row until it has sent a thousand rows to the node.
    more = range(2, 1502)
    write = Writer._write_somehow

    async def watched(writer: Writer, contents: Contents, how: How) -> None:
        try:
            await write(writer, contents, how)
        except ConflictingTransactionError as error:
            conflicts.append(str(error))
            raise

    monkeypatch.setattr(Writer, "_write_somehow", watched)
    async with receiving(settings.model_copy(update={"commit_timeout": LONG})) as receiver:
        somebody = await asyncpg.connect(empty_database_url)
        for source in range(8):
            await receiver.send(*pair(0, source))
        first, last = await find_apart(session)
        if not whole:
            await receiver.send(*(pair(1, source)[1] for _, source in (first, last)))

        async def take(id_: int) -> None:
            at = datetime.fromtimestamp(NOW / 1000 + 1, UTC)
            if whole:
                await somebody.execute(ADD_ROW, id_, at)
            else:
                await somebody.execute(TOUCH, id_)

        transaction = somebody.transaction()
        await transaction.start()
        await take(last[0])
        samples = [point for _, n in (first, last) for point in pair(1, n)[: 2 if whole else 1]]
        if whole:
            samples += [point for moment in more for point in pair(moment, first[1])]
        sending = asyncio.create_task(receiver.post(encode(samples)))

        async def waits() -> bool:
            return bool(await session.fetchval(WAITS, "%COPY%" if whole else "%pending_rows%"))

        await until(waits)
        await take(first[0])
        await transaction.commit()
        assert await sending == (204, "")
        await somebody.close()
    assert [conflict for conflict in conflicts if "distributed deadlock" in conflict]
    expected = 8 + 2 + (len(more) if whole else 0)
    assert await session.fetchval("SELECT count(*) FROM app_logs") == expected
    assert await session.fetchval("SELECT count(*) FROM rejected_samples") == 0


COMMANDS = (
    *("codes list", "comments list", "export -o -", "logs", "report", "shifts list"),
    *("migrate", "serve", "stops list", "tables plan"),
)


async def test_at_a_worker_every_command_names_the_coordinator(
    settings: Settings, empty_database_url: str, make_settings: MakeSettings
) -> None:
    await migrate(settings)
    ((host, port), *_) = await find_workers(empty_database_url)
    at_worker = make_settings(database_url=on_node(empty_database_url, host, port))
    for words in map(str.split, COMMANDS):
        parsed = build_parser(words[0])[0].parse_args(words)
        with pytest.raises(SetupError, match="worker node of Citus: name the coordinator") as error:
            await load_command(words[0]).run(at_worker, parsed)
        assert "\n" not in str(error.value)
    (finding,) = [finding async for _, finding in diagnose(at_worker)]
    assert "worker node of Citus: name the coordinator" in finding.found


async def test_a_worker_that_is_away_makes_the_receiver_unready(
    settings: Settings, empty_database_url: str
) -> None:
    async with receiving(settings) as receiver:
        ((host, port), *_) = await find_workers(empty_database_url)
        node = on_node(empty_database_url, host, port, "postgres")
        name = empty_database_url.rpartition("/")[2]
        sessions = (
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        )
        await run(node, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false", sessions)

        async def unready() -> bool:
            status, text = await receiver.get("/-/ready")
            return status == 503 and f"{host}:{port}" in text and text.count("\n") == 1

        await until(unready)
        found = [finding async for _, finding in diagnose(settings)]
        assert any(line.found.startswith(f"node {host}:{port} cannot be reached") for line in found)
        assert not any("back to what it was" in line.advice for line in found)
        await run(node, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await until(receiver.ready)


async def test_figures_and_retention(settings: Settings, session: asyncpg.Connection) -> None:
    async with receiving(settings) as receiver:
        await receiver.send(*(point for moment in range(20) for point in pair(moment, moment % 2)))
    table = settings.catalogue.tables[0]
    period = Period("range", "2023-11-14T22:13:20Z", "2023-11-14T22:13:40Z")
    async with connect(settings) as connection:
        (figures,) = await read_figures(connection, table, period, "total")
    assert (figures.sources, figures.up) == (2, timedelta(seconds=39))
    assert json.loads(await session.fetchval("SELECT shares FROM app_status_hourly LIMIT 1"))
    old = settings.model_copy(update={"retention": timedelta(days=1)})
    database = Database(old)
    await database.open()
    await delete_old(database, old)
    await database.close()
    assert await session.fetchval("SELECT count(*) FROM app_logs") == 0
