"""Cuts an encoded protobuf message between its fields into parts of bounded size.

Protobuf parses the concatenation of two messages as their union, so the parts can be parsed one
by one, each at a bounded cost in time and memory. Nothing is validated here: every byte is in one
of the parts, and the parser rejects a part that holds a malformed field.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from receiver.protocol.limits import MIB

VARINT: Final = 0
FIXED64: Final = 1
LENGTH_DELIMITED: Final = 2
START_GROUP: Final = 3
END_GROUP: Final = 4
FIXED32: Final = 5
ONE_BYTE: Final = 1 << 7
"""Numbers below this take one byte as a varint."""
MAX_TAG_SIZE: Final = 5
MAX_VARINT_SIZE: Final = 10
FIXED_SIZES: Final = {FIXED64: 8, FIXED32: 4}

PART: Final = MIB
"""Maximum size of a part of a large message, in bytes."""
MAX_FIELDS: Final = 2048
"""Maximum fields of a part. Reading one may take some microseconds and 200 bytes of memory."""
MAX_GROUP_SIZE: Final = 64 * 1024
"""Maximum size of a group in bytes; no remote-write message has groups."""


class Part(NamedTuple):
    """Where a part of a message begins and ends, and how many fields it has.

    A field that is too large for a part is a part of its own.
    """

    start: int
    end: int
    fields: int
    number: int = 0
    """Field number if the part is one field that is too large, else 0."""
    content: int = 0
    """Offset of the content of that field."""


def split(message: bytes, whole: int) -> Iterator[Part]:
    """Yield the parts of a message: only one if it has at most `whole` bytes.

    Raises:
        DecodeError: a large message is truncated, or is not a protobuf message.
    """
    if len(message) <= whole:
        return iter((Part(0, len(message), 0),))
    return cut(message, 0, len(message), PART)


def cut(data: bytes, start: int, end: int, size: int) -> Iterator[Part]:
    """Yield the parts of the message between two offsets, each of at most `size` bytes.

    Raises:
        DecodeError: the data is truncated, or is not a protobuf message.
    """
    while start < end:
        try:
            position, fields = find_end(data, start, end, size)
        except IndexError:
            raise DecodeError("the data ends within a field") from None
        if position - start > size and data[start] & 7 == LENGTH_DELIMITED:
            yield open_field(data, start, position)
        else:
            yield Part(start, position, fields)
        start = position


def find_end(data: bytes, start: int, end: int, size: int) -> tuple[int, int]:
    """Find the end of a part and count its fields; a part has at least one.

    Raises:
        DecodeError: the data ends within a field, or is not a protobuf message.
        IndexError: the data ends within a tag or a length.
    """
    position, fields = start, 0
    while position < end and fields < MAX_FIELDS:
        # Nearly every field has a one-byte tag and a length of one or two bytes: no call for these.
        length, after = data[position + 1], position
        if data[position] & 0x87 != LENGTH_DELIMITED:
            after = end_of_field(data, position)
        elif length < 0x80:
            after += 2 + length
        elif data[position + 2] < 0x80:
            after += 3 + (length & 0x7F | data[position + 2] << 7)
        else:
            after = end_of_field(data, position)
        if after > end:
            raise DecodeError("the data ends within a field")
        if after - start > size and fields:
            break
        position, fields = after, fields + 1
    return position, fields


def open_field(data: bytes, start: int, end: int) -> Part:
    """Read the number of a length-delimited field and find its content.

    Raises:
        DecodeError: the field has no valid tag.
    """
    tag, position = read_varint(data, start)
    if not 8 <= tag < 1 << 32 or position - start > MAX_TAG_SIZE:
        raise DecodeError(f"a field of {end - start} bytes has no valid tag")
    return Part(start, end, 1, tag >> 3, read_varint(data, position)[1])


def end_of_field(data: bytes, position: int) -> int:
    """Find the end of one field of any wire type.

    Raises:
        DecodeError: the wire type is unknown, or a group is too large.
    """
    start, depth = position, 0
    while True:
        tag, position = read_varint(data, position)
        kind = tag & 7
        if kind in FIXED_SIZES:
            position += FIXED_SIZES[kind]
        elif kind == VARINT:
            _, position = read_varint(data, position)
        elif kind == LENGTH_DELIMITED:
            length, position = read_varint(data, position)
            position += length
        elif kind == START_GROUP:
            depth += 1
        elif kind == END_GROUP and depth:
            depth -= 1
        else:
            raise DecodeError(f"a field has the invalid tag {tag}")
        if not depth:
            return position
        if position - start > MAX_GROUP_SIZE:
            raise DecodeError(f"a group has more than {MAX_GROUP_SIZE} bytes")


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Read a varint; return it and the offset of its end.

    Raises:
        DecodeError: it is longer than a varint can be.
    """
    number = 0
    for shift in range(0, 7 * MAX_VARINT_SIZE, 7):
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise DecodeError(f"a varint has more than {MAX_VARINT_SIZE} bytes")
