"""Packs integers of 1 to 64 bits into bytes, with numpy."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from receiver.rows.columns import Integers

Words: TypeAlias = NDArray[np.uint64]

WORD: Final = 64


def pack(numbers: Words, widths: Integers, offsets: Integers, size: int) -> bytes:
    """Pack numbers into bytes, most significant bit first.

    Args:
        numbers: The numbers; none has a bit set above its width.
        widths: Width of each number in bits, 1 to 64.
        offsets: Offset of each number in bits, ascending; no two numbers overlap.
        size: Number of bytes to return; bits that no number covers are 0.
    """
    words = np.zeros(-(-size // 8) + 1, dtype=np.uint64)
    if len(numbers):
        place = offsets // WORD
        end = offsets % WORD + widths
        over = np.maximum(end - WORD, 0).astype(np.uint64)
        room = np.maximum(WORD - end, 0).astype(np.uint64)
        # Combine the numbers that begin in the same word, up to the end of that word.
        firsts = np.flatnonzero(np.diff(place, prepend=-1))
        words[place[firsts]] = np.bitwise_or.reduceat((numbers >> over) << room, firsts)
        crossing = np.flatnonzero(over)
        # At most one number crosses into a word.
        words[place[crossing] + 1] |= numbers[crossing] << (np.uint64(WORD) - over[crossing])
    return words.astype(">u8").tobytes()[:size]


def leading_zeros(numbers: Words) -> Integers:
    """Count the leading zeros of each 64-bit number."""
    filled = numbers.copy()
    for shift in (1, 2, 4, 8, 16, 32):
        filled |= filled >> np.uint64(shift)
    return WORD - np.bitwise_count(filled).astype(np.int64)


def trailing_zeros(numbers: Words) -> Integers:
    """Count the trailing zeros of each 64-bit number."""
    one = np.uint64(1)
    # Zero becomes all ones, as it should: it has 64 trailing zeros.
    return np.bitwise_count(~numbers & (numbers - one)).astype(np.int64)
