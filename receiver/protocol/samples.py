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
MAX_SEQUENCE_SIZE: Final = 2**20


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


class Sequences:
    """Series in the order in which they came before, by the first of them.

    A sender whose series fit into one request sends them in the same order after every scrape. To
    compare all at once takes a tenth of the time that it takes to look each up.

    Args:
        most: Sequences to remember.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[bytes, tuple[list[bytes], list[Series | Filtered | None]]] = {}

    def find(self, keys: list[bytes], known: Known) -> list[Series | Filtered | None]:
        """What is known of each; the list is not to be changed."""
        if not keys:
            return []
        before, found = self._known.get(keys[0], ([], []))
        if before != keys:
            found = list(map(known.recall(), keys))
            if None not in found and sum(map(len, keys)) <= MAX_SEQUENCE_SIZE:
                if len(self._known) >= self._most:
                    self._known.clear()
                self._known[keys[0]] = keys, found
        return found


def recognize(
    encoded: Sequence[bytes], known: Known, sequences: Sequences, timestamps: Timestamps
) -> tuple[list[Sample], list[int]]:
    """Read the series that are known; says which others there are, by their places.

    Args:
        encoded: The series of a request.
        known: What is known, by the labels and the three bytes that begin the sample. A hit proves
            that a series was cut right: only bytes that parse as labels are ever known.
        sequences: The orders in which these have come before.
        timestamps: Those that have come up before.
    """
    # These run for every series of a firehose, hence comprehensions without a call.
    try:
        keys = [data[:-6] if data[-8] == ZERO_SIZE else data[:-15] for data in encoded]
    except IndexError:  # too short for any series that is known
        return [], list(range(len(encoded)))
    found = sequences.find(keys, known)
    tails = {data[-TIMESTAMP_SIZE:] for data in encoded}
    unfamiliar: list[int] = []
    if None in found or None in map(timestamps.__getitem__, tails):
        found = [series or known.find(key) for series, key in zip(found, keys, strict=True)]
        for place, data in enumerate(encoded):
            if timestamps[data[-TIMESTAMP_SIZE:]] is None:
                found[place] = None
            if found[place] is None:
                unfamiliar.append(place)
    return read_samples(encoded, found, timestamps), unfamiliar


def read_samples(
    encoded: Sequence[bytes], found: Sequence[Series | Filtered | None], timestamps: Timestamps
) -> list[Sample]:
    """The samples of those series that were found and are kept."""
    kept = list(compress(encoded, found))
    series = cast("Iterator[Series]", filter(None, found))
    times = cast("list[int]", [timestamps[data[-TIMESTAMP_SIZE:]] for data in kept])
    values = b"".join([ZERO if data[-8] == ZERO_SIZE else data[-15:-7] for data in kept])
    return list(zip(series, times, struct.unpack(f"<{len(kept)}d", values), strict=True))
