"""Samples of optional columns that come before their row or after it, and are refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from receiver.config.settings import Settings
from receiver.process.app import STORE
from receiver.storage.writing.settling import settle_waiting
from tests.conftest import MakeSettings
from tests.receivers import Point, encode, receiving
from tests.waiting import until

NOW = 1_700_000_000_000
TABLES = """
tables:
  press:
    columns:
      a: {metric: press_a, type: double}
      b: {metric: press_b, type: double}
      c: {metric: press_c, type: double, required: false}
      state: {metric: press_state, type: code, codes: states, required: false}
  neighbour:
    columns:
      n: {metric: neighbour_n, type: double}
"""
ROW = "SELECT a, b, c, state FROM press"
REJECTED = "SELECT column_name, value, reason FROM rejected_samples ORDER BY 1"
REFUSING = [
    "ALTER TABLE press ADD CHECK (c < 100)",
    """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'rows are only added'; END $$;
    CREATE TRIGGER only_adds BEFORE UPDATE ON press EXECUTE FUNCTION refuse()""",
]


@pytest.fixture
def settings(make_settings: MakeSettings, empty_database_url: str, tmp_path: Path) -> Settings:
    file = tmp_path / "tables.yaml"
    file.write_text(TABLES)
    return make_settings(database_url=empty_database_url, tables_file=file)


def point(metric: str, value: float) -> Point:
    return {"__name__": metric, "instance": "a"}, NOW, value


@pytest.mark.parametrize("statement", REFUSING, ids=["check", "trigger"])
async def test_an_optional_sample_that_is_refused_later_is_rejected(
    settings: Settings, empty_database_url: str, statement: str
) -> None:
    connection = await asyncpg.connect(empty_database_url)
    async with receiving(settings) as receiver:
        await connection.execute(statement)
        await receiver.send(point("press_a", 1), point("press_b", 2))
        body = encode([point("press_c", 500), point("neighbour_n", 1)])
        assert (await receiver.post(body))[0] == 204
    assert tuple(await connection.fetchrow(ROW)) == (1.0, 2.0, None, None)
    assert await connection.fetchval("SELECT count(*) FROM neighbour") == 1
    (sample,) = await connection.fetch(REJECTED)
    assert tuple(sample) == ("c", 500.0, "refused_by_database")
    await connection.close()


@pytest.mark.parametrize("order", ["together", "before", "after"])
async def test_an_optional_sample_that_is_refused_is_rejected_alone(
    settings: Settings, empty_database_url: str, order: str
) -> None:
    connection = await asyncpg.connect(empty_database_url)
    required = [point("press_a", 1), point("press_b", 2)]
    optional = [point("press_c", 500), point("press_state", 7)]
    requests = {
        "together": [required + optional],
        "before": [optional, required],
        "after": [required, optional],
    }
    async with receiving(settings) as receiver:
        await connection.execute(REFUSING[0])
        for sent in requests[order] * 2:
            assert (await receiver.post(encode(sent)))[0] == 204
    assert tuple(await connection.fetchrow(ROW)) == (1.0, 2.0, None, 7)
    (sample,) = await connection.fetch(REJECTED)
    assert tuple(sample) == ("c", 500.0, "refused_by_database")
    await connection.close()


async def test_optional_samples_of_a_refused_row_are_rejected_with_it(
    settings: Settings, empty_database_url: str
) -> None:
    connection = await asyncpg.connect(empty_database_url)
    row = [point("press_a", 1), point("press_b", 2), point("press_c", 3)]
    async with receiving(settings) as receiver:
        await connection.execute("ALTER TABLE press ADD CHECK (b <> 2)")
        for sent in (row, row[:2], row[2:], row):
            assert (await receiver.post(encode(sent)))[0] == 204
    assert await connection.fetchval("SELECT count(*) FROM press") == 0
    rejected = await connection.fetch(REJECTED)
    assert [tuple(sample) for sample in rejected] == [
        ("a", 1.0, "refused_by_database"),
        ("b", 2.0, "refused_by_database"),
        ("c", 3.0, "other_sample_rejected"),
    ]
    await connection.close()


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize(
    "change", ["DELETE FROM states WHERE code = 7", "UPDATE states SET code = 9 WHERE code = 7"]
)
async def test_a_waiting_optional_code_that_is_gone_is_registered_again(
    settings: Settings, empty_database_url: str, change: str, *, stored: bool
) -> None:
    connection = await asyncpg.connect(empty_database_url)
    async with receiving(settings) as receiver:
        await receiver.send(point("press_state", 7))
        if stored:
            # Whoever stores the row does not see what waits.
            await connection.execute(
                "INSERT INTO press (created_at, source_id, a, b) SELECT created_at, source_id, 1, 2"
                " FROM pending_rows"
            )
        await connection.execute(change)
        sent = [point("press_c", 3)] if stored else [point("press_a", 1), point("press_b", 2)]
        body = encode([*sent, point("neighbour_n", 1)])
        assert (await receiver.post(body))[0] == 204
    row = tuple(await connection.fetchrow(ROW))
    assert row == (1.0, 2.0, 3.0 if stored else None, 7)
    assert await connection.fetchval("SELECT name FROM states WHERE code = 7") == "UNREGISTERED_7"
    assert await connection.fetchval("SELECT count(*) FROM neighbour") == 1
    await connection.close()


async def test_maintenance_registers_a_waiting_code_again(
    settings: Settings, empty_database_url: str
) -> None:
    connection = await asyncpg.connect(empty_database_url)
    async with receiving(settings) as receiver:
        await receiver.send(point("press_state", 7))
        await connection.execute(
            "INSERT INTO press (created_at, source_id, a, b) SELECT created_at, source_id, 1, 2"
            " FROM pending_rows"
        )
        await connection.execute("DELETE FROM states")
        database = receiver.app[STORE].database
        await settle_waiting(database, settings.catalogue, settings.pair_timeout)
    assert tuple(await connection.fetchrow(ROW)) == (1.0, 2.0, None, 7)
    await connection.close()


async def test_an_optional_sample_waits_if_its_row_is_deleted_meanwhile(
    settings: Settings, empty_database_url: str
) -> None:
    """As by a retention, which the sample reaches before the row is gone."""
    connection = await asyncpg.connect(empty_database_url)
    waiting = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"
    async with receiving(settings) as receiver:
        await receiver.send(point("press_a", 1), point("press_b", 2))
        async with connection.transaction():
            await connection.execute("DELETE FROM press")
            sending = asyncio.create_task(receiver.send(point("press_c", 3)))
            await until(lambda: connection.fetchval(waiting))
        await sending
        assert await connection.fetchval("SELECT count(*) FROM rejected_samples") == 0
        assert await connection.fetchval("SELECT samples FROM pending_rows") == '{"c": "3.0"}'
        await receiver.send(point("press_a", 1), point("press_b", 2))
    assert tuple(await connection.fetchrow(ROW)) == (1.0, 2.0, 3.0, None)
    await connection.close()
