"""Measures storing: against COPY, by width of rows, of split rows, and as the table grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Final

import asyncpg

from benchmarks import bodies, raw
from benchmarks.bodies import V1_HEADERS, Point, message_v1
from benchmarks.load import send
from benchmarks.measures.common import SERIES, TARGETS, Bench, Clock, plural, store
from benchmarks.pinning import pinned, server_processes
from benchmarks.results import Result
from receiver.rows.tables import Table
from receiver.storage.connection.places import quote
from receiver.storage.writing.statements import any_value

WIDTHS: Final = Path(__file__).parents[1] / "widths.yaml"
GOALS: Final = {"one_column": 1.5, "eight_columns": 0.5}
"""Goals for rows per second, relative to those of pairs, by table."""
INGEST_GOALS: Final = {
    (1, 2_000, 1): (0.8, None),
    (8, 2_000, 1): (2.5, 1.4),
    (8, 2_000, 2): (1.8, None),
}
"""Goals for rows per second, relative to COPY on one connection and on as many as the requests use,
by connections, samples per request and workers."""
SPLIT_GOAL: Final = 0.8


def fill_table(table: Table) -> str:
    """Return a statement that inserts rows of sources ($1) between two times ($2, $3)."""
    columns = ", ".join(quote(column.name) for column in table.columns)
    return f"""
INSERT INTO {quote(table.name)} (created_at, source_id, {columns})
SELECT at, source_id, {", ".join(map(any_value, table.columns))}
FROM unnest($1::int[]) AS source_id,
    generate_series(to_timestamp($2), to_timestamp($3), interval '5 seconds') AS at
"""


async def copy(bench: Bench, scrapes: range, connections: int) -> float:
    """Store rows by COPY; return rows per second."""
    return await raw.copy(bench.url, bench.tables, scrapes, TARGETS, connections)


async def ingest(bench: Bench) -> AsyncIterator[Result]:
    """Measure durable rows over HTTP against raw COPY; each worker has its own core if possible."""
    clock = Clock()
    server = await server_processes(bench.url)
    for workers in (1, 2):
        with (
            bench.receiver(f"--workers={workers}") as subject,
            pinned(subject.workers(), server) as is_pinned,
        ):
            await store(subject, bench.tables, clock.take(2), 4)
            for connections, size in product((1, 4, 8, 16), (500, 2_000, 10_000)):
                scrapes = bench.scrapes(100)
                alone = await copy(bench, clock.take(scrapes), 1)
                together = await copy(bench, clock.take(scrapes), connections)
                rate, load = await store(
                    subject, bench.tables, clock.take(scrapes), connections, size
                )
                case = f"{plural(workers, 'worker')}, {plural(connections, 'connection')}, "
                case += f"{size} samples" + ", pinned to cores" * is_pinned
                figure = f"{rate:,.0f} rows/s, p99 {load.percentile(0.99) * 1000:.0f} ms"
                goal, beside = INGEST_GOALS.get((connections, size, workers), (None, None))
                measure = f"ingest, {bench.name}"
                yield Result(measure, case, figure, rate / alone, "COPY on one connection", goal)
                yield Result(measure, case, figure, rate / together, "COPY on as many", beside)


async def widths(bench: Bench) -> AsyncIterator[Result]:
    """Measure rows of one and of eight columns against pairs, all sent to one receiver."""
    bench = bench._replace(tables_file=WIDTHS)
    clock = Clock()
    scrapes = bench.scrapes(200)
    pair, others = bench.catalogue.by_name["pair"], list(GOALS)
    with bench.receiver() as subject:
        await store(subject, bench.tables, clock.take(2), 4)
        for name in others:
            table = bench.catalogue.by_name[name]
            paired, _ = await store(subject, [pair], clock.take(scrapes), 8)
            rate, _ = await store(subject, [table], clock.take(scrapes), 8)
            yield Result(
                f"widths, {bench.name}",
                f"{plural(table.width, 'column')}, 8 connections, {SERIES} samples",
                f"{rate:,.0f} rows/s",
                rate / paired,
                "pairs",
                GOALS[name],
            )


def parts_of(tables: Sequence[Table], batch: Sequence[Point]) -> Iterator[list[Point]]:
    """Divide the samples of rows so that those of the same row are all in different parts."""
    width = len(bodies.metrics_of(tables))
    return (list(batch[first::width]) for first in range(width))


async def split(bench: Bench) -> AsyncIterator[Result]:
    """Measure rows whose samples come in different requests, against rows in one request."""
    clock = Clock()
    scrapes = bench.scrapes(200)
    with bench.receiver() as subject:
        await store(subject, bench.tables, clock.take(2), 4)
        paired, _ = await store(subject, bench.tables, clock.take(scrapes), 8)
        prepared: list[bytes] = []
        points = bodies.rows(bench.tables, TARGETS, clock.take(scrapes))
        together = SERIES * len(bodies.metrics_of(bench.tables))
        for batch in bodies.batches(points, together):
            parts = parts_of(bench.tables, batch)
            prepared += [bodies.body(message_v1(part)) for part in parts if part]
        load = await asyncio.to_thread(send, subject.url, prepared, V1_HEADERS, 8)
    rate = len(bench.tables) * scrapes * TARGETS / load.seconds
    yield Result(
        f"split rows, {bench.name}",
        "8 connections, 2000 samples",
        f"{rate:,.0f} rows/s",
        rate / paired,
        "rows in one request",
        SPLIT_GOAL,
    )


async def growth(bench: Bench) -> AsyncIterator[Result]:
    """Measure the rate as the table grows; its existing rows are generated in the database."""
    clock = Clock()
    sizes = [round(rows * bench.scale) for rows in (1_000_000, 10_000_000, 50_000_000)]
    first = 0.0
    filled = 0
    with bench.receiver() as subject:
        await store(subject, bench.tables, clock.take(2), 4)
        ids = (await raw.sources(bench.url))[:TARGETS]
        for size in sizes:
            filled = await fill(bench, ids, filled, size // TARGETS)
            # The fill has evicted from memory the data that a running receiver keeps there.
            await store(subject, bench.tables, clock.take(bench.scrapes(50)), 8)
            rate, _ = await store(subject, bench.tables, clock.take(bench.scrapes(400)), 8)
            first = first or rate
            yield Result(
                f"growth, {bench.name}",
                f"{size:,} rows before",
                f"{rate:,.0f} rows/s",
                rate / first,
                f"the rate at {sizes[0]:,}",
                0.9 if size == sizes[-1] else None,
            )


async def fill(bench: Bench, ids: Sequence[int], before: int, scrapes: int) -> int:
    """Fill each table up to a number of scrapes per source, all older than those that are sent."""
    connection = await asyncpg.connect(bench.url)
    # Skip the foreign key checks: the references are valid.
    await connection.execute("SET session_replication_role = replica")
    start = bodies.START / 1000 - 3600
    while before < scrapes:
        upto = min(before + 1_000, scrapes)
        for table in bench.tables:
            times = start - 5 * upto, start - 5 * before - 5
            await connection.execute(fill_table(table), list(ids), *times)
        before = upto
    # Otherwise the server would do this during the measurement, after so many new rows.
    for table in bench.tables:
        await connection.execute(f"VACUUM (ANALYZE) {quote(table.name)}")
    await connection.execute("CHECKPOINT")
    await connection.close()
    return scrapes
