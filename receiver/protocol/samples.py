"""Samples on the wire as nearly every sender of both versions writes them, read without parsing.

Such a series is known bytes, then its only sample: field 2, which holds a value (left out when it
is zero) and a timestamp whose varint has six bytes (the years 2004 to 2109). Series of any other
shape are left to protobuf.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import compress
from typing import Final, Protocol, cast

from receiver.model import Sample, Series
from receiver.protocol.series import Filtered

ZERO_HEAD: Final = b"\x12\x07\x10"
"""A sample without value: its tag, its size, the timestamp's tag."""
HEAD: Final = b"\x12\x10\x09"
"""A sample with a value: its tag, its size, the value's tag."""
TIMESTAMP_TAG: Final = 0x10
TIMESTAMP_SIZE: Final = 7
"""Bytes of a timestamp with its tag."""
ZERO_SIZE: Final = ZERO_HEAD[1]
DOUBLE: Final = struct.Struct("<d")
ZERO: Final = bytes(8)

MAX_TIMESTAMPS: Final = 4096


class Known(Protocol):
    """Series by their labels on the wire and the bytes that begin a sample."""

    def recall(self) -> Callable[[bytes], Series | Filtered | None]:
        """What `find` does, for the series of late only, but without its cost."""

    def find(self, key: bytes) -> Series | Filtered | None:
        """The series, None if it is new."""


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


def recognize(
    encoded: Sequence[bytes], known: Known, timestamps: Timestamps
) -> tuple[list[Sample], list[int]]:
    """Read the series that are known; says which others there are, by their places.

    Args:
        encoded: The series of a request.
        known: What is known, by the labels and the three bytes that begin the sample. A hit proves
            that a series was cut right: only bytes that parse as labels are ever known.
        timestamps: Those that have come up before.
    """
    # These run for every series of a firehose, hence comprehensions with no call but the look-up.
    recall = known.recall()
    try:
        found = [
            recall(data[:-6] if data[-8] == ZERO_SIZE else data[:-15])  # as `cut` does
            for data in encoded
        ]
    except IndexError:  # too short for any series that is known
        return [], list(range(len(encoded)))
    tails = {data[-TIMESTAMP_SIZE:] for data in encoded}
    unfamiliar: list[int] = []
    if None in found or None in map(timestamps.__getitem__, tails):
        for place, data in enumerate(encoded):
            series = found[place] or known.find(cut(data))
            if timestamps[data[-TIMESTAMP_SIZE:]] is None:
                series = None
            found[place] = series
            if series is None:
                unfamiliar.append(place)
    return read_samples(encoded, found, timestamps), unfamiliar


def cut(data: bytes) -> bytes:
    """A series without the timestamp of its only sample, and without its value if there is one."""
    return data[:-6] if data[-8] == ZERO_SIZE else data[:-15]


def read_samples(
    encoded: Sequence[bytes], found: Sequence[Series | Filtered | None], timestamps: Timestamps
) -> list[Sample]:
    """The samples of those series that were found and are kept."""
    kept = list(compress(encoded, found))
    series = cast("Iterator[Series]", filter(None, found))
    times = cast("list[int]", [timestamps[data[-TIMESTAMP_SIZE:]] for data in kept])
    values = b"".join([ZERO if data[-8] == ZERO_SIZE else data[-15:-7] for data in kept])
    return list(zip(series, times, struct.unpack(f"<{len(kept)}d", values), strict=True))
