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
"""Memory per kept sample, in bytes."""


class Decoded(NamedTuple):
    """A decoded message."""

    request: WriteRequest
    size: int
    """Memory that it takes, in bytes."""


Steps: TypeAlias = Generator[None, None, Decoded]
"""Decodes a message in steps of some milliseconds, between which other work may run."""


class Tally:
    """Counts the elements of valid series and describes the faults of the others.

    Every method that counts raises TooLargeError as soon as the request exceeds a limit.

    Args:
        limits: The limits of a request.
        cache: The known series.
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
        """Memory taken for the request, in bytes."""
        self.total = 0
        """Number of series of the request so far."""
        self.holds_anything = False
        """Whether the request has any field that the message declares."""

    def enter(self, series: int, *, others: int = 0, known: bool = True) -> None:
        """Count the next series before they are read.

        Args:
            series: Number of series.
            others: Number of other entries among them.
            known: Whether the message declares any of these fields.
        """
        self.total += series
        self._entries += series + others
        self.holds_anything |= known
        self.limits.check("max_request_series", self._entries)

    def spend(self, size: int) -> None:
        """Count memory taken, in bytes."""
        self.check_size(size)
        self.size += size

    def check_size(self, more: int) -> None:
        """Check that the request may take `more` further bytes of memory."""
        self.limits.check("max_decoded_size", self.size + more)

    def count(self, samples: int, histograms: int = 0, exemplars: int = 0) -> None:
        """Count the elements of valid series."""
        self._received += samples
        self._histograms += histograms
        self._exemplars += exemplars
        if self._received + self._histograms + self._exemplars > self._most_samples:
            self.check_samples()

    def weigh(self, more: int) -> None:
        """Count elements that are not samples, but take as long to read."""
        self._weight += more
        self.check_samples()

    def check_samples(self, more: int = 0) -> None:
        """Check that the request may have `more` further elements."""
        found = self._received + self._histograms + self._exemplars + self._weight + more
        self.limits.check("max_request_samples", found)

    def add(self, key: Key, labels: Collection[tuple[str, str]]) -> Series | Filtered:
        """Add a series to the cache; count the memory of sources that are made for it.

        Raises:
            InvalidSeriesError: it breaks the specification or a limit.
        """
        before = self.cache.made
        known = self.cache.add(key, labels)
        if self.cache.made > before:
            self.spend(self.cache.made - before)
        return known

    def keep(self, samples: list[Sample]) -> None:
        """Take samples of kept series, which have been counted already."""
        self._kept += len(samples)
        if self.cache.shares_metrics:
            # Before the samples are made: a metric may feed many tables.
            self.spend(SAMPLE_SIZE * sum(len(series.others) for series, _, _ in samples))
        self.spend(SAMPLE_SIZE * len(samples))
        some = for_each_table(samples) if self.cache.shares_metrics else samples
        self._samples.plain.extend(some)

    def keep_block(self, block: Block) -> None:
        """Take samples of kept series in arrays, which have been counted already."""
        if self.cache.shares_metrics:
            self.keep(list(block))
            return
        self._kept += len(block)
        # The memory that it takes if its samples must be handled one by one.
        self.spend(SAMPLE_SIZE * len(block))
        self._samples.blocks.append(block)

    def fault(self, place: int, labels: Iterable[tuple[str, str]], error: Exception) -> None:
        """Count an invalid series; describe the first few.

        Raises:
            TooLargeError: there are too many.
        """
        self._invalid += 1
        if len(self._faults) < FAULTS_NAMED:
            self._faults.append(f"series {place} {describe(labels)}: {error}")
        self.limits.check_invalid(self._invalid, self._faults[0])

    def decoded(self) -> Decoded:
        """Return the content of the request, once all of it is read."""
        faults = Faults(self._invalid, self.total, self._faults)
        request = WriteRequest(
            self._samples, self._kept, self._received, self._histograms, self._exemplars, faults
        )
        return Decoded(request, self.size)


def for_each_table(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Yield each sample once for every table that its metric feeds."""
    for sample in samples:
        yield sample
        for series in sample[0].others:
            yield series, *sample[1:]


def describe(labels: Iterable[tuple[str, str]]) -> str:
    """Describe a series in an error by its first labels, without reading the others."""
    texts: list[str] = []
    for name, value in labels:
        texts.append(f"{shorten(name)}={shorten(value)!r}")
        if sum(map(len, texts)) > MAX_DESCRIPTION:
            texts.append("…")
            break
    return f"{{{', '.join(texts)}}}"


def finish(steps: Steps) -> WriteRequest:
    """Run all steps at once; return the request."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            decoded: Decoded = end.value
            return decoded.request
