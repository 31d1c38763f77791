"""`POST /api/v1/write` and related routes, over HTTP and into a real database."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import snappy

from receiver.http import body
from receiver.process.app import IN_FLIGHT
from receiver.protocol.generated.remote_write_v1_pb2 import TimeSeries, WriteRequest
from tests.conftest import MakeSettings
from tests.receivers import HEADERS, Point, Running, encode, receiving
from tests.waiting import until

NOW = 1_700_000_000_000
STALE = struct.unpack("<d", (0x7FF0000000000002).to_bytes(8, "little"))[0]


@pytest.fixture
async def receiver(database_url: str, make_settings: MakeSettings) -> AsyncIterator[Running]:
    settings = make_settings(
        database_url=database_url, max_body_size="64KiB", max_message_size="1MiB"
    )
    async with receiving(settings) as running:
        yield running


def status(value: float, instance: str = "a", timestamp: int = NOW) -> Point:
    return {"__name__": "app_status", "instance": instance}, timestamp, value


def ocr(value: float = NOW / 1000, instance: str = "a", timestamp: int = NOW) -> Point:
    return {"__name__": "ocr_value", "instance": instance}, timestamp, value


def other(name: str) -> Point:
    return {"__name__": name, "instance": "a"}, NOW, 1.0


async def test_a_pair_is_a_row_before_it_is_acknowledged(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    body = encode([status(1), ocr(), other("up"), other("scrape_duration_seconds")])
    async with receiver.session.post(receiver.url(), data=body, headers=HEADERS) as response:
        assert response.status == 204
        (row,) = await connection.fetch("SELECT * FROM app_logs")
    assert row["created_at"].timestamp() * 1000 == NOW
    assert row["app_status"] == 1
    labels = await connection.fetchval("SELECT labels ->> 'instance' FROM sources")
    assert labels == "a"


OTHER_STATUS = "app_status", 0.0, "other_sample_rejected"
OTHER_OCR = "ocr_value", NOW / 1000, "other_sample_rejected"


@pytest.mark.parametrize(
    ("points", "aside"),
    [
        ([status(0.5), ocr()], [("app_status", 0.5, "not_whole"), OTHER_OCR]),
        ([ocr(), status(float("inf"))], [("app_status", float("inf"), "infinite"), OTHER_OCR]),
        ([status(2.0**31), ocr()], [("app_status", 2.0**31, "out_of_range"), OTHER_OCR]),
        ([status(0), ocr(1e300)], [OTHER_STATUS, ("ocr_value", 1e300, "out_of_range")]),
        ([ocr(float("-inf")), status(0)], [OTHER_STATUS, ("ocr_value", float("-inf"), "infinite")]),
        (
            [status(0, timestamp=2**62), ocr(timestamp=2**62)],
            [
                ("app_status", 0.0, "timestamp_out_of_range"),
                ("ocr_value", NOW / 1000, "timestamp_out_of_range"),
            ],
        ),
        ([status(STALE), ocr(STALE)], []),
    ],
)
async def test_a_value_that_makes_no_row_is_rejected_with_its_other_sample(
    receiver: Running, connection: asyncpg.Connection, points: list[Point], aside: list[Any]
) -> None:
    body = encode([*points, status(0, "good"), ocr(instance="good")])
    async with receiver.session.post(receiver.url(), data=body, headers=HEADERS) as response:
        assert response.status == 204
    found = await connection.fetch("SELECT metric, value, reason FROM rejected_samples ORDER BY 1")
    assert [tuple(sample) for sample in found] == aside
    assert await connection.fetchval("SELECT count(*) FROM app_logs") == 1


def with_series(*series: TimeSeries) -> bytes:
    return bytes(snappy.compress(WriteRequest(timeseries=series).SerializeToString()))


def labelled(*labels: tuple[str, str]) -> TimeSeries:
    series = TimeSeries()
    for name, value in labels:
        series.labels.add(name=name, value=value)
    series.samples.add(value=1, timestamp=NOW)
    return series


GOOD = encode([status(0), ocr()])


@pytest.mark.parametrize(
    ("body", "headers", "code", "said"),
    [
        (GOOD, {"Content_Type": "application/json"}, 415, "application/x-protobuf"),
        (GOOD, {"Content_Encoding": "zstd"}, 415, "snappy"),
        (b"", {}, 400, "snappy"),
        (b"not snappy", {}, 400, "snappy"),
        (GOOD[:-3], {}, 400, "snappy"),
        (snappy.compress(b"\xff\xff\xff"), {}, 400, "prometheus.WriteRequest"),
        (b"\xff\xff\xff\xff\x0f", {}, 413, "RECEIVER_MAX_MESSAGE_SIZE"),
        (bytes(65 * 1024), {}, 413, "RECEIVER_MAX_BODY_SIZE"),
        (with_series(labelled(("instance", "a"))), {}, 400, "__name__"),
        (
            with_series(labelled(("__name__", "up"), ("x", "1"), ("x", "2"))),
            {},
            400,
            "the label 'x' occurs more than once",
        ),
        (with_series(labelled(("__name__", "up"), ("", "1"))), {}, 400, "no name"),
    ],
)
async def test_a_fault_of_the_request_is_named(
    receiver: Running, body: bytes, headers: dict[str, str], code: int, said: str
) -> None:
    answer, text = await receiver.post(body, **headers)
    assert (answer, said in text) == (code, True), text


async def test_the_valid_series_of_a_faulty_request_are_stored(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    request = WriteRequest.FromString(bytes(snappy.uncompress(GOOD)))
    request.timeseries.insert(0, labelled(("instance", "a")))
    body = bytes(snappy.compress(request.SerializeToString()))
    async with receiver.session.post(receiver.url(), data=body, headers=HEADERS) as response:
        assert response.status == 400
        assert "1 of 3 series" in await response.text()
    assert await connection.fetchval("SELECT count(*) FROM app_logs") == 1


async def test_a_body_in_chunks_has_the_same_limit(receiver: Running) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield bytes(1024)

    async with receiver.session.post(
        receiver.url(), data=chunks(), headers={**HEADERS, "Connection": "close"}
    ) as response:
        assert response.status == 413


async def test_a_body_that_does_not_come_in_time_is_sent_back_later(
    database_url: str, make_settings: MakeSettings
) -> None:
    settings = make_settings(database_url=database_url, read_timeout="100ms")
    async with receiving(settings) as receiver:
        reader, writer = await asyncio.open_connection(*receiver.address)
        writer.write(b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        answer = await reader.readuntil(b"\r\n\r\n")
        assert b" 503 " in answer
        assert b"Retry-After: 5" in answer
        assert b"RECEIVER_READ_TIMEOUT" in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_a_body_that_comes_too_slowly_is_sent_back_later(
    database_url: str, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "WINDOW", 0.5)
    settings = make_settings(database_url=database_url, min_body_rate="100")
    async with receiving(settings) as receiver:
        reader, writer = await asyncio.open_connection(*receiver.address)
        writer.write(b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        trickle = asyncio.create_task(trickle_into(writer))
        answer = await reader.readuntil(b"\r\n\r\n")
        assert b" 503 " in answer
        assert b"Retry-After: 5" in answer
        assert b"RECEIVER_MIN_BODY_RATE" in await reader.readline()
        trickle.cancel()
        writer.close()


async def test_a_request_is_given_up_when_its_sender_is_gone(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    """It takes long to decode, and others wait for their turn."""
    slow = encode([*(other(f"metric {number}") for number in range(80_000)), status(1), ocr()])
    async with receiving(make_settings(database_url=database_url)) as receiver:
        _, writer = await asyncio.open_connection(*receiver.address)
        head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
        size = f"Host: x\r\nContent-Length: {len(slow)}"
        writer.write(f"POST /api/v1/write HTTP/1.1\r\n{head}{size}\r\n\r\n".encode() + slow)
        await until(lambda: receiver.app[IN_FLIGHT].requests == 1)
        writer.close()
        await until(lambda: receiver.app[IN_FLIGHT].requests == 0)
    assert await connection.fetchval("SELECT count(*) FROM app_logs") == 0


async def trickle_into(writer: asyncio.StreamWriter) -> None:
    """Send ten bytes per second."""
    while True:
        writer.write(b"a")
        await asyncio.sleep(0.1)


async def test_requests_above_the_limit_are_sent_back_later(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    settings = make_settings(database_url=database_url, max_in_flight_requests=1)
    async with receiving(settings) as receiver:
        async with connection.transaction():
            await connection.execute("LOCK TABLE app_logs IN EXCLUSIVE MODE")
            first = asyncio.create_task(receiver.post(GOOD))
            await until(lambda: receiver.app[IN_FLIGHT].requests == 1)
            async with receiver.session.post(
                receiver.url(), data=GOOD, headers=HEADERS
            ) as response:
                assert (response.status, response.headers["Retry-After"]) == (503, "5")
                assert "RECEIVER_MAX_IN_FLIGHT_REQUESTS" in await response.text()
        assert (await first)[0] == 204


async def test_a_request_takes_no_place_before_its_body_is_there(
    database_url: str, make_settings: MakeSettings
) -> None:
    settings = make_settings(database_url=database_url, max_in_flight_requests=1)
    async with receiving(settings) as receiver:
        _, writer = await asyncio.open_connection(*receiver.address)
        writer.write(b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        await writer.drain()
        await until(lambda: receiver.app[IN_FLIGHT].bodies.size == 3)
        assert (await receiver.post(GOOD))[0] == 204
        writer.close()
        await writer.wait_closed()
        await until(lambda: receiver.app[IN_FLIGHT].bodies.size == 0)


async def test_metrics_and_health(receiver: Running) -> None:
    await receiver.send(status(1), ocr(), other("up"))
    _, text = await receiver.get("/metrics")
    assert 'receiver_samples_total{outcome="stored",reason="",table="app_logs"} 2.0' in text
    assert 'receiver_samples_total{outcome="filtered",reason="",table=""} 1.0' in text
    assert 'receiver_requests_total{code="204",version="1.0"} 1.0' in text
    assert (await receiver.get("/-/healthy"))[0] == 200
    assert (await receiver.get("/-/ready"))[0] == 200
    assert (await receiver.get("/nothing"))[0] == 404
    assert (await receiver.get("/api/v1/write"))[0] == 405


async def test_without_a_database_nothing_is_acknowledged(make_settings: MakeSettings) -> None:
    settings = make_settings(database_url="postgresql://nobody@127.0.0.1:1/nothing")
    async with receiving(settings, wait=False) as receiver:
        assert (await receiver.get("/-/healthy"))[0] == 200
        code, text = await receiver.get("/-/ready")
        assert (code, "not ready" in text) == (503, True)
        async with receiver.session.post(receiver.url(), data=GOOD, headers=HEADERS) as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "5"
