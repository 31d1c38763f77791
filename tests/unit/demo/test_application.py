from __future__ import annotations

from collections import Counter
from itertools import groupby
from random import Random

from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from receiver.config.tables_reader import parse_catalogue
from receiver.demo.application import (
    LONGEST_HOLD,
    NORMAL_PRESSURE,
    OK,
    STATUSES,
    Press,
    Station,
    build_application,
)
from receiver.demo.tables import TABLES

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


def test_a_press_that_stands_makes_no_strokes() -> None:
    press = Press(Random(1))
    seen = set()
    for _ in range(1_000):
        before = press.strokes
        press.work()
        assert (press.strokes > before) == press.running
        assert 0 <= press.pressure < 2 * NORMAL_PRESSURE
        seen.add(press.running)
    assert seen == {True, False}


async def test_what_the_tables_of_the_demo_hold_is_exposed() -> None:
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
    # Missing if another test has disabled `_created` series.
    samples.pop("press_strokes_created", None)
    assert samples.keys() == parse_catalogue(TABLES).by_metric.keys()
    assert samples["app_status"] in STATUSES
    assert NOW - 1 <= samples["ocr_value"] <= NOW
