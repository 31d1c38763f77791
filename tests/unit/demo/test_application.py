from __future__ import annotations

from collections import Counter
from itertools import groupby
from random import Random

from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from receiver.demo.application import LONGEST_HOLD, OK, STATUSES, Station, build_application

NOW = 1_750_000_000.25


def test_statuses_are_mostly_ok_and_every_other_one_happens() -> None:
    station = Station(Random(1), lambda: NOW)
    seen: Counter[int] = Counter()
    for _ in range(10_000):
        station.work()
        seen[station.status] += 1
    assert seen.keys() == STATUSES.keys()
    assert seen[OK] > seen.total() / 2


def test_a_status_is_held_for_some_scrapes() -> None:
    station = Station(Random(1), lambda: NOW)
    statuses = []
    for _ in range(1_000):
        station.work()
        statuses.append(station.status)
    troubles = [len(list(run)) for status, run in groupby(statuses) if status != OK]
    assert max(troubles) > 1
    assert min(troubles) <= LONGEST_HOLD


def test_nothing_is_read_while_something_is_wrong() -> None:
    now = NOW
    station = Station(Random(1), lambda: now)
    for _ in range(1_000):
        before = station.last_reading
        now += 5
        station.work()
        if station.status == OK:
            assert now - 1 <= station.last_reading <= now
        else:
            assert station.last_reading == before


async def test_the_two_gauges_are_exposed() -> None:
    server = TestServer(build_application(Random(1), lambda: NOW))
    async with TestClient(server) as client:
        response = await client.get("/metrics")
        text = await response.text()
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples.keys() == {"app_status", "ocr_value"}
    assert samples["app_status"] in STATUSES
    assert NOW - 1 <= samples["ocr_value"] <= NOW
