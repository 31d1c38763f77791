"""Cluster nodes die and shards move while every request is sent three times to two receivers."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

from receiver.config.settings import Settings
from receiver.storage.diagnosis import diagnose
from tests.conftest import MakeSettings
from tests.faults.harness import (
    server_stopped_at_once,
    shards_moved,
    worker_stopped_at_once,
    world,
)
from tests.faults.load import NOW, Pair, Sender
from tests.faults.processes import Replica, Server
from tests.faults.wire import HOST, get
from tests.receivers import encode
from tests.waiting import until

SAMPLES: Final = int(os.environ.get("RECEIVER_TEST_SAMPLES", "12000"))
SOURCES: Final = 100
AT_ONCE: Final = 100
TIMES: Final = 3
TIME: Final = 60 + SAMPLES / 100
"""Time limit in seconds for all samples, on a busy machine."""

pytestmark = pytest.mark.skipif(
    not os.environ.get("RECEIVER_TEST_CITUS_URL"),
    reason="RECEIVER_TEST_CITUS_URL names no cluster",
)


class Repeating(Sender):
    """Sends a fixed number of samples, and each request three times.

    Half of the rows have both samples in one request; the others have them in different requests.
    """

    def __init__(self, replicas: list[Replica], samples: int) -> None:
        super().__init__(replicas, seed=5, job="repeating")
        self.bodies = list(map(encode, self._cut(samples // 2))) * TIMES
        random.Random(6).shuffle(self.bodies)

    def _cut(self, rows: int) -> list[list[tuple[dict[str, str], int, float]]]:
        pairs = [
            Pair(f"app-{n % SOURCES}", NOW + n // SOURCES * 1000, n % 3, (NOW + n) * 1000)
            for n in range(rows)
        ]
        self.truth.pairs.update(pairs)
        points = [pair.points(self.truth.job) for pair in pairs]
        whole = [point for both in points[::2] for point in both]
        halves = [[both[place] for both in points[1::2]] for place in (0, 1)]
        return [
            [(dict(labels), at, value) for labels, at, value in some[start : start + AT_ONCE]]
            for some in (whole, *halves)
            for start in range(0, len(some), AT_ONCE)
        ]

    async def _scrape(self) -> None:
        for body in self.bodies:
            self._enqueue(body)

    async def all_acknowledged(self) -> None:
        """Return when everything is acknowledged."""
        await self._waiting.join()


async def test_every_row_is_there_once_after_three_sendings(server: Server, tmp_path: Path) -> None:
    async with world(server, tmp_path) as usual:
        sender = Repeating(usual.replicas, SAMPLES)
        stage = usual._replace(sender=sender)
        async with sender.sending():
            for place, fault in enumerate(
                (worker_stopped_at_once, server_stopped_at_once, shards_moved), start=1
            ):
                part = len(sender.bodies) * place // 5
                await until(lambda part=part: sender.acknowledged >= part, seconds=300)
                await fault(stage)
            async with asyncio.timeout(TIME):
                await sender.all_acknowledged()
        verdict = await stage.verdict()
        assert verdict.pairs == SAMPLES // 2
        assert verdict.good, verdict


@asynccontextmanager
async def stopped(worker: Server) -> AsyncIterator[None]:
    """Stop a node during the `with` block, as after a crash."""
    await worker.stop_at_once()
    yield
    await worker.start()


@pytest.mark.parametrize("without", [stopped, Server.paused], ids=["down", "hanging"])
async def test_a_worker_that_does_not_answer_is_named(
    without: Callable[[Server], AbstractAsyncContextManager[None]],
    server: Server,
    tmp_path: Path,
    make_settings: MakeSettings,
) -> None:
    async with world(server, tmp_path, count=1) as stage:
        (replica,) = stage.replicas
        worker = server.workers[0]
        name = f"{HOST}:{urlsplit(worker.postgres.url).port}"
        settings = make_settings(database_url=stage.database.url)
        assert "cannot be reached" not in await found_in(settings)

        async def is_named() -> bool:
            answer = await get(replica.port, "/-/ready")
            return answer.status == 503 and name in answer.text

        async with without(worker):
            await until(is_named)
            assert f"node {name} cannot be reached" in await found_in(settings)
        await until(replica.is_ready)


async def found_in(settings: Settings) -> str:
    """Return the findings of doctor about a database, as lines."""
    return "\n".join([finding.found async for _, finding in diagnose(settings)])
