"""A reference implementation of XOR chunks, sample by sample after the format description."""

from __future__ import annotations

import struct
from collections.abc import Iterable

Sample = tuple[int, float]

STEPS = ((2, 14), (3, 17), (4, 20))
"""Length of the prefix, and width of the number after it."""


class Bits:
    """Reads bits from bytes."""

    def __init__(self, data: bytes) -> None:
        self._bits = "".join(f"{byte:08b}" for byte in data)
        self._place = 0

    def take(self, count: int) -> int:
        taken = self._bits[self._place : self._place + count]
        assert len(taken) == count, "the chunk breaks off"
        self._place += count
        return int(taken or "0", 2)

    def varint(self) -> int:
        number = shift = 0
        while True:
            byte = self.take(8)
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    def rest(self) -> str:
        return self._bits[self._place :]


def signed(number: int, width: int) -> int:
    """Return the signed number of this bit width; the maximum is 2 ** (width - 1)."""
    return number - (1 << width) if number > 1 << (width - 1) else number


def wrap(number: int) -> int:
    return (number + 2**63) % 2**64 - 2**63


def decode(data: bytes) -> list[Sample]:
    """Decode the samples of a chunk; values keep their exact bits."""
    count = int.from_bytes(data[:2], "big")
    bits = Bits(data[2:])
    found: list[tuple[int, int]] = []
    delta = leading = trailing = 0
    for place in range(count):
        if place == 0:
            zigzag = bits.varint()
            time, value = (zigzag >> 1) ^ -(zigzag & 1), bits.take(64)
            found.append((time, value))
            continue
        time, value = found[-1]
        if place == 1:
            delta = bits.varint()
        else:
            delta += read_change(bits)
        if bits.take(1):
            if bits.take(1):
                leading, width = bits.take(5), bits.take(6) or 64
                trailing = 64 - leading - width
            value ^= bits.take(64 - leading - trailing) << trailing
        found.append((wrap(time + delta), value))
    assert set(bits.rest()) <= {"0"}
    assert len(bits.rest()) < 8
    return [(time, struct.unpack(">d", value.to_bytes(8, "big"))[0]) for time, value in found]


def read_change(bits: Bits) -> int:
    if not bits.take(1):
        return 0
    for _, width in STEPS:
        if not bits.take(1):
            return signed(bits.take(width), width)
    return wrap(bits.take(64))


def encode(samples: Iterable[Sample]) -> bytes:
    """Encode a chunk as Prometheus' own appender does."""
    written = ""
    time = delta = value = 0
    leading, trailing = 255, 0
    count = 0
    for place, (next_time, number) in enumerate(samples):
        count += 1
        next_value = int.from_bytes(struct.pack(">d", number), "big")
        next_delta = (next_time - time) % 2**64
        if place == 0:
            written += varint((next_time << 1) ^ (next_time >> 63)) + f"{next_value:064b}"
        else:
            if place == 1:
                written += varint(next_delta)
            else:
                written += write_change(wrap(next_delta - delta))
            changed = value ^ next_value
            if not changed:
                written += "0"
            else:
                zeros = min(64 - changed.bit_length(), 31)
                after = (changed & -changed).bit_length() - 1
                if leading != 255 and zeros >= leading and after >= trailing:
                    written += "10"
                else:
                    leading, trailing = zeros, after
                    written += f"11{leading:05b}{(64 - leading - trailing) % 64:06b}"
                width = 64 - leading - trailing
                written += f"{changed >> trailing:0{width}b}"
        time, delta, value = next_time, next_delta, next_value
    written += "0" * (-len(written) % 8)
    return count.to_bytes(2, "big") + int(f"1{written}", 2).to_bytes(len(written) // 8 + 1)[1:]


def write_change(change: int) -> str:
    if not change:
        return "0"
    for prefix, width in STEPS:
        if -(1 << (width - 1)) < change <= 1 << (width - 1):
            return f"{'1' * (prefix - 1)}0{change % (1 << width):0{width}b}"
    return f"1111{change % 2**64:064b}"


def varint(number: int) -> str:
    groups = []
    number %= 2**64
    while True:
        groups.append(number & 0x7F)
        number >>= 7
        if not number:
            break
    return "".join(f"{group | 0x80:08b}" for group in groups[:-1]) + f"{groups[-1]:08b}"
