"""The measurements, each beside its limit or peer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from itertools import product
from typing import Final, NamedTuple

import asyncpg

from benchmarks import bodies, raw
from benchmarks.bodies import V1_HEADERS, message_v1, message_v2
from benchmarks.load import Load, send
from benchmarks.results import Result
from benchmarks.subjects import Subject, receiver, victoria_metrics
from receiver.model import Metric
from receiver.protocol import v1, v2
from receiver.protocol.compression import decompress
from receiver.protocol.generated.remote_write_v1_pb2 import WriteRequest
from receiver.protocol.generated.remote_write_v2_pb2 import Request
from receiver.protocol.series import SeriesCache

SERIES: Final = 2_000
TARGETS: Final = 1_000
WARM_UP: Final = 64
"""Requests of a firehose that are not measured."""
NAMES: Final = {"app_status": Metric.STATUS, "ocr_value": Metric.OCR}


class Bench(NamedTuple):
    """What a measurement is given."""

    name: str
    """Of the database."""
    url: str
    """Of a scratch database with the tables."""
    scale: float
    """1 takes minutes, 0.1 is for trying."""

    def scrapes(self, at_full_scale: int) -> int:
        """So many scrapes, scaled."""
        return max(2, round(at_full_scale * self.scale))


class Clock:
    """Gives out scrapes that have not been stored yet."""

    def __init__(self) -> None:
        self._next = 0

    def take(self, count: int) -> range:
        """The next so many."""
        first, self._next = self._next, self._next + count
        return range(first, self._next)


def plural(count: int, thing: str) -> str:
    """A number of things."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def compare(
    ours: Callable[[bytes], object], limit: Callable[[bytes], object], given: Sequence[bytes]
) -> tuple[float, float]:
    """The shortest times of both, taken in turn, in seconds."""
    times: tuple[list[float], list[float]] = ([], [])
    for body in given:
        for work, taken in zip((ours, limit), times, strict=True):
            start = time.perf_counter()
            work(body)
            taken.append(time.perf_counter() - start)
    return min(times[0]), min(times[1])


def read(decoder: v1.Decoder | v2.Decoder, body: bytes) -> None:
    """What the receiver does."""
    decoder.decode(decompress(body))


def parse(message: type[WriteRequest] | type[Request], body: bytes) -> None:
    """The least that there is to do."""
    message.FromString(decompress(body))


async def decode(bench: Bench) -> AsyncIterator[Result]:
    """Decode and filter, beside bare snappy and protobuf's own parser."""
    repetitions = max(20, bench.scrapes(100))
    for version, encode, message, decoder in (
        ("1.0", message_v1, WriteRequest, v1.Decoder),
        ("2.0", message_v2, Request, v2.Decoder),
    ):
        for kept, shift in ((0, 0), (2, 0), (200, 0), (2000, 0), (0, 1)):
            points = bodies.mixed(SERIES, kept, 0)
            given = [
                bodies.body(encode(points[shift * n :] + points[: shift * n]))
                for n in range(repetitions if shift else 1)
            ]
            if not shift:
                given *= repetitions
            used = decoder(SeriesCache(NAMES, 100_000))
            used.decode(decompress(given[0]))
            seconds, limit = compare(partial(read, used), partial(parse, message), given)
            size = len(decompress(given[0])) / 1e6
            yield Result(
                f"decode {version}",
                f"{100 * kept / SERIES:g} % kept" + ", another order each time" * shift,
                f"{SERIES / seconds / 1e6:.2f} M samples/s, {size / seconds:.0f} MB/s",
                seconds / limit,
                "the time of snappy + parse",
                1.5 if kept == shift == 0 else None,
                less_is_better=True,
            )


async def store(
    subject: Subject, scrapes: range, connections: int, size: int = SERIES
) -> tuple[float, Load]:
    """Rows a second over HTTP of pairs in requests of so many samples."""
    points = bodies.pairs(TARGETS, scrapes)
    prepared = [bodies.body(message_v1(batch)) for batch in bodies.batches(points, size)]
    load = await asyncio.to_thread(send, subject.url, prepared, V1_HEADERS, connections)
    return len(scrapes) * TARGETS / load.seconds, load


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


async def firehose(bench: Bench) -> AsyncIterator[Result]:
    """One sample in a hundred kept, beside VictoriaMetrics, which keeps all."""
    requests = bench.scrapes(4_000)
    first = message_v1(bodies.mixed(SERIES, 20, 0))
    prepared = [bodies.body(bodies.later(first, n)) for n in range(WARM_UP + requests)]
    samples = requests * SERIES

    async def run(subject: Subject) -> tuple[float, float]:
        # Over many connections, so that every worker meets the series before it counts.
        await asyncio.to_thread(send, subject.url, prepared[:WARM_UP], V1_HEADERS, 16)
        before = subject.cpu_seconds()
        load = await asyncio.to_thread(send, subject.url, prepared[WARM_UP:], V1_HEADERS, 8)
        return samples / load.seconds, (subject.cpu_seconds() - before) / samples * 1e6

    with victoria_metrics() as peer:
        if peer is None:
            return
        rate, cpu = await run(peer)
    for workers in (1, 2):
        with receiver(bench.url, f"--workers={workers}") as subject:
            own_rate, own_cpu = await run(subject)
        case = f"1 % kept, 8 connections, {plural(workers, 'worker')}"
        yield Result(
            "firehose",
            case,
            f"{own_cpu:.2f} CPU seconds a million samples",
            own_cpu / cpu,
            "VictoriaMetrics",
            0.5 if workers == 1 else None,
            less_is_better=True,
        )
        yield Result(
            "firehose",
            case,
            f"{own_rate / 1e6:.2f} M samples/s",
            own_rate / rate,
            "VictoriaMetrics",
            1.0 if workers == 2 else None,
        )


async def latency(bench: Bench) -> AsyncIterator[Result]:
    """From a lone request to its visible rows, on an idle machine."""
    clock = Clock()
    with receiver(bench.url) as subject:
        await store(subject, clock.take(2), 1)
        points = bodies.pairs(100, clock.take(bench.scrapes(300)))
        prepared = [bodies.body(message_v1(batch)) for batch in bodies.batches(points, 200)]
        load = await asyncio.to_thread(send, subject.url, prepared, V1_HEADERS, 1)
    for part in (0.5, 0.99):
        milliseconds = load.percentile(part) * 1000
        yield Result(
            f"latency, {bench.name}",
            f"100 pairs to 2xx, p{part * 100:g}",
            f"{milliseconds:.1f} ms",
            milliseconds / 20,
            "20 ms",
            1.0 if part == 0.99 else None,
            less_is_better=True,
        )


async def memory(bench: Bench) -> AsyncIterator[Result]:
    """Memory of the receiver with many sources under full load."""
    for targets in (1_000, 10_000, 100_000):
        with receiver(bench.url) as subject:
            for scrape in range(3):
                points = bodies.pairs(targets, [scrape])
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


FILL: Final = """
INSERT INTO app_logs (created_at, source_id, app_status, ocr_value)
SELECT at, source_id, 0, at
FROM unnest($1::int[]) AS source_id,
    generate_series(to_timestamp($2), to_timestamp($3), interval '5 seconds') AS at
"""


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
            rate, _ = await store(subject, clock.take(bench.scrapes(200)), 8)
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


MEASURES: Final = {
    "decode": decode,
    "ingest": ingest,
    "split": split,
    "firehose": firehose,
    "latency": latency,
    "memory": memory,
    "growth": growth,
}
