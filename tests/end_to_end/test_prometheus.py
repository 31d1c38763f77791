"""A real Prometheus scrapes applications and pushes to a real receiver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
import snappy
from aiohttp import web

from receiver.config.settings import Settings
from receiver.protocol.generated.remote_write_v1_pb2 import WriteRequest
from receiver.storage.writing.settling import settle_waiting
from tests.conftest import MakeSettings
from tests.databases import opened_database
from tests.faults.processes import free_port
from tests.programs import require_program
from tests.receivers import receiving
from tests.waiting import until

pytestmark = pytest.mark.end_to_end

SECONDS = 20
FIRST_OCR = 1_700_000_000
CODES = (0, 1, 2, 99, 7)

CONFIGURATION = """
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: applications
    static_configs:
      - targets: [{targets}]
remote_write:
  - url: {url}
    queue_config:
      min_shards: 4
      max_samples_per_send: 10
      batch_send_deadline: 200ms
"""


class Application:
    """Exposes both metrics; in the n-th scrape, both encode n."""

    def __init__(self) -> None:
        self.scrapes = 0

    async def expose(self, _: web.Request) -> web.Response:
        number = self.scrapes
        self.scrapes += 1
        return web.Response(
            text=f"app_status {CODES[number % len(CODES)]}\nocr_value {FIRST_OCR + number}.25\n"
        )


@asynccontextmanager
async def exposing(
    expose: Callable[[web.Request], Awaitable[web.Response]],
) -> AsyncIterator[str]:
    """Serve metrics to Prometheus; yield the address."""
    app = web.Application()
    app.router.add_get("/metrics", expose)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    try:
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def prometheus(
    directory: Path, configuration: str, port: int | None = None, flags: Iterable[str] = ()
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run Prometheus; at the end, stop it with time to send its remaining samples."""
    file = directory / "prometheus.yml"
    file.write_text(configuration)
    port = port or free_port()
    with (directory / "prometheus.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            require_program("prometheus"),
            f"--config.file={file}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            *flags,
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def settle(settings: Settings) -> None:
    """Delete incomplete rows whose row is stored, as maintenance does.

    A complete row is stored without checking for incomplete ones, so parts of it that arrive at the
    same time in another request may be left.
    """
    async with opened_database(settings) as database:
        await settle_waiting(database, settings.catalogue, settings.pair_timeout)


async def test_every_scrape_is_a_row(
    database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    require_program("prometheus")
    applications = [Application(), Application()]
    requests: list[WriteRequest] = []

    async def record(_: web.Request, body: bytes) -> None:
        requests.append(WriteRequest.FromString(bytes(snappy.uncompress(body))))

    async with AsyncExitStack() as stack:
        settings = make_settings(database_url=database_url)
        receiver = await stack.enter_async_context(receiving(settings, record=record))
        targets = [await stack.enter_async_context(exposing(app.expose)) for app in applications]
        configuration = CONFIGURATION.format(targets=", ".join(targets), url=receiver.url())
        async with prometheus(tmp_path, configuration):
            await until(
                lambda: min(app.scrapes for app in applications) >= SECONDS, seconds=SECONDS + 40
            )
        await settle(settings)
        connection = await asyncpg.connect(database_url)
        rows = await connection.fetch(
            "SELECT s.labels ->> 'instance' AS instance, l.app_status, l.ocr_value, e.name "
            "FROM app_logs l JOIN error_codes e ON l.app_status = e.code "
            "JOIN sources s ON s.id = l.source_id"
        )
        assert await connection.fetchval("SELECT count(*) FROM app_logs") == len(rows)
        # An interrupted scrape leaves incomplete rows.
        assert not await connection.fetch(
            "SELECT FROM pending_rows p WHERE created_at < "
            "(SELECT max(created_at) FROM app_logs l WHERE l.source_id = p.source_id)"
        )
        assert await connection.fetchval("SELECT count(*) FROM rejected_samples") == 0
        await connection.close()
    assert_every_scrape_is_a_row(rows, dict(zip(targets, applications, strict=True)))
    assert any(map(has_lone_half, requests)), "the shards did not split any pair"


def assert_every_scrape_is_a_row(
    rows: Iterable[asyncpg.Record], applications: Mapping[str, Application]
) -> None:
    found = [(row["instance"], row["app_status"], row["ocr_value"].timestamp()) for row in rows]
    assert len(set(found)) == len(found)
    for target, application in applications.items():
        scraped = [
            (target, CODES[number % len(CODES)], FIRST_OCR + number + 0.25)
            for number in range(application.scrapes)
        ]
        stored = {row for row in found if row[0] == target}
        # On shutdown, Prometheus aborts a scrape that has just started.
        assert stored in (set(scraped), set(scraped[:-1]))
    assert {row[0] for row in found} == applications.keys()


async def test_a_target_that_the_database_refuses_harms_no_other(
    database_url: str,
    make_settings: MakeSettings,
    tmp_path: Path,
    connection: asyncpg.Connection,
) -> None:
    require_program("prometheus")
    good, refused = Application(), Application()
    async with AsyncExitStack() as stack:
        settings = make_settings(database_url=database_url)
        receiver = await stack.enter_async_context(receiving(settings))
        targets = [await stack.enter_async_context(exposing(app.expose)) for app in (good, refused)]
        await connection.execute(
            f"ALTER TABLE sources ADD CHECK (labels ->> 'instance' <> '{targets[1]}')"
        )
        configuration = CONFIGURATION.format(targets=", ".join(targets), url=receiver.url())
        async with prometheus(tmp_path, configuration):
            await until(lambda: min(good.scrapes, refused.scrapes) >= 6, seconds=60)
        rows = await connection.fetch(
            "SELECT s.labels ->> 'instance' AS instance, l.app_status, l.ocr_value "
            "FROM app_logs l JOIN sources s ON s.id = l.source_id"
        )
        samples = await connection.fetchval(
            "SELECT count(*) FROM rejected_samples WHERE source_labels ->> 'instance' = $1",
            targets[1],
        )
    assert_every_scrape_is_a_row(rows, {targets[0]: good})
    assert samples in {2 * refused.scrapes, 2 * (refused.scrapes - 1)}


def has_lone_half(request: WriteRequest) -> bool:
    """Return whether the request has a sample whose other sample must be in another request."""
    keys: dict[tuple[str, int], set[str]] = {}
    for series in request.timeseries:
        labels = {label.name: label.value for label in series.labels}
        if labels["__name__"] in {"app_status", "ocr_value"}:
            for sample in series.samples:
                key = labels["instance"], sample.timestamp
                keys.setdefault(key, set()).add(labels["__name__"])
    return any(len(names) == 1 for names in keys.values())
