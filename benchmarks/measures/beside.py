"""Measures small requests while a message of the maximum size is decoded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from itertools import chain, count, islice, takewhile
from typing import Final

from benchmarks import bodies
from benchmarks.bodies import START, V1_HEADERS, V2_HEADERS, Point, message_v1, message_v2
from benchmarks.load import Load, percentile, send
from benchmarks.measures.common import TARGETS, Bench, Clock, store
from benchmarks.results import Result
from benchmarks.subjects import Subject
from receiver.protocol.limits import DEFAULTS

LARGEST: Final = 60 * 2**20
"""Estimated size of a large message in bytes, low enough that no message exceeds the default of
RECEIVER_MAX_MESSAGE_SIZE."""
EXAMPLE: Final = 2_000
"""Number of series from which the size of all others is estimated."""
SMALL: Final = 3_000
FEWEST: Final = 500
"""Small requests to prepare: `SMALL` at full scale, at least `FEWEST`; only some are needed."""
ROWS: Final = 20
"""Rows per small request."""
GOAL_MS: Final = 100
PATH: Final = "/" + 200 * "x"
"""Start of a label value of filtered series: so long that a message has not too many series."""
VERSIONS: Final = (("1.0", message_v1, V1_HEADERS), ("2.0", message_v2, V2_HEADERS))


async def latency_beside(bench: Bench) -> AsyncIterator[Result]:
    """Measure small requests while large messages, of new and of known series, are decoded."""
    clock = Clock()
    with bench.receiver() as subject:
        await store(subject, bench.tables, clock.take(2), 1)
        for version, encode, headers in VERSIONS:
            for kept in (False, True):
                messages = make_large(bench, encode, clock, kept=kept)
                large = [bodies.body(message) for message in messages]
                small = make_small(bench, clock)
                answers: list[float] = []
                seconds = 0.0
                for body in large:
                    taken, beside = await send_beside(subject, body, headers, small)
                    seconds += taken.seconds
                    answers += beside.answers
                p99 = percentile(sorted(answers), 0.99) * 1000
                figure = f"{p99:.0f} ms, at most {max(answers) * 1000:.0f} ms, "
                figure += f"{seconds / len(large):.1f} s a large message"
                case = f"{len(messages[0]) >> 20} MiB of {version}, "
                case += f"{'all' if kept else 'none'} kept, p99 of {ROWS} rows"
                yield Result(
                    f"latency beside a large message, {bench.name}",
                    case,
                    figure,
                    p99 / GOAL_MS,
                    f"{GOAL_MS} ms",
                    1.0,
                    less_is_better=True,
                )


def make_large(
    bench: Bench, encode: Callable[[Iterable[Point]], bytes], clock: Clock, *, kept: bool
) -> list[bytes]:
    """Return two messages of the same series, each of the scaled maximum size."""
    one, two = (
        len(encode(islice(large_points(bench, range(EXAMPLE), 0, kept=kept), times * EXAMPLE)))
        for times in (1, 2)
    )
    # The difference leaves out the parts that a message has once, such as symbols.
    number = min(round(LARGEST / (two - one) * EXAMPLE), DEFAULTS.max_request_series)
    number = max(EXAMPLE, round(number * bench.scale))
    scrapes = -(-number // (TARGETS * len(bodies.metrics_of(bench.tables))))
    return [
        encode(islice(large_points(bench, clock.take(scrapes), place + 0.5, kept=kept), number))
        for place in range(2)
    ]


def large_points(
    bench: Bench, scrapes: Iterable[int], value: float, *, kept: bool
) -> Iterator[Point]:
    """Return samples of rows of the scrapes, or an endless stream of filtered series."""
    if kept:
        return bodies.rows(bench.tables, TARGETS, scrapes)
    return (
        (
            {**bodies.labels(f"large_{number % 97}", number), "path": f"{PATH}{number}"},
            START,
            value,
        )
        for number in count()
    )


def make_small(bench: Bench, clock: Clock) -> Iterator[bytes]:
    """Prepare small requests, and return an iterator over them."""
    points = bodies.rows(bench.tables, ROWS, clock.take(max(FEWEST, bench.scrapes(SMALL))))
    size = ROWS * len(bodies.metrics_of(bench.tables))
    return iter([bodies.body(message_v1(batch)) for batch in bodies.batches(points, size)])


async def send_beside(
    subject: Subject, body: bytes, headers: Mapping[str, str], small: Iterator[bytes]
) -> tuple[Load, Load]:
    """Send a large body, and small ones until it is answered; return the loads of both."""
    large = asyncio.create_task(asyncio.to_thread(send, subject.url, [body], headers, 1))
    first = next(small)
    needed = chain([first], takewhile(lambda _: not large.done(), small))
    beside = await asyncio.to_thread(send, subject.url, needed, V1_HEADERS, 1)
    return await large, beside
