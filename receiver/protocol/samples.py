"""Samples on the wire as nearly every sender of both versions writes them, read without parsing.

Such a series is known bytes, then its only sample: field 2, which holds a value (left out when it
is zero) and a timestamp whose varint has six bytes (the years 2004 to 2109). Series of any other
shape are left to protobuf.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import compress
from operator import eq, itemgetter
from random import randrange
from typing import Final, NamedTuple, Protocol, cast

from receiver.protocol.series import Filtered
from receiver.rows.model import Sample, Series

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
MAX_SEQUENCE_SIZE: Final = 2**20
KEY_OVERHEAD: Final = 80
"""Bytes of memory that a key takes in a strip, beside what it holds."""
DISTANCE: Final = 8
"""Series from one whose place is kept to the next: requests begin with any of them."""
COMPARED: Final = 256
"""Series that are compared before the place of the next is looked up, for some may be new."""
STRANGE: Final = 3
"""One series in so many may be looked up, as if its value was zero before and is not now; if there
are more, their order is learned anew."""


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


class Strip(NamedTuple):
    """Series that came one after the other, all of them known."""

    keys: list[bytes]
    found: list[Series | Filtered | None]


NOWHERE: Final = Strip([], [])


class Sequences:
    """The orders in which series came before.

    A sender sends the series of a target in the same order after every scrape, wherever it cuts
    them into requests. To compare them with those that came last time takes a fraction of the time
    that it takes to look each up.

    Args:
        size: Memory to take, in bytes.
    """

    def __init__(self, size: int) -> None:
        self._most = size
        self._strips: list[Strip] = []
        # Where some of their series are: in which strip, at what place.
        self._places: dict[bytes, tuple[Strip, int]] = {}
        self.size = 0
        """Memory taken, in bytes."""

    def find(self, keys: list[bytes], known: Known) -> list[Series | Filtered | None]:
        """Return what is known of each, None for one that is new; the list is not to be changed."""
        found = self._compare(keys)
        if None not in found:
            return found
        others = [place for place, series in enumerate(found) if series is None]
        recall = known.recall()
        for place in others:
            found[place] = recall(keys[place])
        if len(others) * STRANGE > len(keys) and None not in found:
            self._remember(Strip(keys, found))
        return found

    def _compare(self, keys: list[bytes]) -> list[Series | Filtered | None]:
        """Return what is known of those that come in an order in which they came before."""
        found: list[Series | Filtered | None] = []
        while (place := len(found)) < len(keys):
            strip, start = self._locate(keys[place : place + DISTANCE])
            before = strip.keys[start : start + min(COMPARED, len(keys) - place)]
            some = keys[place : place + len(before)]
            series = strip.found[start : start + len(before)]
            if some != before:
                same = map(eq, some, before)
                series = [one if equal else None for one, equal in zip(series, same, strict=True)]
            found += series or [None] * min(DISTANCE, len(keys) - place)
        return found

    def _locate(self, keys: list[bytes]) -> tuple[Strip, int]:
        """Return in which strip the first of these series came, and at what place."""
        for ahead, key in enumerate(keys):
            strip, place = self._places.get(key, (NOWHERE, -1))
            if place >= ahead:
                return strip, place - ahead
        return NOWHERE, 0

    def _remember(self, strip: Strip) -> None:
        size = memory_of(strip)
        if size > min(self._most, MAX_SEQUENCE_SIZE):
            return
        self.size += size
        while self.size > self._most:
            # Not the oldest, which is the next to come: then none would stay until it comes again.
            self._forget(self._strips.pop(randrange(len(self._strips))))  # noqa: S311  no secret
        self._strips.append(strip)
        for place in places_of(strip):
            self._places[strip.keys[place]] = strip, place

    def _forget(self, strip: Strip) -> None:
        self.size -= memory_of(strip)
        for place in places_of(strip):
            key = strip.keys[place]
            if self._places.get(key, (NOWHERE, 0))[0] is strip:
                del self._places[key]

    def clear(self) -> None:
        """Forget all."""
        self._strips.clear()
        self._places.clear()
        self.size = 0


def places_of(strip: Strip) -> set[int]:
    """Return the places that are kept of a strip: of any few series in a row there is one."""
    return {*range(0, len(strip.keys), DISTANCE), len(strip.keys) - 1}


def memory_of(strip: Strip) -> int:
    """Memory that a strip takes, in bytes."""
    return sum(map(len, strip.keys)) + KEY_OVERHEAD * len(strip.keys)


def recognize(
    encoded: Sequence[bytes], known: Known, sequences: Sequences, timestamps: Timestamps
) -> tuple[list[Sample], list[int]]:
    """Read the series that are known; says which others there are, by their places.

    Args:
        encoded: The series of a request.
        known: What is known, by the labels and the three bytes that begin the sample.
        sequences: The orders in which these have come before.
        timestamps: Those that have come up before.
    """
    try:
        keys = cut_samples(encoded)
    except IndexError:  # one is too short; zeros before it make it none that is known
        keys = cut_samples([data if len(data) >= 16 else bytes(16) + data for data in encoded])
    found = sequences.find(keys, known)
    tails = set(map(timestamp_of, encoded))
    unfamiliar: list[int] = []
    if None in found or None in map(timestamps.__getitem__, tails):
        found = [series or known.find(key) for series, key in zip(found, keys, strict=True)]
        for place, data in enumerate(encoded):
            if timestamps[data[-TIMESTAMP_SIZE:]] is None:
                found[place] = None
            if found[place] is None:
                unfamiliar.append(place)
    return read_samples(encoded, found, timestamps), unfamiliar


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
