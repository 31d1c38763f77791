"""Measures what an operator sees of a receiver: its delay and its memory."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final, cast

import asyncpg

from benchmarks import bodies
from benchmarks.bodies import V1_HEADERS, message_v1
from benchmarks.load import percentile, send
from benchmarks.measures.common import SERIES, Bench, Clock, store
from benchmarks.results import Result
from receiver.config.value_types import parse_duration
from receiver.demo.application import applications
from receiver.demo.prometheus import prometheus
from receiver.demo.sender import load_configuration, redirect

SCRAPE_INTERVAL: Final = timedelta(seconds=1)
WATCHED_FOR: Final = 600.0
"""Seconds within which the rows of Prometheus must be stored."""

AGE: Final = """
SELECT id, extract(epoch FROM clock_timestamp() - created_at) AS age FROM app_logs WHERE id > $1
"""


async def latency(bench: Bench) -> AsyncIterator[Result]:
    """Measure the time from a lone request to its visible rows, on an idle machine."""
    clock = Clock()
    with bench.receiver() as subject:
        await store(subject, bench.tables, clock.take(2), 1)
        points = bodies.rows(bench.tables, 100, clock.take(bench.scrapes(300)))
        size = 100 * len(bodies.metrics_of(bench.tables))
        prepared = [bodies.body(message_v1(batch)) for batch in bodies.batches(points, size)]
        load = await asyncio.to_thread(send, subject.url, prepared, V1_HEADERS, 1)
    for part in (0.5, 0.99):
        milliseconds = load.percentile(part) * 1000
        yield Result(
            f"latency, {bench.name}",
            f"100 targets to 2xx, p{part * 100:g}",
            f"{milliseconds:.1f} ms",
            milliseconds / 20,
            "20 ms",
            1.0 if part == 0.99 else None,
            less_is_better=True,
        )


async def visible(bench: Bench) -> AsyncIterator[Result]:
    """Measure the time from a scrape to its visible row, against Prometheus' batch deadline.

    Prometheus scrapes the demo's applications, so the rows are those of `app_logs`.
    """
    program = shutil.which("prometheus")
    if program is None or "app_logs" not in bench.catalogue.by_name:
        return
    count = max(10, bench.scrapes(300))
    with bench.receiver() as subject:
        async with applications("abcde") as targets:
            configuration = redirect(
                load_configuration(), targets=targets, url=subject.url, interval=SCRAPE_INTERVAL
            )
            sender = asyncio.create_task((await prometheus(program, configuration)).work())
            try:
                delays = await watch(bench.url, count)
            finally:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)
    deadline = configuration["remote_write"][0]["queue_config"]["batch_send_deadline"]
    for part in (0.5, 0.99):
        delay = percentile(delays, part)
        yield Result(
            f"scrape to row, {bench.name}",
            f"5 targets, p{part * 100:g}",
            f"{delay * 1000:.0f} ms",
            delay / cast("timedelta", parse_duration(deadline)).total_seconds(),
            f"the {deadline} for which Prometheus gathers a batch",
            less_is_better=True,
        )


async def watch(url: str, count: int) -> list[float]:
    """Return the ages of `count` or more rows when first seen, in seconds, ascending."""
    connection = await asyncpg.connect(url)
    delays: list[float] = []
    newest = 0
    async with asyncio.timeout(WATCHED_FOR):
        while len(delays) < count:
            found = await connection.fetch(AGE, newest)
            delays += [float(row["age"]) for row in found]
            newest = max([newest, *(row["id"] for row in found)])
            await asyncio.sleep(0.002)
    await connection.close()
    return sorted(delays)


async def memory(bench: Bench) -> AsyncIterator[Result]:
    """Measure the memory of the receiver with many sources under full load."""
    for targets in (1_000, 10_000, 100_000):
        with bench.receiver() as subject:
            for scrape in range(3):
                points = bodies.rows(bench.tables, targets, [scrape])
                prepared = [bodies.body(message_v1(one)) for one in bodies.batches(points, SERIES)]
                await asyncio.to_thread(send, subject.url, prepared, V1_HEADERS, 8)
            megabytes = subject.memory() / 1e6
        yield Result(
            "memory",
            f"{targets:,} sources, 8 connections",
            f"{megabytes:.0f} MB",
            megabytes / 150,
            "150 MB",
            1.0 if targets == 10_000 else None,
            less_is_better=True,
        )
