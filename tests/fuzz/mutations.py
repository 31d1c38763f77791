"""Mutates valid requests field by field, so that most of them still parse."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final, TypeAlias

from tests.messages import (
    FIXED64,
    LENGTH_DELIMITED,
    NOW,
    VARINT,
    encoded_timestamp,
    encoded_value,
    field,
    from_bits,
    varint,
)

FIXED32: Final = 5
START_GROUP: Final = 3
END_GROUP: Final = 4

Schema: TypeAlias = "Mapping[int, Schema]"
"""The fields of a message that are messages themselves, by their numbers."""

V1: Final[Schema] = {1: {1: {}, 2: {}}}
V2: Final[Schema] = {5: {2: {}, 3: {8: {}, 11: {}}, 4: {}, 5: {}}}


@dataclass(frozen=True)
class Field:
    """A field on the wire.

    Args:
        number: Field number.
        kind: Wire type.
        content: The bytes after the tag and the length, or the fields of a message.
        overlong: Extra bytes in the varints of tag and length.
    """

    number: int
    kind: int
    content: bytes | list[Field]
    overlong: tuple[int, int] = (0, 0)

    def encode(self) -> bytes:
        content = self.content if isinstance(self.content, bytes) else encode(self.content)
        tag = varint(self.number << 3 | self.kind)
        encoded = varint(self.number << 3 | self.kind, len(tag) + self.overlong[0])
        if self.kind == LENGTH_DELIMITED:
            length = len(varint(len(content)))
            encoded += varint(len(content), length + self.overlong[1])
        return encoded + content


def encode(fields: list[Field]) -> bytes:
    return b"".join(one.encode() for one in fields)


def parse(data: bytes, schema: Schema) -> list[Field]:
    """Parse a valid message without groups into fields."""
    fields = []
    position = 0
    while position < len(data):
        tag, position = read_varint(data, position)
        start = position
        if tag & 7 == VARINT:
            _, position = read_varint(data, position)
        elif tag & 7 == LENGTH_DELIMITED:
            length, start = read_varint(data, position)
            position = start + length
        else:
            position += 8 if tag & 7 == FIXED64 else 4
        content = data[start:position]
        inner = schema.get(tag >> 3) if tag & 7 == LENGTH_DELIMITED else None
        fields.append(Field(tag >> 3, tag & 7, content if inner is None else parse(content, inner)))
    return fields


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    end = next(place for place in range(position, len(data)) if data[place] < 0x80) + 1
    number = sum((byte & 0x7F) << (7 * index) for index, byte in enumerate(data[position:end]))
    return number, end


class Mutator:
    """Mutates requests at random, reproducibly for a seed.

    Args:
        seed: Seed of the random numbers.
        schema: Schema of the requests.
        originals: The requests.
    """

    def __init__(self, seed: int, schema: Schema, originals: list[bytes]) -> None:
        self._random = random.Random(seed)
        self._schema = schema
        self._originals = originals

    def mutations(self, number: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield `number` pairs of an original request and its mutation."""
        for _ in range(number):
            original = self._random.choice(self._originals)
            yield original, self._mutate(original)

    def _mutate(self, original: bytes) -> bytes:
        message = parse(original, self._schema)
        for _ in range(self._random.randint(1, 3)):
            series = [one.content for one in message if isinstance(one.content, list)]
            anywhere = list(levels(message))
            places = series if series and self._random.random() < 0.5 else anywhere
            self._change(self._random.choice(places))
        encoded = encode(message)
        return self._damage(encoded) if self._random.random() < 0.1 else encoded

    def _change(self, fields: list[Field]) -> None:
        change = self._random.choice(
            [
                self._insert,
                self._insert,
                self._append,
                self._append,
                self._delete,
                self._repeat,
                self._swap,
                self._reshape,
                self._reshape,
                self._rewrite,
                self._rewrite,
                self._splice,
                self._trail,
            ]
        )
        change(fields)

    def _place(self, fields: list[Field]) -> int:
        return self._random.randrange(len(fields) + 1)

    def _insert(self, fields: list[Field]) -> None:
        fields.insert(self._place(fields), self._any_field())

    def _append(self, fields: list[Field]) -> None:
        fields.extend(self._any_field() for _ in range(self._random.randint(1, 3)))

    def _delete(self, fields: list[Field]) -> None:
        if fields:
            del fields[self._random.randrange(len(fields))]

    def _repeat(self, fields: list[Field]) -> None:
        if fields:
            fields.insert(self._place(fields), self._random.choice(fields))

    def _swap(self, fields: list[Field]) -> None:
        first, second = (self._random.randrange(max(1, len(fields))) for _ in range(2))
        if fields:
            fields[first], fields[second] = fields[second], fields[first]

    def _splice(self, fields: list[Field]) -> None:
        """Insert a field from any place of any original request."""
        other = parse(self._random.choice(self._originals), self._schema)
        fields.insert(
            self._place(fields), self._random.choice(list(chain.from_iterable(levels(other))))
        )

    def _trail(self, fields: list[Field]) -> None:
        """Append the end of a sample, after about as many bytes as the value of a sample takes."""
        size = self._random.randint(2, 12)
        filler = Field(15, LENGTH_DELIMITED, bytes(size - 2))
        if size <= 11 and self._random.random() < 0.5:
            filler = Field(3, VARINT, varint(self._random.randint(0, 1), size - 1))
        fields.extend([filler, PIECES[0]])

    def _reshape(self, fields: list[Field]) -> None:
        """Encode a field in a different way, or as a different field."""
        if not fields:
            return
        place = self._random.randrange(len(fields))
        one = fields[place]
        fields[place] = self._random.choice(
            [
                replace(one, overlong=(self._random.randint(0, 6), 0)),
                replace(one, overlong=(0, self._random.randint(0, 6))),
                replace(one, number=self._random.choice([0, 1, 2, 3, 4, 5, 6, 15, 16, 2**29 - 1])),
                replace(one, kind=self._random.randint(0, 7)),
                replace(one, content=self._damage(one.encode()[2:])),
            ]
        )

    def _rewrite(self, fields: list[Field]) -> None:
        """Replace the number in a numeric field."""
        places = [place for place, one in enumerate(fields) if one.kind in {VARINT, FIXED64}]
        if places:
            place = self._random.choice(places)
            kind = fields[place].kind
            fields[place] = replace(fields[place], content=self._number(kind))

    def _number(self, kind: int) -> bytes:
        if kind == VARINT:
            number = self._random.choice([0, 1, 2, 5, 127, NOW, NOW + 1, 2**35, 2**64 - 1])
            return varint(number, self._random.choice([0, 0, 0, 2, 5, 6, 7, 10, 11]))
        if kind == FIXED64:
            bits = self._random.choice([0, 1 << 63, 0x0712 << 48, 9, 0x7FF0000000000002])
            return encoded_value(from_bits(bits))[1:]
        if kind == LENGTH_DELIMITED:
            return self._random.choice([b"", b"a", b"\xff", b"\x10\x05", bytes(9), b"\x12\x07\x10"])
        return self._random.randbytes(4) if kind == FIXED32 else b""

    def _any_field(self) -> Field:
        """Return a short field, known or unknown, or a piece of a sample."""
        if self._random.random() < 0.3:
            return self._random.choice(PIECES)
        number = self._random.choice([1, 1, 2, 2, 2, 3, 4, 5, 6, 15, 16])
        kind = self._random.choice([VARINT, VARINT, LENGTH_DELIMITED, FIXED64, FIXED32])
        if self._random.random() < 0.1:
            inside = [Field(1, VARINT, b"\1")] * self._random.randint(0, 2)
            end = self._random.choice([number, number, number, 1])
            content = encode(inside) + varint(end << 3 | END_GROUP)
            return Field(number, START_GROUP, content)
        return Field(number, kind, self._number(kind))

    def _damage(self, data: bytes) -> bytes:
        changed = bytearray(data)
        start = self._random.randrange(len(changed) + 1)
        end = min(len(changed), start + self._random.randint(0, 3))
        changed[start:end] = self._random.randbytes(self._random.randint(0, 3))
        return bytes(changed)


def levels(fields: list[Field]) -> Iterator[list[Field]]:
    """Yield the fields of a message, then those of each message in it."""
    yield fields
    for one in fields:
        if isinstance(one.content, list):
            yield from levels(one.content)


STAMP: Final = encoded_timestamp(NOW)
PIECES: Final = [
    # A timestamp that is no part of a sample; whole samples; samples that announce another size.
    Field(2, VARINT, STAMP[1:]),
    Field(2, LENGTH_DELIMITED, STAMP),
    Field(2, LENGTH_DELIMITED, encoded_value(7) + STAMP),
    Field(2, LENGTH_DELIMITED, STAMP + encoded_value(7)),
    Field(2, LENGTH_DELIMITED, STAMP + b"\x18\x05"),
    Field(1, FIXED64, encoded_value(7)[1:]),
    Field(15, LENGTH_DELIMITED, field(2, STAMP)),
    Field(15, LENGTH_DELIMITED, bytes(5)),
]
