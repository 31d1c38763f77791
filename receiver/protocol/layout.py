"""Finds the parts of many series of a 2.0 request at once, with numpy.

Nearly every sender writes a series in the same form: label references, one sample, and metadata or
nothing. Series of any other form are left to protobuf.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from receiver.protocol.arrays import Bytes, first_of
from receiver.protocol.samples import (
    DOUBLE,
    HEAD,
    LABELS_TAG,
    TIMESTAMP_SIZE,
    TIMESTAMP_TAG,
    ZERO_HEAD,
)
from receiver.protocol.strips import read_timestamps
from receiver.protocol.wire import ONE_BYTE
from receiver.rows.columns import Flags, Floats, Integers

MARGIN: Final = bytes(1024)
"""Zeros after the last series, so that reads beyond its end stay in bounds: two one-byte sizes
reach no further, nor do the references that are expected of a series."""
HEADS: Final = (1 << 8 * len(HEAD)) - 1
VALUE_HEAD, NO_VALUE_HEAD = (int.from_bytes(head, "little") for head in (HEAD, ZERO_HEAD))
# The tag of a timestamp and its six-byte varint, as the last seven of eight bytes.
STAMP_MASK: Final = int.from_bytes(b"\0\xff" + 6 * b"\x80", "little")
STAMP: Final = int.from_bytes(bytes([0, TIMESTAMP_TAG]) + 5 * b"\x80" + b"\0", "little")


class Text:
    """Bytes that hold series, readable as integers at any offset.

    Args:
        content: The bytes.
    """

    def __init__(self, content: bytes) -> None:
        text = content + MARGIN
        self.size = len(content)
        self.data: Bytes = np.frombuffer(text, np.uint8)
        # The integer that begins at each byte. Pairs are copied: gathering unaligned ones is slow.
        self.pairs: NDArray[np.uint16] = np.ascontiguousarray(
            np.ndarray(len(text) - 1, "<u2", text, strides=(1,))
        )
        self.words: NDArray[np.uint64] = np.ndarray(len(text) - 7, "<u8", text, strides=(1,))


class Layout(NamedTuple):
    """Where the parts of some series are, assuming that all have the usual form."""

    text: Text
    starts: Integers
    """Offset of each series in the text."""
    sizes: Integers
    """Size in bytes of each series' label references."""
    ends: Integers
    """Offset of the end of each sample."""
    tails: Integers
    """Number of bytes after each sample; may be negative if a series has another form."""
    zero: Flags
    """Whether the value of each sample was left out, which means zero."""
    usual: Flags
    """Whether each series begins with references and one sample of the usual form."""


def lay_out_all(encoded: Sequence[bytes]) -> Layout:
    """Find the references and the only sample of each series."""
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    return lay_out(Text(b"".join(encoded)), first_of(lengths), lengths)


def lay_out(text: Text, starts: Integers, lengths: Integers) -> Layout:
    """Find the references and the only sample of each series.

    Args:
        text: The bytes that hold the series.
        starts: Offset of each series.
        lengths: Size of each series in bytes.
    """
    data, words = text.data, text.words
    sizes = data[starts + 1].astype(np.int64)
    samples = starts + 2 + sizes
    heads = words[samples] & HEADS
    zero = heads == NO_VALUE_HEAD
    ends = samples + 2 + data[samples + 1]
    tails = lengths - (ends - starts)
    usual = zero | (heads == VALUE_HEAD)
    usual &= (words[ends - TIMESTAMP_SIZE - 1] & STAMP_MASK) == STAMP
    usual &= (data[starts] == LABELS_TAG) & (sizes > 0) & (sizes < ONE_BYTE)
    usual &= data[samples - 1] < ONE_BYTE
    return Layout(text, starts, sizes, ends, tails, zero, usual)


def read_points(layout: Layout, places: Integers) -> tuple[Integers, Floats]:
    """Read the samples of series of the usual form.

    Args:
        layout: Where the samples are.
        places: Indexes of the series in the layout.

    Returns:
        Their timestamps, in milliseconds since the Unix epoch, and their values.
    """
    ends = layout.ends[places]
    numbers = layout.text.words[ends - TIMESTAMP_SIZE - DOUBLE.size]
    numbers[layout.zero[places]] = 0
    times = read_timestamps(layout.text.words[ends - TIMESTAMP_SIZE - 1])
    return times, numbers.view("<f8")
