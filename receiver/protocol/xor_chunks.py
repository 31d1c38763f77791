"""Encodes samples as Prometheus' XOR chunks, many chunks at once, with numpy.

A chunk is the number of its samples (16 bits), then a bit stream: for the first sample its
timestamp as a varint and its value; for the second the time since the first as a varint; for all
others the change of that interval, in one of five widths. A value after the first is written as its
XOR with the value before: the bits between the leading and the trailing zeros.

https://github.com/prometheus/prometheus/blob/main/tsdb/docs/format/chunks.md
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from receiver.protocol.bits import Words, leading_zeros, pack, trailing_zeros
from receiver.rows.columns import Flags, Floats, Integers

MAX_SAMPLES: Final = 120
"""Maximum number of samples in a chunk, as in Prometheus."""
MAX_VARINT: Final = 10
PIECES: Final = 4
"""Maximum number of integers that encode a sample: two for its time and two for its value."""
MAX_LEADING: Final = 31
"""Leading zeros are written in 5 bits."""
NO_WINDOW: Final = 64

# A prefix, its width, and the width of the difference that follows.
STEPS: Final = ((0b10, 2, 14), (0b110, 3, 17), (0b1110, 4, 20))
ANY_STEP: Final = (0b1111, 4, 64)


class Pieces(NamedTuple):
    """The integers that encode samples, one row per sample."""

    numbers: Words
    widths: Integers
    """In bits; 0 where there is no number."""


def encode_chunks(times: Integers, values: Floats, starts: Integers) -> list[bytes]:
    """Encode samples as chunks.

    Args:
        times: In milliseconds since the Unix epoch; ascending within a chunk.
        values: One for each time.
        starts: Index of the first sample of each chunk, the first being 0; a chunk has at most 120
            samples.
    """
    counts = np.diff(starts, append=len(times))
    places = np.arange(len(times)) - np.repeat(starts, counts)
    pieces = Pieces(
        np.zeros((len(times), PIECES), dtype=np.uint64),
        np.zeros((len(times), PIECES), dtype=np.int64),
    )
    # Backwards: the first samples overwrite what was written for them as for the others.
    write_values(pieces, values.view(np.uint64), places, starts)
    write_times(pieces, times, places)
    write_first(pieces, times, values.view(np.uint64), starts, counts)
    return join(pieces, starts, counts)


def join(pieces: Pieces, starts: Integers, counts: Integers) -> list[bytes]:
    """Write the pieces of each chunk as bytes."""
    ends = pieces.widths.cumsum().reshape(pieces.widths.shape)
    totals = np.add.reduceat(pieces.widths.sum(axis=1), starts)
    sizes = (totals + 7) // 8
    begins = sizes.cumsum() - sizes
    # A chunk begins at a byte boundary.
    moved = np.repeat(8 * begins - (totals.cumsum() - totals), counts)
    offsets = ends - pieces.widths + moved[:, np.newaxis]
    written = pieces.widths > 0
    packed = pack(
        pieces.numbers[written], pieces.widths[written], offsets[written], int(sizes.sum())
    )
    return [
        packed[begin : begin + size]
        for begin, size in zip(begins.tolist(), sizes.tolist(), strict=True)
    ]


def write_first(
    pieces: Pieces, times: Integers, values: Words, starts: Integers, counts: Integers
) -> None:
    """Write the first sample of each chunk, after the number of samples."""
    pieces.numbers[starts, 0] = counts.astype(np.uint64)
    pieces.widths[starts, 0] = 16
    # Signed numbers are zigzag encoded: 0, -1, 1, -2.
    first = times[starts]
    write_varints(pieces, starts, ((first << 1) ^ (first >> 63)).view(np.uint64), 1)
    pieces.numbers[starts, 3] = values[starts]
    pieces.widths[starts, 3] = 64


def write_times(pieces: Pieces, times: Integers, places: Integers) -> None:
    """Write the times of all samples but the first of each chunk."""
    deltas = np.diff(times, prepend=0)
    seconds = np.flatnonzero(places == 1)
    write_varints(pieces, seconds, deltas[seconds].view(np.uint64), 0)
    others = np.flatnonzero(places > 1)
    changes = np.diff(deltas, prepend=0)[others]
    prefix, width, extent = choose_steps(changes)
    payload = changes.view(np.uint64) & mask(extent)
    small = extent < ANY_STEP[2]
    shift = np.where(small, extent, 0).astype(np.uint64)
    pieces.numbers[others, 0] = (prefix << shift) | np.where(small, payload, np.uint64(0))
    pieces.widths[others, 0] = width + np.where(small, extent, 0)
    large = others[~small]
    pieces.numbers[large, 1] = payload[~small]
    pieces.widths[large, 1] = ANY_STEP[2]


def choose_steps(changes: Integers) -> tuple[Words, Integers, Integers]:
    """Return the prefix of each change of an interval, its width and the width of the number."""
    bounds = [1 << (extent - 1) for _, _, extent in STEPS]
    conditions = [changes == 0, *((changes > -bound) & (changes <= bound) for bound in bounds)]
    steps = ((0, 1, 0), *STEPS)
    prefix, width, extent = (
        np.select(conditions, [step[part] for step in steps], ANY_STEP[part]) for part in range(3)
    )
    return prefix.astype(np.uint64), width, extent


def write_values(pieces: Pieces, values: Words, places: Integers, starts: Integers) -> None:
    """Write the values of all samples but the first of each chunk."""
    changes = np.bitwise_xor(values, np.roll(values, 1))
    changes[starts] = 0
    pieces.widths[:, 2] = 1
    changed = np.flatnonzero(changes)
    if not len(changed):
        return
    changes = changes[changed]
    chunks = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(values)))[changed]
    window = find_windows(changes, places[changed], chunks, len(starts))
    bits = WORD_BITS - window.leading - window.trailing
    # 64 bits are written as 0, since 6 bits hold no more than 63.
    opened = (0b11 << 11) | (window.leading << 6) | (bits & 63)
    pieces.numbers[changed, 2] = np.where(window.new, opened, 0b10).astype(np.uint64)
    pieces.widths[changed, 2] = np.where(window.new, 13, 2)
    pieces.numbers[changed, 3] = changes >> window.trailing.astype(np.uint64)
    pieces.widths[changed, 3] = bits


WORD_BITS: Final = 64


class Windows(NamedTuple):
    """The window of each change: between which zeros it is written."""

    leading: Integers
    trailing: Integers
    new: Flags
    """Whether the window differs from that of the previous change in the chunk."""


def find_windows(changes: Words, places: Integers, chunks: Integers, count: int) -> Windows:
    """Find the window of each change: the previous window, if the change fits in.

    Args:
        changes: XORs of consecutive values, none of which is 0.
        places: Index of each sample in its chunk.
        chunks: Index of each sample's chunk.
        count: Number of chunks.
    """
    # A window depends on the previous one, so samples at one index of all chunks go together.
    shape = (int(places.max()) + 1, count)
    leading, trailing = np.full(shape, -1, np.int8), np.full(shape, -1, np.int8)
    leading[places, chunks] = np.minimum(leading_zeros(changes), MAX_LEADING)
    trailing[places, chunks] = trailing_zeros(changes)
    new = np.zeros(shape, np.bool_)
    before, after = np.full(count, NO_WINDOW, np.int8), np.full(count, NO_WINDOW, np.int8)
    for place in range(shape[0]):
        wanted, wanted_after = leading[place], trailing[place]
        opens = (wanted >= 0) & ((wanted < before) | (wanted_after < after))
        before = np.where(opens, wanted, before)
        after = np.where(opens, wanted_after, after)
        leading[place], trailing[place], new[place] = before, after, opens
    return Windows(
        leading[places, chunks].astype(np.int64),
        trailing[places, chunks].astype(np.int64),
        new[places, chunks],
    )


def write_varints(pieces: Pieces, rows: Integers, numbers: Words, column: int) -> None:
    """Write a varint into two columns of each row: up to 8 bytes, then up to 2."""
    low, low_width = varint_bytes(numbers, 0, 8)
    rest, rest_width = varint_bytes(numbers, 8, MAX_VARINT)
    pieces.numbers[rows, column], pieces.widths[rows, column] = low, low_width
    pieces.numbers[rows, column + 1], pieces.widths[rows, column + 1] = rest, rest_width


def varint_bytes(numbers: Words, begin: int, end: int) -> tuple[Words, Integers]:
    """Return bytes `begin` to `end` of each varint, as one integer, and their width in bits."""
    joined = np.zeros_like(numbers)
    widths = np.zeros(len(numbers), dtype=np.int64)
    for place in range(begin, end):
        rest = numbers >> np.uint64(7 * place)
        there = (rest > 0) | (place == 0)
        more = np.where(rest > np.uint64(0x7F), np.uint64(0x80), np.uint64(0))
        byte = (rest & np.uint64(0x7F)) | more
        joined = np.where(there, (joined << np.uint64(8)) | byte, joined)
        widths += 8 * there
    return joined, widths


def mask(widths: Integers) -> Words:
    """Return numbers of which the lowest `widths` bits are ones."""
    ones = np.full(len(widths), -1, dtype=np.int64).view(np.uint64)
    return np.where(widths > 0, ones >> (WORD_BITS - widths).clip(0, 63).astype(np.uint64), 0)
