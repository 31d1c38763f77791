"""Declared tables as hypertables: widened while their chunks are compressed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from receiver.storage.schema.retention import delete_old
from receiver.storage.schema.revisions import migrate, plan
from receiver.storage.schema.timescale import is_hypertable
from tests.conftest import MakeSettings
from tests.databases import opened_database
from tests.declaring import APP_LOGS, PRESSES, columns_of, declare, run_plan, with_columns
from tests.timescale import require_compression, require_timescaledb

POLICIES = """
SELECT hypertable_name, proc_name,
    COALESCE(config ->> 'compress_after', config ->> 'drop_after')::interval
FROM timescaledb_information.jobs WHERE proc_name IN ('policy_compression', 'policy_retention')
"""
COMPRESSED = """
SELECT bool_and(is_compressed) FROM timescaledb_information.chunks
WHERE hypertable_name = 'Presses'
"""
DAY = timedelta(days=1)


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url, statement_cache_size=0)
    await require_timescaledb(connection)
    yield connection
    await connection.close()


async def policies(connection: asyncpg.Connection) -> dict[tuple[str, str], timedelta]:
    return {(table, name): age for table, name, age in await connection.fetch(POLICIES)}


async def test_each_table_has_policies_of_its_own(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    await require_compression(connection)
    presses = {**PRESSES, "compress_after": "1d", "retention": "90d"}
    never = {**PRESSES, "compress_after": "off"}
    settings = declare(make_settings, database_url, app_logs=APP_LOGS, Presses=presses, never=never)
    await migrate(settings)
    assert await policies(connection) == {
        ("app_logs", "policy_compression"): 7 * DAY,
        ("Presses", "policy_compression"): DAY,
        ("Presses", "policy_retention"): 90 * DAY,
    }
    for name in settings.catalogue.by_name:
        assert await is_hypertable(connection, name)
    assert not await is_hypertable(connection, "presses")
    assert await plan(settings) == []


@pytest.mark.parametrize("by_hand", [False, True])
async def test_a_table_with_compressed_chunks_is_widened(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection, *, by_hand: bool
) -> None:
    await require_compression(connection)
    await migrate(declare(make_settings, database_url, Presses=PRESSES))
    await connection.execute(
        """
        INSERT INTO sources (labels, digest) VALUES ('{}', 'a');
        INSERT INTO press_states VALUES (0, 'OK');
        INSERT INTO "Presses" (created_at, pressure, state, source_id)
        SELECT '2024-01-01'::timestamptz + i * INTERVAL '1 hour', i, 0, id
        FROM generate_series(1, 48) AS i, sources;
        SELECT compress_chunk(chunk) FROM show_chunks('"Presses"') AS chunk;
        CREATE VIEW mine AS SELECT * FROM "Presses_now"
        """
    )
    wider = with_columns(
        PRESSES,
        pressure=None,
        heat={"metric": "heat", "type": "double"},
        alarm={"metric": "alarm", "type": "code", "codes": "alarms"},
    )
    wider["labels"] = {**PRESSES["labels"], "shift": "text"}
    settings = declare(make_settings, database_url, Presses=wider)
    if by_hand:
        await run_plan(connection, settings)
    else:
        await migrate(settings)
    assert await plan(settings) == []
    assert await connection.fetchval(COMPRESSED)
    columns = await columns_of(connection, "Presses")
    assert columns["pressure"] == ("double precision", False)
    assert columns["alarm"] == ("integer", False)
    # One row in an old, compressed chunk and one in a new chunk.
    for moment in ("2024-01-01 12:30Z", "2024-06-01Z"):
        insert = (
            'INSERT INTO "Presses" (created_at, heat, state, alarm, source_id) '
            f"SELECT '{moment}', 7, 0, $1, id FROM sources"
        )
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await connection.execute(insert, 9)
        await connection.execute("INSERT INTO alarms VALUES (8, 'x') ON CONFLICT DO NOTHING")
        await connection.execute(insert, 8)
    await connection.execute("UPDATE alarms SET code = 80")
    alarms = 'SELECT alarm FROM "Presses" WHERE alarm IS NOT NULL'
    assert [alarm for (alarm,) in await connection.fetch(alarms)] == [80, 80]
    assert await connection.fetchval('SELECT count(*) FROM "Presses"') == 50
    newest = await connection.fetchrow('SELECT alarm_name, heat FROM "Presses_now"')
    assert tuple(newest) == ("x", 7.0)


async def test_old_chunks_of_each_table_go_where_no_policy_drops_them(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    settings = declare(make_settings, database_url, Presses={**PRESSES, "retention": "10d"})
    await migrate(declare(make_settings, database_url, Presses=PRESSES))
    await connection.execute(
        """
        INSERT INTO sources (labels, digest) VALUES ('{}', 'a');
        INSERT INTO press_states VALUES (0, 'OK');
        INSERT INTO "Presses" (created_at, pressure, state, source_id)
        SELECT now() - i * INTERVAL '1 day', i, 0, id FROM generate_series(0, 20) AS i, sources
        """
    )
    async with opened_database(settings) as database:
        await delete_old(database, settings)
    assert await connection.fetchval('SELECT count(*) FROM "Presses"') in {10, 11, 12}
