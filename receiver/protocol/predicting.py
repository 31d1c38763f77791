"""Finds series of a 2.0 message where a run predicts them, without splitting the message.

The size of each series follows from its expected references, except that senders leave out a value
of zero; the bytes show where. Everything found is compared with what the run predicts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError

from receiver.protocol.arrays import Bytes, first_of
from receiver.protocol.generated.remote_write_v2_pb2 import RequestFrame
from receiver.protocol.layout import Layout, Text, lay_out
from receiver.protocol.runs import Expected
from receiver.protocol.samples import DOUBLE, HEAD, LABELS_TAG, TIMESTAMP_SIZE
from receiver.protocol.strips import ADDED
from receiver.protocol.symbols import SERIES_TAG
from receiver.protocol.vocabulary import CODES
from receiver.protocol.wire import ONE_BYTE
from receiver.rows.columns import Flags, Integers

FRAME: Final = 2 + len(HEAD) + DOUBLE.size + TIMESTAMP_SIZE
"""Size of a series in bytes, without its references and what follows its sample."""
GUESSES: Final = 4
"""Maximum number of offsets that are tried as the end of the symbols."""


def predict(
    text: Text, zeros: Integers, at: int, expected: Expected, tails: Bytes
) -> tuple[Layout, Flags, Integers]:
    """Predict where consecutive series are, as far as they do not reach beyond the text.

    Args:
        text: The bytes that hold the series, each with its tag and its length.
        zeros: Offsets at which samples without a value may begin.
        at: Offset of the first series.
        expected: The expected content of the series.
        tails: Number of bytes after each sample.

    Returns:
        Where the parts of the series are; whether the tag and the length of each are right; the
        offset of the end of each.
    """
    # First as if no value were left out.
    lengths = expected.sizes + FRAME + tails
    widths = 2 + (lengths >= ONE_BYTE)
    fields = first_of(lengths + widths) + at
    samples = fields + widths + 2 + expected.sizes
    zeros = zeros[zeros.searchsorted(at) :]
    moved = zeros + ADDED * np.arange(len(zeros))
    moved = moved[: moved.searchsorted(samples[-1], "right")]
    places = samples.searchsorted(moved)
    zero = np.zeros(len(samples), np.int64)
    zero[places[samples[places] == moved]] = ADDED
    fields -= first_of(zero)
    lengths -= zero
    ends = fields + widths + lengths
    count = int(ends.searchsorted(text.size, "right"))
    fields, lengths, widths = fields[:count], lengths[:count], widths[:count]
    codes = CODES[lengths]
    differ = text.pairs[fields + 1] ^ codes
    right: Flags = (text.data[fields] == SERIES_TAG[0]) & (differ & 0xFF == 0)
    right &= (widths == 2) | (differ == 0) & (lengths >= ONE_BYTE)
    return lay_out(text, fields + widths, lengths), right, ends[:count]


def open_symbols(message: bytes) -> tuple[list[str], int]:
    """Read the symbols of a message that come before its first series.

    Returns:
        The symbols and the offset of their end; no symbols and 0 if that is not found quickly.
    """
    end = 0
    for _ in range(GUESSES):
        end = message.find(SERIES_TAG, end + 1)
        if end < 0:
            break
        if LABELS_TAG in message[end + 2 : end + 4]:
            try:
                frame = RequestFrame.FromString(message[:end])
            except DecodeError:
                continue  # the tag was within a symbol, or the message is malformed
            if not frame.timeseries:
                return list(frame.symbols), end
    return [], 0


def contents(message: bytes, at: int) -> Iterator[bytes]:
    """Yield the consecutive series from an offset on, without tag and length."""
    while message.startswith(SERIES_TAG, at) and len(message) > at + 2:
        size, start = message[at + 1], at + 2
        if size >= ONE_BYTE:
            size, start = size & 0x7F | message[at + 2] << 7, at + 3
        at = start + size
        yield message[start:at]
