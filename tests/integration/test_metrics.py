"""Metrics agree with the content of the database."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from receiver.storage.reading import observing
from tests.conftest import MakeSettings
from tests.messages import NOW, STALE
from tests.metrics import exposed
from tests.receivers import HEADERS, Point, Running, encode, receiving
from tests.tables import camera, press, robot, write_tables
from tests.waiting import until

NAN = float("nan")
PENDING = "SELECT count(*) FROM pending_rows, jsonb_object_keys(samples)"


@pytest.fixture
async def receiver(database_url: str, make_settings: MakeSettings) -> AsyncIterator[Running]:
    settings = make_settings(database_url=database_url, maintenance_interval="100ms")
    async with receiving(settings) as running:
        yield running


def status(value: float, instance: str = "a", timestamp: int = NOW) -> Point:
    return {"__name__": "app_status", "instance": instance, "job": "j"}, timestamp, value


def ocr(value: float = NOW / 1000, instance: str = "a", timestamp: int = NOW) -> Point:
    return {"__name__": "ocr_value", "instance": instance, "job": "j"}, timestamp, value


def other() -> Point:
    return {"__name__": "up", "instance": "a"}, NOW, 1.0


async def metrics(receiver: Running) -> dict[str, float]:
    return exposed((await receiver.get("/metrics"))[1])


def outcomes(counted: dict[str, float]) -> dict[str, float]:
    """Return the number of samples by outcome, or by reason if they were rejected."""
    prefix = "receiver_samples_total{outcome="
    found = {
        re.sub(',table=.*|[}"]', "", name.removeprefix(prefix)): value
        for name, value in counted.items()
        if name.startswith(prefix) and value
    }
    return {name.removeprefix("rejected,reason="): value for name, value in found.items()}


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        pytest.param([[status(0), ocr()]], {"stored": 2}, id="a pair"),
        pytest.param([[status(0), ocr(), other()]], {"stored": 2, "filtered": 1}, id="filtered"),
        pytest.param([[status(0)], [ocr()]], {"stored": 2}, id="a pair in two requests"),
        pytest.param([[status(0)]], {}, id="a half waits"),
        pytest.param([[status(0)], [status(0)]], {"duplicate": 1}, id="a half twice"),
        pytest.param([[status(0), status(0)]], {"duplicate": 1}, id="a half twice in one"),
        pytest.param([[status(0)], [status(1)]], {"conflict": 1}, id="a half that contradicts"),
        pytest.param(
            [[status(0), ocr()], [status(0), ocr()]], {"stored": 2, "duplicate": 2}, id="twice"
        ),
        pytest.param(
            [[status(0), ocr(), status(0), ocr()]], {"stored": 2, "duplicate": 2}, id="twice in one"
        ),
        pytest.param(
            [[status(0), ocr()], [status(1), ocr()]],
            {"stored": 2, "duplicate": 1, "conflict": 1},
            id="one of two contradicts",
        ),
        pytest.param(
            [[status(0), ocr()], [status(1), ocr()], [status(1), ocr()]],
            {"stored": 2, "duplicate": 3, "conflict": 1},
            id="the same contradiction again",
        ),
        pytest.param(
            [[status(0), ocr()], [status(0)]], {"stored": 2, "duplicate": 1}, id="a half of a row"
        ),
        pytest.param(
            [[status(0)], [status(0), ocr()]], {"stored": 2, "duplicate": 1}, id="a half before"
        ),
        pytest.param([[status(STALE), ocr(STALE)]], {"stale": 2}, id="stale"),
        pytest.param(
            [[status(NAN), ocr(NAN)], [status(NAN)], [status(0.5, "b")]],
            {"not_a_number": 2, "duplicate": 1, "not_whole": 1},
            id="rejected",
        ),
    ],
)
async def test_outcomes(
    receiver: Running,
    connection: asyncpg.Connection,
    requests: list[list[Point]],
    expected: dict[str, float],
) -> None:
    for points in requests:
        await receiver.send(*points)

    async def settled() -> bool:
        return outcomes(await metrics(receiver)) == expected

    try:
        await until(settled, 3)
    except TimeoutError:
        assert outcomes(await metrics(receiver)) == expected
    await agrees(receiver, connection)


async def agrees(receiver: Running, connection: asyncpg.Connection) -> None:
    """Check that every sample has one outcome or waits, and that the tables agree."""

    async def agree() -> bool:
        counted = await metrics(receiver)
        by_outcome = outcomes(counted)
        pending = await connection.fetchval(PENDING)
        rows = await connection.fetchval("SELECT count(*) FROM app_logs")
        aside = dict(
            await connection.fetch("SELECT reason, count(*) FROM rejected_samples GROUP BY 1")
        )
        rejected = {name: by_outcome.get(name, 0) for name in aside}
        # A conflict that was counted is forgotten if its row has the value after all.
        conflicts = rejected.pop("conflict", 0) - aside.pop("conflict", 0)
        total = sum(by_outcome.values()) + pending
        return (
            by_outcome.get("stored", 0) == 2 * rows
            and rejected == aside
            and conflicts >= 0
            and total == counted["receiver_samples_received_total"]
            and counted.get('receiver_pending_rows{table="app_logs"}') == pending
        )

    await until(agree, 10)


@pytest.mark.parametrize("seed", range(3))
async def test_every_sample_of_random_traffic_has_one_outcome(
    receiver: Running, connection: asyncpg.Connection, seed: int
) -> None:
    chance = random.Random(seed)
    values = [0, 0, 0, 1, 0.5, NAN, STALE]
    points = [
        chance.choice([status, ocr])(
            chance.choice(values), chance.choice("abc"), NOW + 1000 * chance.randrange(20)
        )
        for _ in range(600)
    ]
    points += [other()] * 10
    chance.shuffle(points)
    await asyncio.gather(
        *(receiver.send(*points[start : start + 20]) for start in range(0, len(points), 20))
    )
    await agrees(receiver, connection)


async def test_a_sample_of_a_row_that_stays_incomplete_ends_as_unpaired(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    settings = make_settings(
        database_url=database_url, maintenance_interval="50ms", pair_timeout="3s"
    )
    async with receiving(settings) as receiver:
        await receiver.send(status(0))

        async def waits() -> bool:
            counted = await metrics(receiver)
            age = counted.get("receiver_pending_oldest_age_seconds", 0)
            waiting = counted.get('receiver_pending_rows{table="app_logs"}')
            return waiting == 1 and 0.1 < age < 30

        await until(waits)

        async def given_up() -> bool:
            counted = await metrics(receiver)
            nobody = counted["receiver_pending_oldest_age_seconds"] == 0
            return nobody and outcomes(counted) == {"unpaired": 1}

        await until(given_up)
        await agrees(receiver, connection)


async def test_requests_by_code_version_and_cause(receiver: Running) -> None:
    await receiver.send(status(0), ocr())
    assert (await receiver.post(b"no snappy"))[0] == 400
    assert (await receiver.post(b"", Content_Type="text/plain"))[0] == 415
    v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
    assert (await receiver.post(b"\0", Content_Type=v2))[0] == 204
    counted = await metrics(receiver)
    for series in ('code="204",version="1.0"', 'code="400",version="1.0"'):
        assert counted[f"receiver_requests_total{{{series}}}"] == 1
    assert counted['receiver_requests_total{code="204",version="2.0"}'] == 1
    assert counted['receiver_requests_total{code="415",version="unknown"}'] == 1
    assert counted['receiver_refused_requests_total{cause="bad_request"}'] == 1
    assert counted['receiver_refused_requests_total{cause="unsupported_media_type"}'] == 1


async def test_batches(receiver: Running) -> None:
    await receiver.send(*(one(0.0, str(number)) for number in range(50) for one in (status, ocr)))
    counted = await metrics(receiver)
    assert counted["receiver_batch_rows_sum"] == 50
    assert counted["receiver_batch_rows_count"] == 1
    assert counted["receiver_commit_duration_seconds_count"] == 1
    assert 0 < counted["receiver_commit_duration_seconds_sum"] < 10
    assert counted["receiver_batches_failed_total"] == 0


async def test_the_queue_and_the_pool(receiver: Running, connection: asyncpg.Connection) -> None:
    await receiver.send(status(0), ocr())
    async with connection.transaction():
        await connection.execute("LOCK TABLE app_logs IN EXCLUSIVE MODE")
        sent = [
            asyncio.create_task(receiver.post(encode([status(0, str(n)), ocr(instance=str(n))])))
            for n in range(5)
        ]

        async def waiting() -> bool:
            counted = await metrics(receiver)
            return (
                counted["receiver_queue_requests"] == 5
                and counted["receiver_queue_oldest_age_seconds"] > 0.2
                and counted['receiver_pool_connections{state="busy"}'] >= 1
                and counted["receiver_in_flight_bytes"] > 0
            )

        await until(waiting)
    assert {(await task)[0] for task in sent} == {204}
    counted = await metrics(receiver)
    assert counted["receiver_queue_requests"] == counted["receiver_queue_oldest_age_seconds"] == 0
    assert counted["receiver_in_flight_bytes"] == 0
    assert counted["receiver_pool_connections_limit"] == 5


async def test_a_batch_that_fails_is_counted_as_that(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    async with receiving(
        make_settings(database_url=database_url, commit_timeout="200ms")
    ) as receiver:
        async with connection.transaction():
            await connection.execute("LOCK TABLE app_logs IN EXCLUSIVE MODE")
            assert (await receiver.post(encode([status(0), ocr()])))[0] == 503
        counted = await metrics(receiver)
        assert counted["receiver_batches_failed_total"] == 1
        assert counted["receiver_samples_received_total"] == 0
        assert counted["receiver_database_up"] == 0
        assert counted['receiver_refused_requests_total{cause="database_unavailable"}'] == 1
        await receiver.send(status(0), ocr())
        assert (await metrics(receiver))["receiver_database_up"] == 1


async def test_the_database_is_down_until_it_answers(make_settings: MakeSettings) -> None:
    settings = make_settings(database_url="postgresql://nobody@127.0.0.1:1/nothing")
    async with receiving(settings, wait=False) as receiver:
        counted = await metrics(receiver)
        assert counted["receiver_database_up"] == 0
        assert not any(name.startswith("receiver_pending_rows") for name in counted)


async def test_the_newest_sample_of_each_source(
    receiver: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = int(time.time()) * 1000
    for instance, age in (("a", 0), ("b", 60), ("gone", 2 * 86400)):
        for back in (100, 0):
            at = now - (age + back) * 1000
            await receiver.send(status(0, instance, at), ocr(0, instance, at))
    name = "receiver_source_newest_sample_timestamp_seconds"

    async def newest() -> dict[str, float]:
        counted = await metrics(receiver)
        return {
            series.partition('source_instance="')[2].partition('"')[0]: value - now / 1000
            for series, value in counted.items()
            if series.startswith(name)
        }

    async def all_told() -> bool:
        counted = await metrics(receiver)
        return counted["receiver_sources"] == 3 and await newest() == {"a": 0, "b": -60}

    await until(all_told)
    monkeypatch.setattr(observing, "MAX_SOURCES", 2)

    async def bounded() -> bool:
        counted = await metrics(receiver)
        return counted["receiver_sources_unlisted"] == 1 and await newest() == {"b": -60}

    await until(bounded)


async def test_a_request_id_is_taken_made_and_told(
    receiver: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def post(body: bytes, **more: str) -> tuple[str, str]:
        given = {name.replace("_", "-"): value for name, value in more.items()}
        async with receiver.session.post(
            receiver.url(), data=body, headers=HEADERS | given
        ) as response:
            return response.headers["X-Request-ID"], await response.text()

    good = encode([status(0), ocr()])
    assert await post(good, X_Request_ID="trace-1:2/3=") == ("trace-1:2/3=", "")
    made = [(await post(good))[0] for _ in range(3)]
    assert len(set(made)) == 3
    for insane in ("two words", "x" * 129, '"quoted"', "%0a"):
        assert (await post(good, X_Request_ID=insane))[0] != insane
    identity, text = await post(b"no snappy", X_Request_ID="mine")
    assert identity == "mine"
    assert text.endswith("(request mine)\n")
    assert [vars(record).get("request_id") for record in caplog.records if "400" in record.message]
    async with receiver.session.get(receiver.url("/nothing")) as response:
        assert len(response.headers["X-Request-ID"]) == 16


async def test_every_table_is_counted_by_itself(
    database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    tables = write_tables(tmp_path)
    settings = make_settings(
        database_url=database_url, tables_file=tables, maintenance_interval="100ms"
    )
    now = int(time.time() * 1000)
    async with receiving(settings) as receiver:
        await receiver.send(*camera(now, 0), *press(now, 1.0, 1), *press(now, 1.0, 0.5)[1:])
        await receiver.send(*press(now + 1, 1.0, 1)[:1], *robot(now, 3))

        async def counted() -> bool:
            found = await metrics(receiver)
            return {name: found.get(name, 0) for name in EXPECTED} == EXPECTED

        await until(counted)
        newest = 'receiver_source_newest_sample_timestamp_seconds{source_id="'
        shown = [name for name in await metrics(receiver) if name.startswith(newest)]
        tables_shown = {name.partition('table="')[2].partition('"')[0] for name in shown}
        assert tables_shown == {"app_logs", "press_readings", "robots"}


EXPECTED = {
    'receiver_samples_total{outcome="stored",table="app_logs"}': 2,
    'receiver_samples_total{outcome="stored",table="press_readings"}': 2,
    'receiver_samples_total{outcome="stored",table="robots"}': 1,
    'receiver_samples_total{outcome="rejected",reason="not_whole",table="press_readings"}': 1,
    'receiver_samples_total{outcome="rejected",reason="not_whole",table="app_logs"}': 0,
    'receiver_pending_rows{table="app_logs"}': 0,
    'receiver_pending_rows{table="press_readings"}': 1,
    'receiver_pending_rows{table="robots"}': 0,
}
