"""Reads the series of the usual form in 2.0 requests whose symbols are new."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from sys import getsizeof
from typing import Final, NamedTuple

import numpy as np

from receiver.protocol.ahead import AheadReader
from receiver.protocol.columns import Symbols, Valid, check, have_usual_tails
from receiver.protocol.layout import Layout, lay_out_all, read_points
from receiver.protocol.limits import Limits
from receiver.protocol.orders import Known, Orders
from receiver.protocol.runs import Run
from receiver.protocol.series import ENTRY_SIZE, Filtered, SeriesCache, join
from receiver.protocol.symbols import Ahead
from receiver.protocol.vocabulary import Codes, Numbers, Vocabulary
from receiver.rows.blocks import Block, KeptSeries
from receiver.rows.columns import Flags, Integers
from receiver.rows.model import Sample, Series

MAX_TAIL: Final = 255
"""Maximum number of bytes after a sample that a run records."""


class Checked(NamedTuple):
    """The result of reading some series."""

    samples: list[Sample]
    """Samples of kept series."""
    blocks: list[Block]
    """Samples of kept series that came in a known order."""
    unread: list[int]
    """Indexes of the series that still have to be parsed."""
    known: int
    """Number of series that came in a known order."""


class Checker:
    """Checks series and finds the kept ones, whatever symbols a request has.

    The symbols of kept series, and of series whose order is known, have numbers that stay the same
    across requests. A label set is looked up by these numbers, which is cheaper than by its texts.

    Args:
        cache: The known series by their texts.
        limits: The limits of a series.
    """

    def __init__(self, cache: SeriesCache, limits: Limits) -> None:
        self._cache = cache
        self._limits = limits
        self._vocabulary = Vocabulary()
        self._orders = Orders(cache.size // 16)
        self._ahead = AheadReader(self._orders, self._open_page)
        # Filtered ones, too: a metric may be kept for some of its series only.
        self._series: dict[bytes, Series | Filtered] = {}
        self._series_size = 0

    @property
    def size(self) -> int:
        """Memory that symbols and series take, in bytes."""
        return self._vocabulary.size + self._series_size

    def open(self, symbols: Sequence[str]) -> Symbols:
        """Prepare the symbols of a request."""
        if self.size > self._cache.size // 8:
            self.clear()
        return Symbols(symbols, self._cache.keeps, self._limits)

    def read_ahead(self, message: bytes) -> Ahead:
        """Read the first series of a message, as long as they come in a known order."""
        return self._ahead.read(message)

    def _open_page(self, texts: Sequence[str]) -> tuple[Symbols, Numbers, Codes]:
        symbols, numbers = self.open(texts), self._vocabulary.find(texts)
        return symbols, numbers, self._vocabulary.encode(numbers)

    def read(self, symbols: Symbols, encoded: Sequence[bytes]) -> Checked:
        """Read the valid series, except for new ones of kept metrics.

        Args:
            symbols: The symbols of the request.
            encoded: The series; at least one.
        """
        layout = lay_out_all(encoded)
        layout = layout._replace(usual=have_usual_tails(layout, symbols))
        # Other requests may have changed the numbers since the last batch of this one was read.
        numbers = self._vocabulary.find(symbols.texts)
        flags, blocks = self._find_known(layout, encoded, numbers)
        known = int(np.count_nonzero(flags))
        learns = self._orders.wants(len(encoded) - known, len(encoded), symbols.count)
        if learns:
            # The order of all series is learned, even of those that came in a known order.
            flags, blocks = nothing(len(encoded))
        left = np.flatnonzero(layout.usual & ~flags)
        samples: list[Sample] = []
        if left.size and symbols.distinct:
            valid = check(layout, left, symbols)
            found = self._find(valid, symbols.texts, numbers)
            places = valid.places[valid.kept]
            kept, series = places[are_kept(found)], [one for one in found if one]
            if learns and None not in found:
                self._vocabulary.add(symbols.texts, numbers, valid.refs)
                self._learn(layout, valid, numbers[valid.refs], kept, series)
            flags[valid.places] = True
            flags[places] = [one is not None for one in found]
            times, values = read_points(layout, kept)
            samples = list(zip(series, times.tolist(), values.tolist(), strict=True))
        return Checked(samples, blocks, np.flatnonzero(~flags).tolist(), known)

    def _find_known(self, layout: Layout, encoded: Sequence[bytes], numbers: Numbers) -> Known:
        if not self._orders:
            return nothing(len(encoded))
        return self._orders.read(layout, encoded, numbers, self._vocabulary.encode(numbers))

    def _learn(
        self,
        layout: Layout,
        valid: Valid,
        numbers: Numbers,
        kept: Integers,
        series: Sequence[Series],
    ) -> None:
        """Remember the order of series; those that are not valid keep their place in it.

        Args:
            layout: Where the parts of all series are.
            valid: The valid ones.
            numbers: Numbers of the symbols that the valid series refer to, series by series.
            kept: Indexes of the kept series.
            series: The kept series.
        """
        counts = np.zeros(len(layout.tails), np.uint8)
        counts[valid.places] = valid.counts
        tails = layout.tails.clip(0, MAX_TAIL).astype(np.uint8)
        self._orders.learn(Run(numbers, counts, tails, kept, KeptSeries(series)))

    def clear(self) -> None:
        """Forget all series."""
        self._vocabulary.clear()
        self._orders.clear()
        self._series.clear()
        self._series_size = 0

    def _find(
        self, valid: Valid, texts: Sequence[str], numbers: Numbers
    ) -> list[Series | Filtered | None]:
        """Look up the series of kept metrics by their symbol numbers; None for a new series."""
        refs = valid.refs[np.repeat(valid.kept, valid.counts)]
        self._vocabulary.add(texts, numbers, refs)
        ends = np.cumsum(valid.counts[valid.kept])
        encoded = numbers[refs].tobytes()
        keys = [
            encoded[start:end] for start, end in pairwise([0, *(numbers.itemsize * ends).tolist()])
        ]
        found: list[Series | Filtered | None] = list(map(self._series.get, keys))
        if None in found:
            for place, (start, end) in enumerate(pairwise([0, *ends.tolist()])):
                if found[place] is None:
                    joined = join([texts[ref] for ref in refs[start:end].tolist()])
                    found[place] = self._recall(keys[place], joined)
        return found

    def _recall(self, key: bytes, joined: bytes) -> Series | Filtered | None:
        known = self._cache.find(joined)
        if known is not None:
            self._series[key] = known
            self._series_size += ENTRY_SIZE + getsizeof(key)
        return known


def are_kept(found: Sequence[Series | Filtered | None]) -> Flags:
    """Return which series are kept."""
    return np.fromiter(map(bool, found), np.bool_, len(found))


def nothing(count: int) -> Known:
    """Return the result for `count` series none of which came in a known order."""
    return Known(np.zeros(count, np.bool_), [])
