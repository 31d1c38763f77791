"""Measures remote read, per core of the receiver and in elapsed time."""

from __future__ import annotations

import asyncio
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg
import snappy

from benchmarks import raw
from benchmarks.measures.common import Bench, Clock, store
from benchmarks.measures.storing import fill
from benchmarks.results import Result
from benchmarks.subjects import Subject
from receiver.http import paths
from receiver.protocol.generated import remote_read_pb2 as messages
from receiver.rows.tables import Column
from receiver.storage.connection.places import quote

HEADERS: Final = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
GOALS: Final = {messages.SAMPLES: 400_000, messages.STREAMED_XOR_CHUNKS: 250_000}
DAY: Final = 17_280
"""Scrapes of a day, one every 5 seconds."""
READ: Final = 100
"""Number of targets whose rows are read."""


def request(metric: str, type_: messages.ResponseType) -> bytes:
    """Return a read request for all samples of a metric."""
    matcher = messages.LabelMatcher(name="__name__", value=metric)
    query = messages.Query(end_timestamp_ms=2**62, matchers=[matcher])
    message = messages.ReadRequest(queries=[query], accepted_response_types=[type_])
    return bytes(snappy.compress(message.SerializeToString()))


def read(subject: Subject, body: bytes) -> int:
    """Send a read request, and read the whole answer; return its size in bytes."""
    url = subject.url.removesuffix(paths.WRITE) + paths.READ
    asked = urllib.request.Request(url, body, HEADERS)
    size = 0
    with urllib.request.urlopen(asked, timeout=300) as answer:
        while part := answer.read(1 << 20):
            size += len(part)
    return size


async def reading(bench: Bench) -> AsyncIterator[Result]:
    """Measure samples/s of both response types: a day of 100 targets, metric by metric."""
    with bench.receiver("--max-remote-read-size=1GiB") as subject:
        await prepare(bench, subject)
        for column in bench.tables[0].columns:
            samples = await count(bench, column)
            for type_, goal in GOALS.items():
                body = request(column.metric, type_)
                await asyncio.to_thread(read, subject, body)
                cpu, start = subject.cpu_seconds(), time.perf_counter()
                size = await asyncio.to_thread(read, subject, body)
                seconds = time.perf_counter() - start
                rate = samples / (subject.cpu_seconds() - cpu)
                figure = f"{rate:,.0f} samples/s a core, {samples / seconds:,.0f} over the clock, "
                figure += f"{size / samples:.1f} bytes each, {subject.memory() >> 20} MiB"
                case = f"{messages.ResponseType.Name(type_)}, {column.metric}, {samples:,} samples"
                yield Result(f"read, {bench.name}", case, figure, rate / goal, f"{goal:,}", 1.0)


async def prepare(bench: Bench, subject: Subject) -> None:
    """Store a day of rows of the first targets."""
    await store(subject, bench.tables, Clock().take(2), 4)
    ids = (await raw.sources(bench.url))[:READ]
    await fill(bench, ids, 0, bench.scrapes(DAY))


async def count(bench: Bench, column: Column) -> int:
    """Count the samples of a column."""
    connection = await asyncpg.connect(bench.url)
    name, table = quote(column.name), quote(bench.tables[0].name)
    found: int = await connection.fetchval(f"SELECT count({name}) FROM {table}")
    await connection.close()
    return found


async def reading_beside(bench: Bench) -> AsyncIterator[Result]:
    """Measure how long writes take while reads run, against writes alone."""
    clock = Clock()
    clock.take(2)
    with bench.receiver() as subject:
        await prepare(bench, subject)
        scrapes = bench.scrapes(200)
        _, alone = await store(subject, bench.tables, clock.take(scrapes), 2)
        with reads_running(subject, bench.tables[0].columns[0].metric):
            _, beside = await store(subject, bench.tables, clock.take(scrapes), 2)
    p99 = beside.percentile(0.99)
    yield Result(
        f"writes beside reads, {bench.name}",
        "2 connections, p99",
        f"{p99 * 1000:.0f} ms",
        p99 / alone.percentile(0.99),
        "without reads",
        2.0,
        less_is_better=True,
    )


@contextmanager
def reads_running(subject: Subject, metric: str) -> Iterator[None]:
    """Read in a loop, in a thread, within this context."""
    ended = threading.Event()
    body = request(metric, messages.STREAMED_XOR_CHUNKS)

    def run() -> None:
        while not ended.is_set():
            read(subject, body)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
