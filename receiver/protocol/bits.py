"""Writes numbers of any number of bits one after the other, with numpy."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Words: TypeAlias = NDArray[np.uint64]
Integers: TypeAlias = NDArray[np.int64]

WORD: Final = 64


def pack(numbers: Words, widths: Integers, offsets: Integers, size: int) -> bytes:
    """Write numbers as bits, the most significant first.

    Args:
        numbers: What to write; a number has no bits above its width.
        widths: How many bits each has, 1 to 64.
        offsets: The place of the first bit of each, rising; no two numbers overlap.
        size: Number of bytes to return; bits that no number covers are 0.
    """
    words = np.zeros(-(-size // 8) + 1, dtype=np.uint64)
    if len(numbers):
        place = offsets // WORD
        end = offsets % WORD + widths
        over = np.maximum(end - WORD, 0).astype(np.uint64)
        room = np.maximum(WORD - end, 0).astype(np.uint64)
        # Of the numbers that begin in the same word, what lies in it.
        firsts = np.flatnonzero(np.diff(place, prepend=-1))
        words[place[firsts]] = np.bitwise_or.reduceat((numbers >> over) << room, firsts)
        crossing = np.flatnonzero(over)
        # At most one number crosses into a word.
        words[place[crossing] + 1] |= numbers[crossing] << (np.uint64(WORD) - over[crossing])
    return words.astype(">u8").tobytes()[:size]


def leading_zeros(numbers: Words) -> Integers:
    """Count the zeros before the first 1 of each number of 64 bits."""
    filled = numbers.copy()
    for shift in (1, 2, 4, 8, 16, 32):
        filled |= filled >> np.uint64(shift)
    return WORD - np.bitwise_count(filled).astype(np.int64)


def trailing_zeros(numbers: Words) -> Integers:
    """Count the zeros after the last 1 of each number of 64 bits."""
    one = np.uint64(1)
    # Zero becomes all ones, as it should: it has 64 zeros.
    return np.bitwise_count(~numbers & (numbers - one)).astype(np.int64)
