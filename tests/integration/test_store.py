"""The receiver while its database comes and goes."""

from __future__ import annotations

import gc
from types import FrameType

import asyncpg
import pytest

from receiver.errors import DatabaseUnavailableError, SchemaError, SetupError
from receiver.process.app import STORE
from tests.conftest import MakeSettings
from tests.databases import opened_database
from tests.receivers import Point, encode, receiving
from tests.roles import latin1_database
from tests.waiting import until

NOW = 1_700_000_000_000
PAIR: list[Point] = [
    ({"__name__": "app_status", "instance": "a"}, NOW, 0.0),
    ({"__name__": "ocr_value", "instance": "a"}, NOW, NOW / 1000),
]


async def test_it_waits_for_a_database_that_is_not_there_yet(
    empty_database_url: str, make_settings: MakeSettings
) -> None:
    connection = await asyncpg.connect(empty_database_url)
    name = await connection.fetchval("SELECT current_database()")
    await connection.close()
    server = await asyncpg.connect(empty_database_url, database="template1")
    await server.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
    async with receiving(make_settings(database_url=empty_database_url), wait=False) as receiver:
        code, text = await receiver.get("/-/ready")
        assert (code, "not ready" in text) == (503, True)
        await server.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
        await until(receiver.ready)
        await receiver.send(*PAIR)
    await server.close()


async def test_it_outlives_the_loss_of_all_connections(
    database_url: str, connection: asyncpg.Connection, make_settings: MakeSettings
) -> None:
    async with receiving(make_settings(database_url=database_url)) as receiver:
        for moment in range(5):
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            points = [(labels, NOW + moment, value) for labels, _, value in PAIR]
            await receiver.send(*points)
    assert await connection.fetchval("SELECT count(*) FROM app_logs") == 5


async def test_the_reason_why_a_connection_was_lost_is_reported(
    database_url: str, make_settings: MakeSettings
) -> None:
    async with opened_database(make_settings(database_url=database_url)) as database:
        with pytest.raises(DatabaseUnavailableError, match="terminating connection"):
            async with database.transaction() as used:
                await used.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        async with database.transaction() as used:
            assert await used.fetchval("SELECT 1") == 1


async def test_commits_are_durable_whatever_the_database_defaults_to(
    database_url: str, connection: asyncpg.Connection, make_settings: MakeSettings
) -> None:
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    async with opened_database(make_settings(database_url=database_url)) as database:
        for _ in range(3):
            async with database.connection() as used:
                assert await used.fetchval("SHOW synchronous_commit") == "on"


async def test_a_read_only_database_is_not_ready(
    database_url: str, connection: asyncpg.Connection, make_settings: MakeSettings
) -> None:
    name = await connection.fetchval("SELECT current_database()")
    settings = make_settings(database_url=database_url, migrate_on_start=False)
    async with receiving(settings) as receiver:
        await connection.execute(
            f"ALTER DATABASE {name} SET default_transaction_read_only = on;"
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

        async def refused() -> bool:
            status, _ = await receiver.post(encode(PAIR))
            return status == 503 and not await receiver.ready()

        await until(refused)
    await connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = off")


async def test_it_waits_for_a_database_that_is_read_only_at_the_start(
    database_url: str,
    connection: asyncpg.Connection,
    make_settings: MakeSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with receiving(make_settings(database_url=database_url), wait=False) as receiver:
        await until(lambda: "read-only" in caplog.text)
        status, text = await receiver.get("/-/ready")
        assert (status, "read-only" in text) == (503, True)
        await connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await until(receiver.ready)


async def test_a_schema_that_does_not_fit_ends_the_start(
    empty_database_url: str, make_settings: MakeSettings
) -> None:
    settings = make_settings(database_url=empty_database_url, migrate_on_start=False)
    async with receiving(settings, wait=False) as receiver:
        with pytest.raises(SchemaError, match="receiver migrate"):
            await receiver.app[STORE].opening
        assert not await receiver.ready()


async def test_a_database_that_is_not_utf8_is_refused(
    server_url: str, make_settings: MakeSettings
) -> None:
    async with (
        latin1_database(server_url) as url,
        receiving(make_settings(database_url=url), wait=False) as receiver,
    ):
        with pytest.raises(SetupError, match="LATIN1, it must be UTF8"):
            await receiver.app[STORE].opening


async def test_a_database_that_goes_away_during_the_migration_is_waited_for(
    empty_database_url: str, make_settings: MakeSettings
) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("SELECT pg_advisory_lock(7345190225)")
    async with receiving(make_settings(database_url=empty_database_url), wait=False) as receiver:

        async def terminated() -> bool:
            return bool(
                await connection.fetchval(
                    "SELECT bool_or(pg_terminate_backend(pid)) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND wait_event = 'advisory'"
                )
            )

        await until(terminated)
        await connection.execute("SELECT pg_advisory_unlock(7345190225)")
        await until(receiver.ready)
    await connection.close()


async def test_requests_that_fail_leave_nothing_for_the_garbage_collector(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    """Otherwise their bodies stay in memory until it runs, which is rare."""
    settings = make_settings(database_url=database_url, commit_timeout="1s")
    points = [
        ({**labels, "instance": str(number)}, NOW, value)
        for number in range(100)
        for labels, _, value in PAIR
    ]
    async with receiving(settings) as receiver:
        await receiver.send(*points)
        body = encode([(labels, NOW + 1, value) for labels, _, value in points])
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE app_logs")
                assert [(await receiver.post(body))[0] for _ in range(3)] == [503] * 3

            async def taken() -> bool:
                return (await receiver.post(body))[0] == 204

            await until(taken)
            gc.collect()
            left = [one for one in gc.garbage if isinstance(one, list) and len(one) >= 100]
            frames = [one for one in gc.garbage if isinstance(one, FrameType)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert not left
    ours = [frame for frame in frames if "/receiver/" in frame.f_code.co_filename]
    assert not [(frame, dict(frame.f_locals)) for frame in ours if frame.f_locals]
