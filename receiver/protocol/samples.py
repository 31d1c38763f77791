"""A sample on the wire, as nearly every sender of both versions encodes it.

Field 2 of the series holds a value (left out when it is zero) and a timestamp whose varint has six
bytes (the years 2004 to 2109). Samples of any other shape are left to protobuf.
"""

from __future__ import annotations

import struct
from typing import Final

ZERO_SAMPLE_HEAD: Final = b"\x12\x07\x10"
SAMPLE_HEAD: Final = b"\x12\x10\x09"
TIMESTAMP_TAG: Final = 0x10
TIMESTAMP_SIZE: Final = 7
"""Bytes of a timestamp with its tag."""
DOUBLE: Final = struct.Struct("<d")
ZERO: Final = bytes(8)

MAX_TIMESTAMPS: Final = 4096


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
