"""Compares series of a 2.0 request with series that came one after the other before.

A series has the same symbols whenever it comes, but a request may number its symbols in any way.
What the references of each series must be is computed from the numbers of its symbols, for many
series at once; the bytes of the request are then compared with that.
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

LEAST: Final = 18
"""Bytes of a series in a message, on average, beside its references and what follows its sample."""
BYTES: Final = 1.2
"""Bytes of a reference, as few as there may be on average."""


class Expected(NamedTuple):
    """What some series of a request are, if they are those of a run."""

    codes: Codes
    """The references of all series, one after the other, as they are encoded."""
    offsets: Integers
    """How many bytes come before each of them, and in all."""
    firsts: Integers
    """Where those of each series begin, and the end."""
    counts: Bytes
    """How many each series has."""
    sizes: Integers
    """How many bytes they take."""

    def first(self, count: int) -> Self:
        """Return what is expected of the first series only."""
        end = self.firsts[count]
        return type(self)(
            self.codes[:end],
            self.offsets[: end + 1],
            self.firsts[: count + 1],
            self.counts[:count],
            self.sizes[:count],
        )

    def compare(self, layout: Layout, at: int) -> Flags:
        """Say which series have the references that are expected of them.

        Args:
            layout: Where the series are.
            at: Which of these is the first to be compared; there are as many as are expected.
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
    """Series that came one after the other.

    Args:
        numbers: Those of the symbols that their labels refer to, one series after the other.
        counts: How many there are of each series, at most 127: none of one that is not known.
        tails: Bytes after the sample of each, at most 255.
        kept: Places of the series that are kept.
        series: What these are.
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
        self._firsts = np.append(0, np.cumsum(counts, dtype=np.int32))
        self.tails = tails
        """Bytes after the sample of each."""
        self.kept = kept
        """Places of the series that are kept."""
        self.series = series
        """What these are."""
        self.mean = LEAST + float(self.tails.mean() + BYTES * self._counts.mean())
        """About how many bytes a series has in a message."""
        self.used = False
        """Whether series were known by it."""

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def size(self) -> int:
        """Memory that it takes, in bytes."""
        arrays = (self._numbers, self._counts, self._firsts, self.tails, self.kept)
        return sum(one.nbytes for one in arrays) + self.series.size

    def key(self, place: int) -> bytes:
        """Return what tells one of the series from others; nothing if it is not known."""
        return self._numbers[self._firsts[place] : self._firsts[place + 1]].tobytes()

    def expect(self, codes: Codes, place: int, count: int) -> Expected:
        """Say what a request has if its series are those from a place on.

        Args:
            codes: How the request refers to each symbol, by the symbols' numbers.
            place: Which of the series the first would be.
            count: How many series to look at.
        """
        firsts = self._firsts[place : place + count + 1]
        expected = codes.take(self._numbers[firsts[0] : firsts[-1]])
        offsets = np.zeros(len(expected) + 1, np.int64)
        np.cumsum((expected >= ONE_BYTE).view(np.uint8) + np.uint8(1), out=offsets[1:])
        firsts = firsts.astype(np.int64) - firsts[0]
        counts = self._counts[place : place + count]
        return Expected(expected, offsets, firsts, counts, np.diff(offsets[firsts]))

    def samples(self, layout: Layout, at: int, place: int, known: Flags) -> Block | None:
        """Read the samples of those series that are kept, if there are any.

        Args:
            layout: Where the series of a request are.
            at: Which of these is the first.
            place: Which series of the run that is.
            known: Which of the series from there on are those of the run.
        """
        first, last = self.kept.searchsorted((place, place + len(known))).tolist()
        if first == last:
            return None
        which = np.flatnonzero(known[self.kept[first:last] - place]) + first
        return Block(self.series, which, *read_points(layout, self.kept[which] - place + at))

    def followed_by(self, other: Run) -> Run:
        """Return the series of this run and those of another one."""
        return Run(
            np.append(self._numbers, other._numbers),
            np.append(self._counts, other._counts),
            np.append(self.tails, other.tails),
            np.append(self.kept, other.kept + len(self)),
            KeptSeries([*self.series.series, *other.series.series]),
        )
