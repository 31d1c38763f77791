"""Numbers the symbols of 2.0 requests, so that a symbol is recognized in other requests."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from sys import getsizeof
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from receiver.protocol.series import ENTRY_SIZE
from receiver.protocol.wire import ONE_BYTE
from receiver.rows.columns import Integers

Numbers: TypeAlias = NDArray[np.int32]
"""Symbol numbers. No symbol has the number 0."""
Codes: TypeAlias = NDArray[np.uint16]
"""Encoded references: one byte, or two with the least significant first."""

MAX_CODES: Final = 1 << 14
"""Number of references that take one or two bytes."""
ABSENT: Final = 0xFFFF
"""Not the code of any reference."""


def encode_refs() -> Codes:
    """Encode all references of one or two bytes."""
    refs = np.arange(MAX_CODES)
    two = refs & 0x7F | ONE_BYTE | refs >> 7 << 8
    return np.where(refs < ONE_BYTE, refs, two).astype(np.uint16)


CODES: Final = encode_refs()


class Vocabulary:
    """Gives symbols numbers that stay the same across requests, until all are forgotten."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._codes: Codes = np.full(1024, ABSENT, np.uint16)
        self.size = 0
        """Memory that it takes, in bytes."""

    def find(self, symbols: Sequence[str]) -> Numbers:
        """Return the number of each symbol, 0 for one that has none."""
        return np.fromiter(map(self._numbers.get, symbols, repeat(0)), np.int32, len(symbols))

    def add(self, symbols: Sequence[str], numbers: Numbers, refs: Integers) -> None:
        """Give numbers to the referenced symbols that have none.

        Args:
            symbols: The symbols of a request.
            numbers: Their numbers, to which new ones are added.
            refs: References to the symbols that need numbers.
        """
        used = np.zeros(len(symbols), np.bool_)
        used[refs] = True
        for ref in np.flatnonzero(used & (numbers == 0)).tolist():
            text = symbols[ref]
            numbers[ref] = number = self._numbers.setdefault(text, len(self._numbers) + 1)
            if number == len(self._numbers):
                self.size += ENTRY_SIZE + self._codes.itemsize + getsizeof(text)

    def encode(self, numbers: Numbers) -> Codes:
        """Return a request's encoded reference to each symbol, by symbol number.

        The array is valid until the next call.

        Args:
            numbers: The numbers of the request's symbols, 0 for a symbol without one.
        """
        if len(self._numbers) >= len(self._codes):
            self._codes = np.empty(2 * len(self._numbers), np.uint16)
        self._codes.fill(ABSENT)
        numbers = numbers[:MAX_CODES]
        self._codes[numbers] = CODES[: len(numbers)]
        self._codes[0] = ABSENT
        return self._codes

    def clear(self) -> None:
        """Forget all symbols."""
        self._numbers.clear()
        self._codes = self._codes[:1024].copy()
        self.size = 0
