"""A real Prometheus reads back what a real receiver has stored."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from receiver.doctor.prometheus import diagnose
from receiver.http.paths import READ
from receiver.storage.diagnosis.findings import Level
from tests.conftest import MakeSettings
from tests.end_to_end.test_prometheus import Application, exposing, prometheus
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
READS = """
global:
  external_labels:
    site: seoul
remote_read:
  - url: {read}
    read_recent: true
"""
ALONE = "global: {external_labels: {site: seoul}}\n"

METRICS = ("app_status", "ocr_value")
START = 1_700_000_000
HOURS = 6
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


class Queried:
    """The HTTP API of a running Prometheus."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self.url = f"http://127.0.0.1:{port}"

    async def ready(self) -> bool:
        try:
            async with self._session.get(f"{self.url}/-/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def query(self, expression: str, time: float) -> Any:  # noqa: ANN401  JSON
        return await self._get("query", query=expression, time=f"{time:.3f}")

    async def query_range(self, expression: str, start: float, end: float, step: float) -> Any:  # noqa: ANN401  JSON
        bounds = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": str(step)}
        return await self._get("query_range", query=expression, **bounds)

    async def _get(self, path: str, **parameters: str) -> Any:  # noqa: ANN401  JSON
        async with self._session.get(f"{self.url}/api/v1/{path}", params=parameters) as response:
            answer = await response.json()
            assert answer["status"] == "success", answer
            assert not answer.get("warnings"), answer
            result = answer["data"]["result"]
            return sorted(result, key=lambda series: sorted(series["metric"].items()))


@asynccontextmanager
async def queried(directory: Path, configuration: str) -> AsyncIterator[Queried]:
    """Run a Prometheus and wait until it can be queried."""
    await asyncio.to_thread(directory.mkdir, exist_ok=True)
    port = free_port()
    async with (
        prometheus(directory, configuration, port),
        aiohttp.ClientSession() as session,
    ):
        queries = Queried(session, port)
        await until(queries.ready, seconds=60)
        yield queries


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
            # A scrape that has just begun may still add a sample.
            end = time.time() - 1
            before = {name: await first.query(f"{name}[10m]", end) for name in METRICS}
        shutil.rmtree(tmp_path / "first" / "data")
        async with queried(tmp_path / "first", READS.format(read=receiver.url(READ))) as second:
            for name in METRICS:
                assert len(before[name]) == len(applications)
                assert await second.query(f"{name}[10m]", end) == before[name]


async def test_doctor_finds_remote_read_that_fails(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    require_program("prometheus")
    port = free_port()
    reads = READS.format(read=f"http://127.0.0.1:{port}{READ}")
    async with queried(tmp_path / "alone", reads) as queries:
        settings = make_settings(listen=f"127.0.0.1:{port}")
        found = [
            finding
            async for topic, finding in diagnose(queries.url, settings)
            if topic == "remote_read"
        ]
    assert [finding.level for finding in found] == [Level.WARNING]
    assert "connection refused" in found[0].found


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
    """Hours of two applications: steady and unsteady scrapes, restarts, gaps and late starts."""
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


async def make_blocks(directory: Path, points: Iterable[Point]) -> None:
    """Give the Prometheus in `local` the points in its own storage."""
    lines = []
    for metric in METRICS:
        lines.append(f"# TYPE {metric} gauge")
        for labels, at, value in points:
            if labels["__name__"] == metric:
                written = ",".join(
                    f'{name}="{text}"'
                    for name, text in labels.items()
                    # Prometheus adds its external labels when it sends.
                    if name not in {"__name__", "site"}
                )
                lines.append(f"{metric}{{{written}}} {value!r} {at / 1000:.3f}")
    text = directory / "history.txt"
    text.write_text("\n".join([*lines, "# EOF", ""]))
    process = await asyncio.create_subprocess_exec(
        require_program("promtool"),
        *("tsdb", "create-blocks-from", "openmetrics", text, directory / "local" / "data"),
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await process.wait() == 0
