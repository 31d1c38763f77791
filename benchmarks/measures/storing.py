"""What is kept, beside COPY and beside itself as the table grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import product
from typing import Final

import asyncpg

from benchmarks import bodies, raw
from benchmarks.bodies import V1_HEADERS, message_v1
from benchmarks.load import send
from benchmarks.measures.common import SERIES, TARGETS, Bench, Clock, plural, store
from benchmarks.results import Result
from benchmarks.subjects import receiver

FILL: Final = """
INSERT INTO app_logs (created_at, source_id, app_status, ocr_value)
SELECT at, source_id, 0, at
FROM unnest($1::int[]) AS source_id,
    generate_series(to_timestamp($2), to_timestamp($3), interval '5 seconds') AS at
"""


async def copy(bench: Bench, scrapes: range, connections: int) -> float:
    """Rows a second of such rows by COPY."""
    ids = (await raw.sources(bench.url))[:TARGETS]
    return await raw.copy(bench.url, raw.rows(ids, scrapes), connections)


async def ingest(bench: Bench) -> AsyncIterator[Result]:
    """Durable rows over HTTP, beside raw COPY."""
    goals = {(1, 2000, 1): 0.8, (8, 2000, 1): 1.2, (8, 2000, 2): 1.8}
    clock = Clock()
    for workers in (1, 2):
        with receiver(bench.url, f"--workers={workers}") as subject:
            await store(subject, clock.take(2), 4)
            for connections, size in product((1, 4, 8, 16), (500, 2_000, 10_000)):
                scrapes = bench.scrapes(100)
                alone = await copy(bench, clock.take(scrapes), 1)
                together = await copy(bench, clock.take(scrapes), connections)
                rate, load = await store(subject, clock.take(scrapes), connections, size)
                case = f"{plural(workers, 'worker')}, {plural(connections, 'connection')}, "
                case += f"{size} samples"
                figure = f"{rate:,.0f} rows/s, p99 {load.percentile(0.99) * 1000:.0f} ms"
                goal = goals.get((connections, size, workers))
                measure = f"ingest, {bench.name}"
                yield Result(measure, case, figure, rate / alone, "COPY on one connection", goal)
                yield Result(measure, case, figure, rate / together, "COPY on as many")


async def split(bench: Bench) -> AsyncIterator[Result]:
    """Every half in another request than its twin, beside pairs."""
    clock = Clock()
    scrapes = bench.scrapes(200)
    with receiver(bench.url) as subject:
        await store(subject, clock.take(2), 4)
        paired, _ = await store(subject, clock.take(scrapes), 8)
        prepared: list[bytes] = []
        for batch in bodies.batches(bodies.pairs(TARGETS, clock.take(scrapes)), 2 * SERIES):
            prepared += [bodies.body(message_v1(half)) for half in (batch[::2], batch[1::2])]
        load = await asyncio.to_thread(send, subject.url, prepared, V1_HEADERS, 8)
    rate = scrapes * TARGETS / load.seconds
    yield Result(
        f"split halves, {bench.name}",
        "8 connections, 2000 samples",
        f"{rate:,.0f} rows/s",
        rate / paired,
        "pairs",
        0.6,
    )


async def growth(bench: Bench) -> AsyncIterator[Result]:
    """The rate as the table grows; the rows before are made in the database."""
    clock = Clock()
    sizes = [round(rows * bench.scale) for rows in (1_000_000, 10_000_000, 50_000_000)]
    first = 0.0
    filled = 0
    with receiver(bench.url) as subject:
        await store(subject, clock.take(2), 4)
        ids = (await raw.sources(bench.url))[:TARGETS]
        for size in sizes:
            filled = await fill(bench.url, ids, filled, size // TARGETS)
            # The fill has driven out of memory what a running receiver keeps there.
            await store(subject, clock.take(bench.scrapes(50)), 8)
            rate, _ = await store(subject, clock.take(bench.scrapes(400)), 8)
            first = first or rate
            yield Result(
                f"growth, {bench.name}",
                f"{size:,} rows before",
                f"{rate:,.0f} rows/s",
                rate / first,
                f"the rate at {sizes[0]:,}",
                0.9 if size == sizes[-1] else None,
            )


async def fill(url: str, ids: Sequence[int], before: int, scrapes: int) -> int:
    """Have so many scrapes of every source in the table, all older than what is sent."""
    connection = await asyncpg.connect(url)
    # Without checks of foreign keys, which hold.
    await connection.execute("SET session_replication_role = replica")
    start = bodies.START / 1000 - 3600
    while before < scrapes:
        upto = min(before + 1_000, scrapes)
        await connection.execute(FILL, list(ids), start - 5 * upto, start - 5 * before - 5)
        before = upto
    # What the server would do after so many rows, and beside the measurement.
    await connection.execute("VACUUM (ANALYZE) app_logs")
    await connection.execute("CHECKPOINT")
    await connection.close()
    return scrapes
