"""Splits a request into parts, small enough that others commit between them.

A part holds all samples of a row, so that its rows are complete.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import Final

from receiver.rows.model import Sample, Samples, Source

MAX_SAMPLES: Final = 10_000
"""Maximum samples of a part, which take a fraction of a second to commit."""
MAX_REFUSED: Final = 2_000
"""The same where the database has refused samples of a source: each may have to run by itself.

Also where most samples are rejected, which takes several times as long as storing them.
"""
MAX_CHUNKS: Final = 25
"""Maximum chunks of a part: each may have to be created, which takes some ten milliseconds."""
AT_ONCE: Final = 50_000
"""Samples that are sorted before other tasks get a turn of the event loop."""


def chunks_of(samples: Collection[Sample], width: int) -> set[int]:
    """Return the numbers of the chunks that samples fall into.

    Args:
        samples: Any.
        width: Time range of a chunk, in milliseconds.
    """
    return {timestamp // width for timestamp in times_of(samples)}


def times_of(samples: Collection[Sample]) -> set[int]:
    """Return the timestamps of samples."""
    if not isinstance(samples, Samples):
        return {timestamp for _, timestamp, _ in samples}
    return times_of(samples.plain).union(*(block.instants for block in samples.blocks))


def is_small(samples: Collection[Sample], width: int, most: int = MAX_SAMPLES) -> bool:
    """Return whether samples need not be split."""
    if len(samples) > most:
        return False
    return len(samples) <= MAX_CHUNKS or len(chunks_of(samples, width)) <= MAX_CHUNKS


async def part(
    samples: Collection[Sample], width: int, limit: Callable[[], int] = lambda: MAX_SAMPLES
) -> AsyncIterator[Collection[Sample]]:
    """Yield the samples of a request in parts, in the order of time.

    Args:
        samples: All samples of the request.
        width: Time range of a chunk, in milliseconds.
        limit: Returns the maximum samples of a part, which may change from one to the next.
    """
    if is_small(samples, width, limit()):
        yield samples
        return
    by_time: defaultdict[int, list[Sample]] = defaultdict(list)
    for number, sample in enumerate(samples):
        by_time[sample[1]].append(sample)
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
    gathered: list[Sample] = []
    chunks: set[int] = set()
    for timestamp in sorted(by_time):
        chunk = timestamp // width
        for some in by_source(by_time.pop(timestamp), limit()):
            full = len(gathered) + len(some) > limit()
            if gathered and (full or len(chunks | {chunk}) > MAX_CHUNKS):
                yield gathered
                gathered, chunks = [], set()
            gathered += some
            chunks.add(chunk)
    yield gathered


def by_source(samples: list[Sample], most: int) -> Iterable[list[Sample]]:
    """Return samples of one time together if there are at most `most`, else by source."""
    if len(samples) <= most:
        return [samples]
    found: defaultdict[Source, list[Sample]] = defaultdict(list)
    for sample in samples:
        found[sample[0].source].append(sample)
    return found.values()
