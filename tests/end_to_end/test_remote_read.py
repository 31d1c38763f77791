"""A real Prometheus reads back what a real receiver has stored."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest

from receiver.config.settings import Settings
from receiver.doctor.prometheus import diagnose
from receiver.http.paths import READ
from receiver.storage.diagnosis.findings import Finding, Level
from tests.conftest import MakeSettings
from tests.end_to_end.querying import ALONE, READS, make_blocks, queried
from tests.end_to_end.test_prometheus import Application, exposing
from tests.faults.processes import free_port
from tests.programs import require_program
from tests.receivers import Point, receiving
from tests.waiting import until

pytestmark = pytest.mark.end_to_end

SCRAPES = 12
WRITES = """
global:
  scrape_interval: 1s
  external_labels:
    site: seoul
scrape_configs:
  - job_name: applications
    static_configs:
      - targets: [{targets}]
remote_write:
  - url: {write}
    queue_config:
      batch_send_deadline: 200ms
"""
METRICS = ("app_status", "ocr_value")
START = 1_700_000_000
HOURS = 6
RETENTION = "--storage.tsdb.retention.time=1d"
INTERVAL = 15_000
"""Milliseconds between two scrapes of most cameras."""
CAMERAS = ("cam-1", "cam-2", "cam-3", "cam-4", "cam-5")
SELECTORS = (
    "app_status[6h]",
    "ocr_value[6h]",
    '{__name__=~"app_.*|ocr_value", instance!="cam-2"}[30m]',
    'app_status{line!~"A|B"}[1h] offset 2h',
    'app_status{line=""}[2h]',
    '{line=~".+", __name__!="ocr_value"}[5m]',
)
EXPRESSIONS = (
    'app_status{line=""}',
    "count(app_status) by (line)",
    "count_over_time(app_status[1h])",
    "rate(ocr_value[5m])",
    "sum_over_time((app_status > 0)[2h:1m])",
    "app_status + on(instance, line) ocr_value",
    "ocr_value and app_status == 2",
    "avg_over_time(app_status[3h] @ end())",
    'absent(app_status{instance="nobody"})',
    "changes(app_status[1h]) / on(instance) count_over_time(ocr_value[1h])",
    "quantile_over_time(0.9, app_status[6h])",
    "topk(1, ocr_value)",
    "timestamp(app_status)",
    "resets(ocr_value[6h])",
    "app_status offset 1h - app_status",
)


async def test_a_prometheus_that_lost_its_data_reads_it_back(
    database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    require_program("prometheus")
    applications = [Application(), Application()]
    async with AsyncExitStack() as stack:
        settings = make_settings(database_url=database_url)
        receiver = await stack.enter_async_context(receiving(settings))
        targets = [await stack.enter_async_context(exposing(app.expose)) for app in applications]
        writes = WRITES.format(targets=", ".join(targets), write=receiver.url())
        async with queried(tmp_path / "first", writes) as first:
            await until(
                lambda: min(app.scrapes for app in applications) >= SCRAPES, seconds=SCRAPES + 60
            )
            # A scrape that has just started may still add a sample.
            end = time.time() - 1
            before = {name: await first.query(f"{name}[10m]", end) for name in METRICS}
        shutil.rmtree(tmp_path / "first" / "data")
        async with queried(tmp_path / "first", READS.format(read=receiver.url(READ))) as second:
            for name in METRICS:
                assert len(before[name]) == len(applications)
                assert await second.query(f"{name}[10m]", end) == before[name]


async def test_a_prometheus_whose_retention_has_passed_answers_as_before(
    database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    require_program("prometheus")
    points = list(days_apart())
    end = points[-1][1] / 1000
    async with receiving(make_settings(database_url=database_url)) as receiver:
        for begin in range(0, len(points), 5_000):
            await receiver.send(*points[begin : begin + 5_000])
        await make_blocks(tmp_path, points)
        directory = tmp_path / "local"
        async with queried(directory, ALONE) as whole:
            before = [await whole.query(f"{name}[60h]", end) for name in METRICS]
            panel = await whole.query_range("rate(ocr_value[5m])", START, end, 600)
        async with queried(directory, ALONE, RETENTION) as rest:

            async def dropped() -> bool:
                return bool(await rest.query("ocr_value[60h]", end) != before[1])

            await until(dropped)
        # Prometheus reads only the time before the start of its own storage.
        reads = READS.format(read=receiver.url(READ)).replace("true", "false")
        async with queried(directory, reads, RETENTION) as both:
            assert [await both.query(f"{name}[60h]", end) for name in METRICS] == before
            found = await both.query_range("rate(ocr_value[5m])", START, end, 600)
    assert [len(series["values"]) for series in before[1]] == [len(points) // 2]
    assert found == panel


def days_apart() -> Iterator[Point]:
    """Yield three hours of an application, and half an hour two days later."""
    labels = {"instance": "cam-1", "job": "camera", "site": "seoul"}
    for begin, minutes in ((START, 180), (START + 50 * 3600, 30)):
        for number in range(minutes * 4):
            at = 1000 * begin + INTERVAL * number + number % 7
            for name, value in (("app_status", number % 3), ("ocr_value", at / 1000 - 0.5)):
                yield {**labels, "__name__": name}, at, float(value)


async def test_doctor_finds_remote_read_that_fails(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    port = free_port()
    reads = READS.format(read=f"http://127.0.0.1:{port}{READ}")
    (finding,) = await diagnose_reading(reads, tmp_path, make_settings(listen=f"127.0.0.1:{port}"))
    assert finding.level is Level.WARNING
    assert "connection refused" in finding.found


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        ("", ', for series with site="seoul" (external_labels)'),
        ("filter_external_labels: false", ""),
        (
            "required_matchers: {old: 'yes'}",
            ', for series with site="seoul" (external_labels), by queries with old="yes" '
            "(required_matchers)",
        ),
    ],
)
async def test_doctor_finds_remote_read_that_works(
    database_url: str, make_settings: MakeSettings, tmp_path: Path, more: str, asked: str
) -> None:
    async with receiving(make_settings(database_url=database_url)) as receiver:
        settings = make_settings(listen="{}:{}".format(*receiver.address))
        reads = f"{READS.format(read=receiver.url(READ))}    {more}\n"
        (finding,) = await diagnose_reading(reads, tmp_path, settings)
    assert finding.level is Level.OK
    assert finding.found == f"remote_read is from {receiver.url(READ)}{asked}"


async def diagnose_reading(
    configuration: str, directory: Path, settings: Settings
) -> list[Finding]:
    """Return doctor's findings about remote read for a real Prometheus."""
    require_program("prometheus")
    async with queried(directory / "alone", configuration) as queries:
        found = [one async for one in diagnose(queries.url, settings)]
    return [finding for topic, finding in found if topic == "remote_read"]


async def test_promql_finds_in_the_receiver_what_it_finds_in_its_own_storage(
    database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    require_program("prometheus")
    points = list(history())
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(
            receiving(make_settings(database_url=database_url))
        )
        for begin in range(0, len(points), 5_000):
            await receiver.send(*points[begin : begin + 5_000])
        await make_blocks(tmp_path, points)
        local = await stack.enter_async_context(queried(tmp_path / "local", ALONE))
        remote = await stack.enter_async_context(
            queried(tmp_path / "remote", READS.format(read=receiver.url(READ)))
        )
        end = START + HOURS * 3600
        for selector in SELECTORS:
            wanted = await local.query(selector, end)
            assert wanted, f"{selector} finds nothing"
            assert await remote.query(selector, end) == wanted, selector
        for expression in EXPRESSIONS:
            steps = (expression, START, end, 120)
            wanted = await local.query_range(*steps)
            assert wanted, f"{expression} finds nothing"
            assert await remote.query_range(*steps) == wanted, expression


def history() -> Iterator[Point]:
    """Yield hours of two applications: steady and unsteady scrapes, restarts, gaps, late starts."""
    random = Random(17)
    for instance, line in zip(CAMERAS, ("A", "B", "C", "", "C"), strict=True):
        # The last one has more samples than are encoded at once.
        interval = 500 if instance == CAMERAS[-1] else INTERVAL
        labels = {"instance": instance, "job": "camera", "site": "seoul"}
        if line:
            labels["line"] = line
        ocr = START - random.randrange(10**6) + 0.125
        for number in range(HOURS * 3_600_000 // interval):
            if instance == "cam-2" and 300 < number < 420:
                continue
            at = 1000 * START + interval * number
            at += random.randrange(1, 400) if instance != "cam-1" else 0
            ocr = START if random.random() < 0.002 else ocr + random.choice([15, 15, 15.5, 0])
            for name, value in (("app_status", random.choice([0, 0, 0, 1, 2])), ("ocr_value", ocr)):
                yield {**labels, "__name__": name}, at, value
