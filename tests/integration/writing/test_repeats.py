"""Incomplete rows that come again after they were completed."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
import pytest

from receiver.config.settings import Settings
from receiver.process.app import STORE
from receiver.storage.connection.connecting import is_distributed
from receiver.storage.writing.settling import settle_waiting
from tests.conftest import MakeSettings
from tests.integration.test_metrics import metrics as read_metrics
from tests.integration.test_metrics import outcomes
from tests.receivers import Point, encode, receiving

NOW = 1_700_000_000_000
SOURCES = 5
# Refuse all writes to the table of incomplete rows.
REFUSE = """
CREATE FUNCTION refuse() RETURNS TRIGGER LANGUAGE plpgsql
AS $$ BEGIN RAISE EXCEPTION 'written'; END $$;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON pending_rows
    FOR EACH STATEMENT EXECUTE FUNCTION refuse()
"""


@pytest.fixture
def settings(database_url: str, make_settings: MakeSettings) -> Settings:
    return make_settings(database_url=database_url)


def halves(metric: str, value: float, moment: int = 0) -> list[Point]:
    at = NOW + 1000 * moment
    return [({"__name__": metric, "instance": f"app-{n}"}, at, value) for n in range(SOURCES)]


async def test_repeats_are_recognized_before_they_are_written(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    first, other = halves("app_status", 1), halves("ocr_value", 1_700_000_000)
    async with receiving(settings) as receiver:
        # First stored, then found to be repeats, then expected to be repeats.
        await receiver.send(*first)
        await receiver.send(*other)
        await receiver.send(*first)
        if not await is_distributed(connection):
            await connection.execute(REFUSE)
        await receiver.send(*other)
        await receiver.send(*first)
        assert await receiver.post(encode(halves("app_status", 2))) == (204, "")
        if not await is_distributed(connection):
            await connection.execute("DROP TRIGGER refuse ON pending_rows")
        # New samples among repeats are stored.
        await receiver.send(*first, *halves("app_status", 1, 1))
        await receiver.send(*other, *halves("ocr_value", 1_700_000_000, 1))
        metrics = await read_metrics(receiver)
    assert await connection.fetchval("SELECT count(*) FROM app_logs") == 2 * SOURCES
    assert await connection.fetchval("SELECT count(*) FROM pending_rows") == 0
    rejected = await connection.fetch("SELECT metric, value, reason FROM rejected_samples")
    assert [tuple(row) for row in rejected] == [("app_status", 2, "conflict")] * SOURCES
    # Each source repeated five samples; two rows of each are stored.
    assert outcomes(metrics) == {
        "stored": 4 * SOURCES,
        "duplicate": 5 * SOURCES,
        "conflict": SOURCES,
    }


@pytest.mark.parametrize("waits", [False, True])
async def test_a_value_that_the_row_has_is_not_rejected_with_others_of_its_batch(
    settings: Settings, connection: asyncpg.Connection, *, waits: bool
) -> None:
    first, others = halves("app_status", 1), halves("ocr_value", 1_700_000_000)
    async with receiving(settings) as receiver:
        await receiver.send(*first)
        if not waits:
            await receiver.send(*others)
        # The batch takes the first value, so it is the stored one that contradicts.
        await receiver.send(*halves("app_status", 2), *first, *halves("app_status", 3))
        await receiver.send(*others)
        metrics = await read_metrics(receiver)
    assert await connection.fetchval("SELECT count(*) FROM app_logs WHERE app_status = 1") == 5
    rejected = await connection.fetch("SELECT value, reason FROM rejected_samples ORDER BY 1")
    assert [tuple(row) for row in rejected] == [
        (value, "conflict") for value in (2, 3) for _ in range(SOURCES)
    ]
    assert outcomes(metrics) == {
        "stored": 2 * SOURCES,
        "duplicate": (1 if waits else 2) * SOURCES,
        "conflict": 2 * SOURCES,
    }


@pytest.mark.parametrize("again", [False, True])
async def test_a_value_is_not_listed_as_rejected_once_a_complete_row_has_it(
    settings: Settings, connection: asyncpg.Connection, *, again: bool
) -> None:
    others = halves("ocr_value", 1_700_000_000)
    async with receiving(settings) as receiver:
        await receiver.send(*halves("app_status", 1))
        # Contradicts the waiting value, until a complete row comes before that one.
        await receiver.send(*halves("app_status", 2))
        await receiver.send(*halves("app_status", 2), *others)
        if again:
            await receiver.send(*others)
        database = receiver.app[STORE].database
        await settle_waiting(database, settings.catalogue, settings.pair_timeout)
    assert await connection.fetchval("SELECT count(*) FROM app_logs WHERE app_status = 2") == 5
    assert await connection.fetchval("SELECT count(*) FROM pending_rows") == 0
    rejected = await connection.fetch("SELECT value, reason FROM rejected_samples")
    assert [tuple(row) for row in rejected] == [(1, "conflict")] * SOURCES


async def test_a_stored_sample_that_comes_again_when_it_is_too_old_is_a_repeat(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    first, others = halves("app_status", 1), halves("ocr_value", 1_700_000_000)
    async with receiving(settings) as receiver:
        await receiver.send(*first, *others)
        await receiver.send(*halves("app_status", 1, 1))
    limited = settings.model_copy(update={"max_sample_age": timedelta(hours=1)})
    async with receiving(limited) as receiver:
        await receiver.send(*first, *others, *halves("app_status", 1, 1))
        await receiver.send(*halves("app_status", 2), *halves("ocr_value", 1_700_000_000, 1))
        metrics = await read_metrics(receiver)
    rejected = await connection.fetch(
        "SELECT metric, value, reason, count(*) FROM rejected_samples GROUP BY 1, 2, 3 ORDER BY 1"
    )
    assert [tuple(row) for row in rejected] == [
        ("app_status", 2, "too_old", SOURCES),
        ("ocr_value", 1_700_000_000, "too_old", SOURCES),
    ]
    assert outcomes(metrics) == {"duplicate": 3 * SOURCES, "too_old": 2 * SOURCES}
