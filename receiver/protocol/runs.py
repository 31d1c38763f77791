"""Compares the series of a 2.0 request with consecutive series of earlier requests.

A series has the same symbols in every request, but each request may order its symbols in any way.
The references that each series must have are computed from the numbers of its symbols, for many
series at once, and compared with the bytes of the request.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Self

import numpy as np

from receiver.protocol.arrays import Bytes
from receiver.protocol.layout import Layout, read_points
from receiver.protocol.vocabulary import ABSENT, Codes, Numbers
from receiver.protocol.wire import ONE_BYTE
from receiver.rows.blocks import Block, KeptSeries
from receiver.rows.columns import Flags, Integers

SERIES_SIZE: Final = 18
"""Assumed size of a series in bytes, without its references and what follows its sample: 13 or 14
if its value is zero and so left out, otherwise 22 or 23."""
REFERENCE_SIZE: Final = 1.2
"""Assumed average size of a reference in bytes: 1 for the first 128 symbols, 2 for most others."""


class Expected(NamedTuple):
    """The references that the series of a request have if they match a run."""

    codes: Codes
    """The encoded references of all series, series by series."""
    offsets: Integers
    """Offset of each reference in bytes, and the total size."""
    firsts: Integers
    """Index of the first reference of each series, and the total number."""
    counts: Bytes
    """Number of references of each series."""
    sizes: Integers
    """Size in bytes of each series' references."""

    def first(self, count: int) -> Self:
        """Return the references expected of the first `count` series only."""
        end = self.firsts[count]
        return type(self)(
            self.codes[:end],
            self.offsets[: end + 1],
            self.firsts[: count + 1],
            self.counts[:count],
            self.sizes[:count],
        )

    def compare(self, layout: Layout, at: int) -> Flags:
        """Return which series have the references that are expected of them.

        Args:
            layout: Where the series are.
            at: Index of the first series to compare; as many are compared as are expected.
        """
        sizes = layout.sizes[at : at + len(self.sizes)]
        starts = layout.starts[at : at + len(self.sizes)]
        positions = np.repeat(starts + 2 - self.offsets[self.firsts[:-1]], self.counts)
        positions += self.offsets[:-1]
        differ = layout.text.pairs.take(positions) ^ self.codes
        wrong = differ & 0xFF != 0
        wrong |= (self.codes >= ONE_BYTE) & (differ > 0xFF)
        wrong |= self.codes == ABSENT
        right: Flags = sizes == self.sizes
        if wrong.any():
            right[self.firsts.searchsorted(np.flatnonzero(wrong), "right") - 1] = False
        return right


class Run:
    """Consecutive series, in the order in which they came.

    Args:
        numbers: Numbers of the symbols that their labels refer to, series by series.
        counts: Number of these of each series, at most 127; 0 for a series that is not known.
        tails: Number of bytes after each sample, at most 255.
        kept: Indexes of the kept series.
        series: The kept series.
    """

    def __init__(
        self,
        numbers: Numbers,
        counts: Bytes,
        tails: Bytes,
        kept: Integers,
        series: KeptSeries,
    ) -> None:
        self._numbers = numbers
        self._counts = counts
        self._firsts = np.concatenate((np.zeros(1, np.int32), np.cumsum(counts, dtype=np.int32)))
        self.tails = tails
        """Number of bytes after each sample."""
        self.kept = kept
        """Indexes of the kept series."""
        self.series = series
        """The kept series."""
        self.mean = SERIES_SIZE + float(self.tails.mean() + REFERENCE_SIZE * self._counts.mean())
        """Approximate average size of a series in a message, in bytes."""
        self.used = False
        """Whether any series was recognized by this run."""

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def size(self) -> int:
        """Memory that it takes, in bytes."""
        arrays = (self._numbers, self._counts, self._firsts, self.tails, self.kept)
        return sum(one.nbytes for one in arrays) + self.series.size

    def key(self, place: int) -> bytes:
        """Return the key of a series, its symbol numbers; empty if the series is not known."""
        return self._numbers[self._firsts[place] : self._firsts[place + 1]].tobytes()

    def expect(self, codes: Codes, place: int, count: int) -> Expected:
        """Return the references of a request if its series match the run from an index on.

        Args:
            codes: The request's encoded reference to each symbol, by symbol number.
            place: Index of the first series in the run.
            count: Number of series to consider.
        """
        firsts = self._firsts[place : place + count + 1]
        expected = codes.take(self._numbers[firsts[0] : firsts[-1]])
        offsets = np.zeros(len(expected) + 1, np.int64)
        np.cumsum((expected >= ONE_BYTE).view(np.uint8) + np.uint8(1), out=offsets[1:])
        firsts = firsts.astype(np.int64) - firsts[0]
        counts = self._counts[place : place + count]
        return Expected(expected, offsets, firsts, counts, np.diff(offsets[firsts]))

    def samples(self, layout: Layout, at: int, place: int, known: Flags) -> Block | None:
        """Read the samples of the kept series; None if there are no such series.

        Args:
            layout: Where the series of a request are.
            at: Index of the first series in the layout.
            place: Index of the first series in the run.
            known: Which of the series from there on match the run.
        """
        first, last = self.kept.searchsorted((place, place + len(known))).tolist()
        if first == last:
            return None
        which = np.flatnonzero(known[self.kept[first:last] - place]) + first
        return Block(self.series, which, *read_points(layout, self.kept[which] - place + at))

    def followed_by(self, other: Run) -> Run:
        """Return a run of the series of this run followed by those of another."""
        return Run(
            np.append(self._numbers, other._numbers),
            np.append(self._counts, other._counts),
            np.append(self.tails, other.tails),
            np.append(self.kept, other.kept + len(self)),
            KeptSeries([*self.series.series, *other.series.series]),
        )
