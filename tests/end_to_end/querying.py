"""Runs a Prometheus for queries, and fills its own storage."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.end_to_end.test_prometheus import prometheus
from tests.faults.processes import free_port
from tests.programs import require_program
from tests.receivers import Point
from tests.waiting import until

READS = """
global:
  external_labels:
    site: seoul
remote_read:
  - url: {read}
    read_recent: true
"""
ALONE = "global: {external_labels: {site: seoul}}\n"


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
async def queried(directory: Path, configuration: str, *flags: str) -> AsyncIterator[Queried]:
    """Run a Prometheus and wait until it can be queried."""
    await asyncio.to_thread(directory.mkdir, exist_ok=True)
    port = free_port()
    async with (
        prometheus(directory, configuration, port, flags),
        aiohttp.ClientSession() as session,
    ):
        queries = Queried(session, port)
        await until(queries.ready, seconds=60)
        yield queries


async def make_blocks(directory: Path, points: Iterable[Point]) -> None:
    """Give the Prometheus in `local` the points in its own storage."""
    lines: defaultdict[str, list[str]] = defaultdict(list)
    for labels, at, value in points:
        written = ",".join(
            f'{name}="{text}"'
            for name, text in labels.items()
            # Prometheus adds its external labels when it sends.
            if name not in {"__name__", "site"}
        )
        metric = labels["__name__"]
        lines[metric].append(f"{metric}{{{written}}} {value!r} {at / 1000:.3f}")
    text = directory / "history.txt"
    text.write_text("\n".join([*(line for some in lines.values() for line in some), "# EOF", ""]))
    process = await asyncio.create_subprocess_exec(
        require_program("promtool"),
        *("tsdb", "create-blocks-from", "openmetrics", text, directory / "local" / "data"),
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await process.wait() == 0
