"""Measures decoding and filtering against the parser and VictoriaMetrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Final

from benchmarks import bodies, rolling
from benchmarks.bodies import V1_HEADERS, V2_HEADERS, message_v1, message_v2
from benchmarks.load import send
from benchmarks.measures.common import SERIES, Bench, plural
from benchmarks.results import Result
from benchmarks.subjects import Subject, victoria_metrics
from receiver.protocol import v1, v2
from receiver.protocol.compression import decompress
from receiver.protocol.generated.remote_write_v1_pb2 import WriteRequest
from receiver.protocol.generated.remote_write_v2_pb2 import Request
from receiver.protocol.series import SeriesCache

CACHE_SIZE: Final = 256 * 2**20
"""Cache size in bytes that holds every series of a measure."""
PARSED: Final = "the time of snappy + parse"
WARM_UP: Final = 64
"""Number of requests that are sent before a firehose is measured."""


def compare(
    ours: Callable[[bytes], object], limit: Callable[[bytes], object], given: Sequence[bytes]
) -> tuple[float, float]:
    """Call both functions in turn with each body; return the shortest time of each, in seconds."""
    times: tuple[list[float], list[float]] = ([], [])
    for body in given:
        for work, taken in zip((ours, limit), times, strict=True):
            start = time.perf_counter()
            work(body)
            taken.append(time.perf_counter() - start)
    return min(times[0]), min(times[1])


def add_up(
    ours: Callable[[bytes], object], limit: Callable[[bytes], object], given: Sequence[bytes]
) -> tuple[float, float]:
    """Call both functions in turn with bodies that differ; return the CPU seconds of each."""
    taken = [0.0, 0.0]
    for body in given:
        for place, work in enumerate((ours, limit)):
            start = time.process_time()
            work(body)
            taken[place] += time.process_time() - start
    return taken[0], taken[1]


def read(decoder: v1.Decoder | v2.Decoder, body: bytes) -> None:
    """Decode a body as the receiver does."""
    decoder.decode(decompress(body))


def parse(message: type[WriteRequest] | type[Request], body: bytes) -> None:
    """Decompress and parse a body, the least that any receiver has to do."""
    message.FromString(decompress(body))


VERSIONS: Final = (
    ("1.0", message_v1, WriteRequest, v1.Decoder),
    ("2.0", message_v2, Request, v2.Decoder),
)


async def decode(bench: Bench) -> AsyncIterator[Result]:
    """Measure decoding and filtering against bare snappy and protobuf's own parser."""
    repetitions = max(20, bench.scrapes(100))
    for version, encode, message, decoder in VERSIONS:
        for kept, shift in ((0, 0), (2, 0), (200, 0), (2000, 0), (0, 1)):
            points = bodies.mixed(bench.tables, SERIES, kept, 0)
            given = [
                bodies.body(encode(points[shift * n :] + points[: shift * n]))
                for n in range(repetitions if shift else 1)
            ]
            if not shift:
                given *= repetitions
            used = decoder(SeriesCache(bench.catalogue, CACHE_SIZE))
            used.decode(decompress(given[0]))
            seconds, limit = compare(partial(read, used), partial(parse, message), given)
            size = len(decompress(given[0])) / 1e6
            yield Result(
                f"decode {version}",
                f"{100 * kept / SERIES:g} % kept" + ", another order each time" * shift,
                f"{SERIES / seconds / 1e6:.2f} M samples/s, {size / seconds:.0f} MB/s",
                seconds / limit,
                PARSED,
                1.5 if kept == shift == 0 else None,
                less_is_better=True,
            )


async def decode_rolling(bench: Bench) -> AsyncIterator[Result]:
    """Measure decoding and filtering of batches as Prometheus sends them; 2.0 also against 1.0."""
    for share in rolling.SHARES:
        seconds_before = 0.0
        for version, encode, message, decoder in VERSIONS:
            points = rolling.batches(bench.tables, share, range(bench.scrapes(10) + 3), SERIES)
            given = [bodies.body(encode(batch)) for batch in points]
            # The warm-up has every series, both with a zero value and with another one.
            warm_up = 3 * rolling.TARGETS * share.series // SERIES + 1
            used = decoder(SeriesCache(bench.catalogue, CACHE_SIZE))
            ours, bare = partial(read, used), partial(parse, message)
            measure, case = f"decode {version}, rolling", f"{share} kept"
            new = given[: rolling.TARGETS * share.series // SERIES]
            seconds, limit = add_up(ours, bare, new)
            figure = describe_cpu(seconds / len(new) / SERIES * 1e6)
            yield Result(measure, f"{case}, all new", figure, seconds / limit, PARSED)
            for body in given[len(new) : warm_up]:
                read(used, body)
            given = given[warm_up:]
            seconds, limit = add_up(ours, bare, given)
            figure = describe_cpu(seconds / len(given) / SERIES * 1e6)
            yield Result(measure, case, figure, seconds / limit, PARSED)
            if seconds_before:
                ratio = seconds / seconds_before
                yield Result(measure, case, figure, ratio, "1.0", 1.5, less_is_better=True)
            seconds_before = seconds


async def firehose(bench: Bench) -> AsyncIterator[Result]:
    """Measure one sample in a hundred kept, against VictoriaMetrics, which keeps all."""
    first = message_v1(bodies.mixed(bench.tables, SERIES, 20, 0))
    prepared = [bodies.body(bodies.later(first, n)) for n in range(WARM_UP + bench.scrapes(4_000))]
    with victoria_metrics() as peer:
        if peer is None:
            return
        rate, cpu = await pour(peer, prepared, V1_HEADERS)
    for workers in (1, 2):
        with bench.receiver(f"--workers={workers}") as subject:
            own_rate, own_cpu = await pour(subject, prepared, V1_HEADERS)
        case = f"1 % kept, 8 connections, {plural(workers, 'worker')}"
        yield compare_cpu(case, own_cpu, cpu, 0.5 if workers == 1 else None)
        yield Result(
            "firehose",
            case,
            f"{own_rate / 1e6:.2f} M samples/s",
            own_rate / rate,
            "VictoriaMetrics",
            1.0 if workers == 2 else None,
        )


async def firehose_rolling(bench: Bench) -> AsyncIterator[Result]:
    """Measure rolling batches of both versions, against VictoriaMetrics with those of 1.0."""
    for share in rolling.SHARES:
        batches = list(rolling.batches(bench.tables, share, range(bench.scrapes(30) + 5), SERIES))
        older = [bodies.body(message_v1(batch)) for batch in batches]
        newer = [bodies.body(message_v2(batch)) for batch in batches]
        with victoria_metrics() as peer:
            if peer is None:
                return
            _, cpu = await pour(peer, older, V1_HEADERS)
        for version, prepared, headers, goal in (
            ("1.0", older, V1_HEADERS, 0.5),
            ("2.0", newer, V2_HEADERS, 0.6),
        ):
            with bench.receiver() as subject:
                _, own_cpu = await pour(subject, prepared, headers)
            case = f"rolling batches of {version}, {share} kept, 8 connections"
            # Kept samples are also stored, so the goal is for filtered ones only.
            yield compare_cpu(case, own_cpu, cpu, goal if share.kept < share.series else None)


async def pour(
    subject: Subject, prepared: Sequence[bytes], headers: Mapping[str, str]
) -> tuple[float, float]:
    """Send bodies; return samples/s, and CPU seconds per million samples, after a warm-up."""
    # Over many connections, so that every worker has seen the series before the measurement.
    await asyncio.to_thread(send, subject.url, prepared[:WARM_UP], headers, 16)
    before = subject.cpu_seconds()
    load = await asyncio.to_thread(send, subject.url, prepared[WARM_UP:], headers, 8)
    samples = (len(prepared) - WARM_UP) * SERIES
    return samples / load.seconds, (subject.cpu_seconds() - before) / samples * 1e6


def compare_cpu(case: str, own: float, peer: float, goal: float | None) -> Result:
    """Compare CPU seconds per million samples with those of VictoriaMetrics."""
    figure = describe_cpu(own)
    return Result(
        "firehose", case, figure, own / peer, "VictoriaMetrics", goal, less_is_better=True
    )


def describe_cpu(seconds: float) -> str:
    """Describe the CPU time that a million samples take."""
    return f"{seconds:.2f} CPU seconds a million samples"
