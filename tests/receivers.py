"""Real receivers and requests to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

import aiohttp
import snappy
from aiohttp import web

from receiver.config.settings import Settings
from receiver.http.paths import WRITE as WRITE_PATH
from receiver.process.app import STORE, TLS, build_app
from receiver.process.server import running
from receiver.protocol.generated.remote_write_v1_pb2 import WriteRequest
from receiver.write import Record
from tests.waiting import until

HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "User-Agent": "tests",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}

Point = tuple[Mapping[str, str], int, float]
"""Labels with `__name__`, timestamp in milliseconds, value."""


def encode(points: Iterable[Point]) -> bytes:
    """Encode a request body as Prometheus sends it: one sample per series, sorted labels."""
    request = WriteRequest()
    for labels, timestamp, value in points:
        series = request.timeseries.add()
        for name in sorted(labels):
            series.labels.add(name=name, value=labels[name])
        series.samples.add(value=value, timestamp=timestamp)
    return bytes(snappy.compress(request.SerializeToString()))


class Running:
    """A running receiver on its own port."""

    def __init__(
        self, app: web.Application, address: tuple[str, int], session: aiohttp.ClientSession
    ) -> None:
        self.app = app
        self.address = address
        self.session = session

    def url(self, path: str = WRITE_PATH) -> str:
        host, port = self.address
        scheme = "https" if TLS in self.app else "http"
        return f"{scheme}://{host}:{port}{path}"

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(self.url(path)) as response:
            return response.status, await response.text()

    async def post(self, body: bytes, **headers: str) -> tuple[int, str]:
        """Send a body; header names are given with underscores."""
        changed = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.post(
            self.url(), data=body, headers={**HEADERS, **changed}
        ) as response:
            return response.status, await response.text()

    async def send(self, *points: Point) -> None:
        """Send points until they are acknowledged, as Prometheus does."""

        async def acknowledged() -> bool:
            status, text = await self.post(encode(points))
            assert status in {204, 503}, text
            return status == 204

        await until(acknowledged)

    async def ready(self) -> bool:
        return (await self.get("/-/ready"))[0] == 200


@asynccontextmanager
async def receiving(
    settings: Settings, *, wait: bool = True, record: Record | None = None
) -> AsyncIterator[Running]:
    """Run a receiver in this process; by default, wait until it is ready."""
    app = build_app(settings, record)
    async with running(app, settings) as runner, aiohttp.ClientSession() as session:
        receiver = Running(app, runner.addresses[0], session)
        if wait:
            await until(receiver.ready)
            app[STORE].opening.result()
        yield receiver
