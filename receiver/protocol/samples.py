"""Samples on the wire as nearly every sender of both versions writes them, read without parsing.

Such a series is known bytes, then its only sample: field 2, which holds a value (left out when it
is zero) and a timestamp whose varint has six bytes (the years 2004 to 2109). Series of any other
shape are left to protobuf.
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
"""Begins a label (1.0), or the references to labels (2.0)."""
ZERO_HEAD: Final = b"\x12\x07\x10"
"""A sample without value: its tag, its size, the timestamp's tag."""
HEAD: Final = b"\x12\x10\x09"
"""A sample with a value: its tag, its size, the value's tag."""
TIMESTAMP_TAG: Final = 0x10
TIMESTAMP_SIZE: Final = 7
"""Bytes of a timestamp with its tag."""
ZERO_SIZE: Final = ZERO_HEAD[1]
VALUE_TAG: Final = HEAD[2]
DOUBLE: Final = struct.Struct("<d")
ZERO: Final = bytes(8)

# What a sample ends with, after its head. Made once: this is for every series of a firehose.
BEFORE_ZERO: Final = slice(None, 1 - TIMESTAMP_SIZE)
BEFORE_VALUE: Final = slice(None, -DOUBLE.size - TIMESTAMP_SIZE)
timestamp_of: Final = itemgetter(slice(-TIMESTAMP_SIZE, None))

MAX_TIMESTAMPS: Final = 4096


class Known(Protocol):
    """Series by their labels on the wire and the bytes that begin a sample."""

    def recall(self) -> Callable[[bytes], Series | Filtered | None]:
        """Return a faster `find` that may miss series not used lately."""

    def find(self, key: bytes) -> Series | Filtered | None:
        """Return the series, None if it is new."""


class Timestamps(dict[bytes, int | None]):
    """Timestamps by their bytes with the tag; None where the bytes are no such timestamp.

    The samples of a scrape share their timestamp, so most are read once.
    """

    def __missing__(self, encoded: bytes) -> int | None:
        """Read a timestamp that has not come up before."""
        if len(self) >= MAX_TIMESTAMPS:
            self.clear()
        self[encoded] = timestamp = read_timestamp(encoded)
        return timestamp


def read_timestamp(encoded: bytes) -> int | None:
    """Read the tag and the six-byte varint of a timestamp, in milliseconds since the Unix epoch."""
    if len(encoded) != TIMESTAMP_SIZE or encoded[0] != TIMESTAMP_TAG:
        return None
    if encoded[6] >= 0x80 or min(encoded[1:6]) < 0x80:
        return None
    return sum((byte & 0x7F) << (7 * index) for index, byte in enumerate(encoded[1:]))


def head(value: float) -> bytes:
    """What a sample of this value begins with."""
    return ZERO_HEAD if DOUBLE.pack(value) == ZERO else HEAD


class Recognized(NamedTuple):
    """What is known of some series."""

    samples: list[Sample]
    """Those of the kept ones."""
    found: list[Series | Filtered | None]
    """What each is, None if it is to be parsed."""
    unfamiliar: list[int]
    """Places of those that are to be parsed."""
    keys: list[bytes]
    """What each is known by, if it has the usual form: its labels and the head of its sample."""


def recognize(encoded: Sequence[bytes], known: Known, timestamps: Timestamps) -> Recognized:
    """Read the series that are known.

    Args:
        encoded: Some series of a request.
        known: What is known, by the labels and the three bytes that begin the sample.
        timestamps: Those that have come up before.
    """
    try:
        keys = cut_samples(encoded)
    except IndexError:  # one is too short; zeros before it make it none that is known
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
    """Cut off what follows the head of each series' sample, as if it were of the known shape.

    What is known ends with one of the two heads. Only the head of a sample with a value ends with
    the tag of the value, and only the other one has its own size as the last byte but one. So a cut
    that is found has the head that belongs to its length: the series is labels that parse, a head,
    and exactly the bytes that this head announces. A series of another shape is not found.

    Raises:
        IndexError: one is too short.
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
    """The samples of those series that were found and are kept."""
    kept = encoded if all(found) else list(compress(encoded, found))
    series = cast("Iterator[Series]", filter(None, found))
    times = cast("Iterator[int]", map(timestamps.__getitem__, map(timestamp_of, kept)))
    values = b"".join([ZERO if data[-8] == ZERO_SIZE else data[-15:-7] for data in kept])
    return list(zip(series, times, struct.unpack(f"<{len(kept)}d", values), strict=True))
