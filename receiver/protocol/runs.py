"""Compares series of a 2.0 request with series that came one after the other before.

A series has the same symbols whenever it comes, but a request may number its symbols in any way.
What the references of each series must be is computed from the numbers of its symbols, for many
series at once; the bytes of the request are then compared with that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from receiver.protocol.arrays import Flags, Integers, first_of
from receiver.protocol.layout import Layout
from receiver.protocol.series import Filtered
from receiver.protocol.vocabulary import ABSENT, Codes, Numbers
from receiver.protocol.wire import ONE_BYTE
from receiver.rows.model import Series


class Page(NamedTuple):
    """Some series of a request, to be compared."""

    layout: Layout
    pairs: NDArray[np.uint16]
    """At each byte of the data the number of two bytes that begins there."""
    codes: Codes
    """How the request refers to each symbol, by the symbols' numbers."""

    @classmethod
    def of(cls, layout: Layout, codes: Codes) -> Page:
        """Prepare the series of a layout."""
        pairs = np.ndarray(len(layout.data) - 1, "<u2", layout.data.data, strides=(1,))
        # A copy, for unaligned numbers take much longer to gather.
        return cls(layout, np.ascontiguousarray(pairs), codes)


class Run:
    """Series that came one after the other.

    Args:
        numbers: Those of the symbols that their labels refer to, one series after the other.
        counts: How many there are of each series, at most 127: none of one that is not known.
        places: Which of them have metrics that are kept.
        found: What these are; of some metrics not all series are kept.
    """

    def __init__(
        self,
        numbers: Numbers,
        counts: Integers,
        places: Integers,
        found: Sequence[Series | Filtered | None],
    ) -> None:
        self.numbers = numbers
        self.counts = counts.astype(np.uint8)
        self.firsts = np.append(first_of(counts), len(numbers)).astype(np.int32)
        """Where the numbers of each series begin, and the end."""
        self.kept = places[np.fromiter(map(bool, found), np.bool_, len(found))]
        """Places of the series that are kept."""
        self.series = [series for series in found if series]
        """What these are."""
        self.used = False
        """Whether series were known by it."""

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def size(self) -> int:
        """Memory that it takes, in bytes."""
        arrays = (self.numbers, self.counts, self.firsts, self.kept)
        return sum(one.nbytes for one in arrays) + 8 * len(self.series)

    def key(self, place: int) -> bytes:
        """Return what tells one of the series from others; nothing if it is not known."""
        return self.numbers[self.firsts[place] : self.firsts[place + 1]].tobytes()

    def match(self, page: Page, at: int, place: int, most: int) -> Flags:
        """Say which series of a request refer to the symbols of those from a place on.

        Whether they have the usual form is not looked at.

        Args:
            page: The series of the request.
            at: Which of them is the first to be compared.
            place: Which series of the run that would be.
            most: How many series to compare, at most.
        """
        count = min(most, len(self) - place, len(page.layout.starts) - at)
        firsts = self.firsts[place : place + count + 1]
        expected = page.codes.take(self.numbers[firsts[0] : firsts[-1]])
        firsts, counts = firsts - firsts[0], self.counts[place : place + count]
        wide = expected >= ONE_BYTE
        # How many references of two bytes come before each.
        before = np.zeros(len(expected) + 1, np.int64)
        np.cumsum(wide, out=before[1:])
        at_first = before[firsts]
        right: Flags = page.layout.sizes[at : at + count] == counts + np.diff(at_first)
        begins = page.layout.starts[at : at + count] + 2 - at_first[:-1] - firsts[:-1]
        positions = np.repeat(begins, counts) + before[:-1] + np.arange(len(expected))
        differ = page.pairs.take(positions) ^ expected
        wrong = (differ & 0xFF != 0) | wide & (differ > 0xFF) | (expected == ABSENT)
        if wrong.any():
            right[firsts.searchsorted(np.flatnonzero(wrong), "right") - 1] = False
        self.used |= bool(right.any())
        return right
