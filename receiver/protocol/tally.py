"""Collects what a decoder finds in a request, within the request's limits."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from receiver.protocol.limits import Limits
from receiver.protocol.series import Filtered, Key, SeriesCache, shorten
from receiver.rows.model import Faults, Sample, Samples, Series, WriteRequest

if TYPE_CHECKING:
    from receiver.rows.blocks import Block

FAULTS_NAMED: Final = 3
MAX_DESCRIPTION: Final = 200
SAMPLE_SIZE: Final = 128
"""Bytes of memory that a kept sample takes."""


class Decoded(NamedTuple):
    """What decoding a message has brought."""

    request: WriteRequest
    size: int
    """Memory that it takes, in bytes."""


Steps: TypeAlias = Generator[None, None, Decoded]
"""Decodes a message in steps of some milliseconds, between which other work may be done."""


class Tally:
    """Counts the elements of valid series and names the faults of the others.

    Every method that counts raises TooLargeError as soon as the request exceeds a limit.

    Args:
        limits: Those of a request.
        cache: Where series are remembered.
    """

    def __init__(self, limits: Limits, cache: SeriesCache) -> None:
        self.limits = limits
        self.cache = cache
        self._most_samples = limits.max_request_samples
        self._samples = Samples([], [])
        self._received = self._histograms = self._exemplars = self._weight = 0
        self._kept = self._invalid = 0
        self._faults: list[str] = []
        self._entries = 0
        self.size = 0
        """Memory that is taken for the request, in bytes."""
        self.total = 0
        """Series of the request so far."""
        self.holds_anything = False
        """Whether there is any field that belongs to the message."""

    def enter(self, series: int, *, others: int = 0, known: bool = True) -> None:
        """Count series that come next, before they are read.

        Args:
            series: How many there are.
            others: How many other entries there are among them.
            known: Whether the message is declared to have any of these.
        """
        self.total += series
        self._entries += series + others
        self.holds_anything |= known
        self.limits.check("max_request_series", self._entries)

    def spend(self, size: int) -> None:
        """Count memory, in bytes."""
        self.check_size(size)
        self.size += size

    def check_size(self, more: int) -> None:
        """Check that so many more bytes of memory may be taken."""
        self.limits.check("max_decoded_size", self.size + more)

    def count(self, samples: int, histograms: int = 0, exemplars: int = 0) -> None:
        """Count the elements of valid series."""
        self._received += samples
        self._histograms += histograms
        self._exemplars += exemplars
        if self._received + self._histograms + self._exemplars > self._most_samples:
            self.check_samples()

    def weigh(self, more: int) -> None:
        """Count what is no sample of its own, but takes as long."""
        self._weight += more
        self.check_samples()

    def check_samples(self, more: int = 0) -> None:
        """Check that so many more elements may be there."""
        found = self._received + self._histograms + self._exemplars + self._weight + more
        self.limits.check("max_request_samples", found)

    def add(self, key: Key, labels: Collection[tuple[str, str]]) -> Series | Filtered:
        """Add a series to those remembered; a source that is made for it counts as memory.

        Raises:
            InvalidSeriesError: it breaks the specification or a limit.
        """
        before = self.cache.made
        known = self.cache.add(key, labels)
        if self.cache.made > before:
            self.spend(self.cache.made - before)
        return known

    def keep(self, samples: list[Sample]) -> None:
        """Take the samples of kept series; they are counted already."""
        self._kept += len(samples)
        if self.cache.shares_metrics:
            # Before they are made: a metric may feed many tables.
            self.spend(SAMPLE_SIZE * sum(len(series.others) for series, _, _ in samples))
        self.spend(SAMPLE_SIZE * len(samples))
        some = for_each_table(samples) if self.cache.shares_metrics else samples
        self._samples.plain.extend(some)

    def keep_block(self, block: Block) -> None:
        """Take samples of kept series that are in arrays; they are counted already."""
        if self.cache.shares_metrics:
            self.keep(list(block))
            return
        self._kept += len(block)
        # What it takes where its samples must be looked at one by one.
        self.spend(SAMPLE_SIZE * len(block))
        self._samples.blocks.append(block)

    def fault(self, place: int, labels: Iterable[tuple[str, str]], error: Exception) -> None:
        """Count an invalid series; the first few are named."""
        self._invalid += 1
        if len(self._faults) < FAULTS_NAMED:
            self._faults.append(f"series {place} {describe(labels)}: {error}")

    def decoded(self) -> Decoded:
        """Say what the request holds, once all of it is read."""
        faults = Faults(self._invalid, self.total, self._faults)
        request = WriteRequest(
            self._samples, self._kept, self._received, self._histograms, self._exemplars, faults
        )
        return Decoded(request, self.size)


def for_each_table(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Yield samples, and those of metrics that several tables have once for each table."""
    for sample in samples:
        yield sample
        for series in sample[0].others:
            yield series, *sample[1:]


def describe(labels: Iterable[tuple[str, str]]) -> str:
    """Name a series in an error by its first labels; at no more cost than that takes."""
    texts: list[str] = []
    for name, value in labels:
        texts.append(f"{shorten(name)}={shorten(value)!r}")
        if sum(map(len, texts)) > MAX_DESCRIPTION:
            texts.append("…")
            break
    return f"{{{', '.join(texts)}}}"


def finish(steps: Steps) -> WriteRequest:
    """Take all steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            decoded: Decoded = end.value
            return decoded.request
