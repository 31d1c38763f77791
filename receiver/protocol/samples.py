"""Reads series in the form that nearly every sender of both versions writes, without parsing.

Such a series is known bytes followed by its only sample: field 2, which holds a value (left out
when it is zero) and a timestamp whose varint has six bytes (the years 2004 to 2109). Series of any
other form are left to protobuf.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import compress
from operator import itemgetter
from typing import Final, NamedTuple, Protocol, cast

from receiver.protocol.series import Filtered
from receiver.rows.model import Sample, Series

LABELS_TAG: Final = 0x0A
"""Tag of a label (1.0) or of the label references (2.0)."""
ZERO_HEAD: Final = b"\x12\x07\x10"
"""Head of a sample without a value: its tag, its size, the timestamp's tag."""
HEAD: Final = b"\x12\x10\x09"
"""Head of a sample with a value: its tag, its size, the value's tag."""
TIMESTAMP_TAG: Final = 0x10
TIMESTAMP_SIZE: Final = 7
"""Size of a timestamp with its tag, in bytes."""
ZERO_SIZE: Final = ZERO_HEAD[1]
VALUE_TAG: Final = HEAD[2]
DOUBLE: Final = struct.Struct("<d")
ZERO: Final = bytes(8)

# Slices up to the head of the sample, and of the timestamp. Made once: every series needs them.
BEFORE_ZERO: Final = slice(None, 1 - TIMESTAMP_SIZE)
BEFORE_VALUE: Final = slice(None, -DOUBLE.size - TIMESTAMP_SIZE)
timestamp_of: Final = itemgetter(slice(-TIMESTAMP_SIZE, None))

MAX_TIMESTAMPS: Final = 4096


class Known(Protocol):
    """Known series, by their encoded labels and the head of their sample."""

    def recall(self) -> Callable[[bytes], Series | Filtered | None]:
        """Return a faster `find` that may miss series not used recently."""

    def find(self, key: bytes) -> Series | Filtered | None:
        """Return the series, None if it is new."""


class Timestamps(dict[bytes, int | None]):
    """Timestamps by their bytes with the tag; None if the bytes are not such a timestamp.

    The samples of a scrape share their timestamp, so few have to be decoded.
    """

    def __missing__(self, encoded: bytes) -> int | None:
        """Decode a timestamp that has not been seen before."""
        if len(self) >= MAX_TIMESTAMPS:
            self.clear()
        self[encoded] = timestamp = read_timestamp(encoded)
        return timestamp


def read_timestamp(encoded: bytes) -> int | None:
    """Decode a timestamp, a tag and a six-byte varint, to milliseconds since the Unix epoch."""
    if len(encoded) != TIMESTAMP_SIZE or encoded[0] != TIMESTAMP_TAG:
        return None
    if encoded[6] >= 0x80 or min(encoded[1:6]) < 0x80:
        return None
    return sum((byte & 0x7F) << (7 * index) for index, byte in enumerate(encoded[1:]))


def head(value: float) -> bytes:
    """Return the head of a sample with this value."""
    return ZERO_HEAD if DOUBLE.pack(value) == ZERO else HEAD


class Recognized(NamedTuple):
    """The result of looking up some series."""

    samples: list[Sample]
    """Samples of the kept series."""
    found: list[Series | Filtered | None]
    """Each known series; None for one that still has to be parsed."""
    unfamiliar: list[int]
    """Indexes of the series that still have to be parsed."""
    keys: list[bytes]
    """Cache key of each series of the usual form: its labels and the head of its sample."""


def recognize(encoded: Sequence[bytes], known: Known, timestamps: Timestamps) -> Recognized:
    """Read the series that are known.

    Args:
        encoded: Some series of a request.
        known: The known series, by their labels and the first three bytes of the sample.
        timestamps: The timestamps seen before.
    """
    try:
        keys = cut_samples(encoded)
    except IndexError:  # a series is too short; padded with zeros, it is none that is known
        keys = cut_samples([data if len(data) >= 16 else bytes(16) + data for data in encoded])
    found = list(map(known.recall(), keys))
    tails = set(map(timestamp_of, encoded))
    unfamiliar: list[int] = []
    if None in found or None in map(timestamps.__getitem__, tails):
        found = [
            known.find(key) if one is None else one for one, key in zip(found, keys, strict=True)
        ]
        for place, data in enumerate(encoded):
            if timestamps[data[-TIMESTAMP_SIZE:]] is None:
                found[place] = None
            if found[place] is None:
                unfamiliar.append(place)
    samples = read_samples(encoded, found, timestamps)
    return Recognized(samples, found, unfamiliar, keys)


def cut_samples(encoded: Sequence[bytes]) -> list[bytes]:
    """Cut off what follows the head of each series' sample, as if all had the usual form.

    Every known key ends with one of the two heads. Only the head of a sample with a value ends with
    the value's tag, and only the other head has its sample's size as the last byte but one. So a
    key that is found ends with the head that belongs to the bytes cut off: the series is labels
    that parse, a head, and exactly the bytes that this head announces. A series of any other form
    is not found.

    Raises:
        IndexError: a series is too short.
    """
    return [
        data[BEFORE_ZERO]
        if data[-8] == ZERO_SIZE
        else data[BEFORE_VALUE]
        if data[-16] == VALUE_TAG
        else b""
        for data in encoded
    ]


def read_samples(
    encoded: Sequence[bytes], found: Sequence[Series | Filtered | None], timestamps: Timestamps
) -> list[Sample]:
    """Read the samples of the series that were found and are kept."""
    kept = encoded if all(found) else list(compress(encoded, found))
    series = cast("Iterator[Series]", filter(None, found))
    times = cast("Iterator[int]", map(timestamps.__getitem__, map(timestamp_of, kept)))
    values = b"".join([ZERO if data[-8] == ZERO_SIZE else data[-15:-7] for data in kept])
    return list(zip(series, times, struct.unpack(f"<{len(kept)}d", values), strict=True))
