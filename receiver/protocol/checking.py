"""Reads the usual series of 2.0 requests whose symbols are new."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from sys import getsizeof

import numpy as np

from receiver.protocol.arrays import Integers
from receiver.protocol.columns import Symbols, check
from receiver.protocol.limits import Limits
from receiver.protocol.samples import Timestamps, read_samples
from receiver.protocol.series import ENTRY_SIZE, Filtered, SeriesCache, join
from receiver.rows.model import Sample, Series


class Checker:
    """Checks series and finds those that are kept, whatever their symbols are.

    Every text in the labels of a kept metric's series gets a number that holds over many requests.
    So a label set is known by the numbers of its texts, which costs less than to write it out.

    Args:
        cache: Where series are remembered by their texts.
        limits: Those of a series.
        timestamps: Those that have come up before.
    """

    def __init__(self, cache: SeriesCache, limits: Limits, timestamps: Timestamps) -> None:
        self._cache = cache
        self._limits = limits
        self._timestamps = timestamps
        self._numbers: dict[str, int] = {}
        # Filtered ones, too: a metric may be kept of some series only.
        self._series: dict[bytes, Series | Filtered] = {}
        self.size = 0
        """Memory that texts and series take, in bytes."""

    def open(self, symbols: Sequence[str]) -> Symbols:
        """Prepare the symbols of a request, all different."""
        return Symbols(symbols, map(self._cache.keeps, symbols), self._limits)

    def read(self, symbols: Symbols, encoded: Sequence[bytes]) -> tuple[list[Sample], list[int]]:
        """Read the series that are valid and, if they are kept, known; say which others there are.

        Args:
            symbols: Those of the request.
            encoded: The series; at least one.

        Returns:
            The samples of kept series; the places of the others.
        """
        checked = check(encoded, symbols)
        if not checked.kept:
            return [], checked.others
        found = self._find(checked.refs, checked.counts, symbols.texts)
        bare = [encoded[place][:end] for place, end in zip(checked.kept, checked.ends, strict=True)]
        samples = read_samples(bare, found, self._timestamps)
        if None not in found:
            return samples, checked.others
        new = [place for place, known in zip(checked.kept, found, strict=True) if known is None]
        return samples, sorted([*checked.others, *new])

    def clear(self) -> None:
        """Forget all series."""
        self._numbers.clear()
        self._series.clear()
        self.size = 0

    def _find(
        self, refs: Integers, counts: Integers, texts: Sequence[str]
    ) -> list[Series | Filtered | None]:
        """Find series of kept metrics by their references, None for one that is new."""
        if self.size > self._cache.size // 8:
            self.clear()
        numbers = np.zeros(len(texts), np.int32)
        numbers[refs] = 1
        used = np.flatnonzero(numbers)
        numbers[used] = [self._number(texts[ref]) for ref in used.tolist()]
        ends = np.cumsum(counts)
        encoded = numbers[refs].tobytes()
        keys = [
            encoded[start:end] for start, end in pairwise([0, *(numbers.itemsize * ends).tolist()])
        ]
        found: list[Series | Filtered | None] = list(map(self._series.get, keys))
        if None in found:
            for place, (start, end) in enumerate(pairwise([0, *ends.tolist()])):
                if found[place] is None:
                    text = join([texts[ref] for ref in refs[start:end].tolist()])
                    found[place] = self._recall(keys[place], text)
        return found

    def _number(self, text: str) -> int:
        number = self._numbers.get(text)
        if number is None:
            self._numbers[text] = number = len(self._numbers)
            self.size += ENTRY_SIZE + getsizeof(text)
        return number

    def _recall(self, key: bytes, text: str) -> Series | Filtered | None:
        known = self._cache.find(text)
        if known is not None:
            self._series[key] = known
            self.size += ENTRY_SIZE + getsizeof(key)
        return known
