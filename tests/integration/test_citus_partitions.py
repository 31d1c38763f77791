"""Distributed tables that are partitioned by time; RECEIVER_TEST_CITUS_URL names a cluster."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from receiver.config.settings import Settings
from receiver.errors import ReceiverError
from receiver.storage.connection.database import Database
from receiver.storage.diagnosis import diagnose
from receiver.storage.schema import partitions
from receiver.storage.schema.partitions import make_next_parts
from receiver.storage.schema.retention import delete_old
from receiver.storage.schema.revisions import check_schema, migrate, plan
from tests.conftest import MakeSettings
from tests.databases import opened_database
from tests.declaring import APP_LOGS, PRESSES, declare, run_plan
from tests.receivers import Point, encode, receiving

pytestmark = pytest.mark.skipif(
    not os.environ.get("RECEIVER_TEST_CITUS_URL"),
    reason="RECEIVER_TEST_CITUS_URL names no cluster",
)

DAY = 86_400_000
PARTS = "SELECT count(*) FROM time_partitions WHERE parent_table = 'app_logs'::regclass"
ROWS = "SELECT count(*), count(DISTINCT (source_id, created_at)) FROM app_logs"


@pytest.fixture
def settings(empty_database_url: str, make_settings: MakeSettings) -> Settings:
    return make_settings(
        database_url=empty_database_url,
        maintenance_interval="200ms",
        shards=4,
        retention=timedelta(days=30),
    )


@pytest.fixture
async def session(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(empty_database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    await migrate(settings)
    async with opened_database(settings) as database:
        yield database


def pair(at: int, source: int = 0, status: float = 0) -> list[Point]:
    labels = {"instance": f"app-{source}"}
    return [
        ({"__name__": "app_status", **labels}, at, status),
        ({"__name__": "ocr_value", **labels}, at, at / 1000),
    ]


async def add_row(session: asyncpg.Connection, age: str, source: int = 1) -> None:
    await session.execute(
        f"INSERT INTO sources (id, labels, digest) OVERRIDING SYSTEM VALUE "
        f"VALUES ({source}, '{{}}', '{source}') ON CONFLICT DO NOTHING"
    )
    await session.execute(
        f"INSERT INTO app_logs (created_at, app_status, ocr_value, source_id) "
        f"VALUES (now() - INTERVAL '{age}', 0, now(), {source})"
    )


async def drop_newest(session: asyncpg.Connection) -> str:
    """Drop the partition of the farthest future; return its name."""
    newest: str = await session.fetchval(
        "SELECT partition::text FROM time_partitions WHERE from_value IS NOT NULL "
        "ORDER BY from_value::timestamptz DESC LIMIT 1"
    )
    await session.execute(f"DROP TABLE {newest}")
    return newest


async def test_a_table_with_a_retention_is_divided(
    settings: Settings, session: asyncpg.Connection
) -> None:
    await migrate(settings)
    # 30 days in weeks, two weeks of the future, and the default partition.
    assert await session.fetchval(PARTS) in {8, 9}
    comments = "SELECT count(*) FROM pg_description WHERE objoid = ANY($1::regclass[])"
    views = ["app_logs", "app_status_hourly", "app_status_now", "app_status_intervals"]
    assert await session.fetchval(comments, views) >= len(views)
    assert not any("PARTITION" in line for line in await plan(settings))


async def test_a_table_that_is_kept_for_ever_is_not_divided(
    settings: Settings, session: asyncpg.Connection
) -> None:
    await migrate(settings.model_copy(update={"retention": None}))
    assert await session.fetchval(PARTS) == 0
    # Not later either: it already has its shards.
    await migrate(settings)
    assert await session.fetchval(PARTS) == 0


async def test_a_plan_has_the_parts_of_a_new_table(
    settings: Settings,
    session: asyncpg.Connection,
    empty_database_url: str,
    make_settings: MakeSettings,
) -> None:
    assert not any("receiver_watch_rows" in line for line in await plan(settings))
    await migrate(settings)
    heats = {"columns": {"heat": {"metric": "heat", "type": "double"}}}
    # One has the usual name of the other's default partition.
    tables = {"app_logs": APP_LOGS, "heats_default": PRESSES, "heats": heats}
    declared = declare(make_settings, empty_database_url, **tables)
    wider = settings.model_copy(update={"tables_file": declared.tables_file})
    statements = await run_plan(session, wider)
    for table in ("heats", "heats_default"):
        parts = PARTS.replace("app_logs", table)
        assert await session.fetchval(parts) == await session.fetchval(PARTS)
        assert len([line for line in statements if f'PARTITION OF "{table}"' in line]) in {8, 9}
    assert await plan(wider) == []
    await check_schema(wider)


async def test_a_plan_for_tables_that_stay_has_no_parts(
    settings: Settings,
    session: asyncpg.Connection,
    empty_database_url: str,
    make_settings: MakeSettings,
) -> None:
    await migrate(settings.model_copy(update={"citus": "off"}))
    await add_row(session, "1 day")
    declared = declare(make_settings, empty_database_url, app_logs=APP_LOGS, presses=PRESSES)
    wider = settings.model_copy(update={"tables_file": declared.tables_file})
    statements = "\n".join(await run_plan(session, wider))
    assert "PARTITION" not in statements
    assert "source_keys" not in statements
    assert await plan(wider) == []


async def test_what_somebody_has_built_on_a_table_stays(
    settings: Settings, session: asyncpg.Connection
) -> None:
    await migrate(settings.model_copy(update={"citus": "off"}))
    await session.execute("CREATE VIEW hours AS SELECT hour, rows FROM app_status_hourly")
    await migrate(settings)
    assert await session.fetchval(PARTS) == 0
    assert await session.fetchval("SELECT count(*) FROM hours") == 0


async def test_every_row_is_stored_once_whatever_its_time(
    settings: Settings, session: asyncpg.Connection
) -> None:
    now = int(time.time() * 1000)
    # Years in the past and future, each week of the retention, and both sides of a week's boundary.
    times = [now - 2000 * DAY, now + 2000 * DAY, *(now - days * DAY for days in range(0, 29, 3))]
    times += [now // (7 * DAY) * 7 * DAY + offset for offset in (-1, 0)]
    points = [pair(at, source) for at in times for source in range(7)]
    load = [encode([point for both in points for point in both])] * 2
    load += [encode([both[half] for both in points]) for half in (0, 1, 0, 1)]
    load += [encode(both[:1]) for both in points] + [encode(both[1:]) for both in points]
    kept = settings.model_copy(update={"retention": timedelta(days=3000)})
    await migrate(settings)
    async with receiving(kept) as first, receiving(kept) as second:

        async def work() -> None:
            while load:
                body = load.pop()
                assert await (first if len(load) % 2 else second).post(body) == (204, "")

        await asyncio.gather(*(work() for _ in range(4)))
        assert await first.post(encode(pair(times[0], status=5))) == (204, "")
    assert tuple(await session.fetchrow(ROWS)) == (len(points), len(points))
    assert await session.fetchval("SELECT count(*) FROM pending_rows") == 0
    rejected = await session.fetch("SELECT value, reason FROM rejected_samples")
    assert [tuple(row) for row in rejected] == [(5, "conflict")]


async def test_old_parts_go_whole_and_rows_of_other_times_one_by_one(
    settings: Settings, session: asyncpg.Connection, database: Database
) -> None:
    parts = await session.fetchval(PARTS)
    for age in ("29 days", "1 day", "-40 days", "400 days"):
        await add_row(session, age)
    await delete_old(database, settings)
    assert await session.fetchval(PARTS) == parts
    assert await session.fetchval("SELECT count(*) FROM app_logs") == 3
    shorter = settings.model_copy(update={"retention": timedelta(days=15)})
    await delete_old(database, shorter)
    assert await session.fetchval(PARTS) < parts
    assert await session.fetchval("SELECT count(*) FROM app_logs") == 2


async def test_rows_that_came_before_their_part_move_into_it(
    settings: Settings, session: asyncpg.Connection, database: Database
) -> None:
    parts = await session.fetchval(PARTS)
    newest = await drop_newest(session)
    for source in range(1, 8):
        await add_row(session, "-14 days", source)
        await add_row(session, "-40 days", source)
    await make_next_parts(database, settings.catalogue.tables)
    assert await session.fetchval(PARTS) == parts
    assert tuple(await session.fetchrow(ROWS)) == (14, 14)
    for part in (newest, "app_logs_default"):
        assert await session.fetchval(f"SELECT count(*) FROM {part}") == 7


async def test_a_lack_of_parts_is_diagnosed(
    settings: Settings, session: asyncpg.Connection, database: Database
) -> None:
    async def said() -> list[str]:
        return [finding.found async for _, finding in diagnose(settings)]

    assert "the tables are distributed over the worker nodes" in await said()
    for _ in range(3):
        await drop_newest(session)
    assert any(line.startswith("app_logs: no partition for new rows") for line in await said())
    await make_next_parts(database, settings.catalogue.tables)
    assert "the tables are distributed over the worker nodes" in await said()


async def test_too_many_rows_stay_where_they_are(
    settings: Settings,
    session: asyncpg.Connection,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = await session.fetchval(PARTS)
    for (name,) in await session.fetch(
        "SELECT partition::text FROM time_partitions WHERE from_value IS NOT NULL "
        "AND parent_table = 'app_logs'::regclass AND to_value::timestamptz > now()"
    ):
        await session.execute(f"DROP TABLE {name}")
    monkeypatch.setattr(partitions, "MOST_MOVED", 1)
    await add_row(session, "0 days", 1)
    await add_row(session, "0 days", 2)
    await make_next_parts(database, settings.catalogue.tables)
    assert await session.fetchval(PARTS) == parts - 1
    assert await session.fetchval("SELECT count(*) FROM app_logs_default") == 2


async def test_a_reader_delays_a_new_part_and_no_writer(
    settings: Settings, session: asyncpg.Connection, database: Database
) -> None:
    parts = await session.fetchval(PARTS)
    await drop_newest(session)
    async with session.transaction():
        await session.fetchval("SELECT count(*) FROM app_logs")
        with pytest.raises(ReceiverError, match="lock timeout"):
            await make_next_parts(database, settings.catalogue.tables)
    assert await session.fetchval(PARTS) == parts - 1
    await make_next_parts(database, settings.catalogue.tables)
    assert await session.fetchval(PARTS) == parts
