"""Builds requests as well-behaved senders do, and byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Final

import snappy

from receiver.protocol.generated import remote_write_v2_pb2 as v2
from receiver.protocol.generated.remote_write_v1_pb2 import (
    Label,
    Sample,
    TimeSeries,
    WriteRequest,
    WriteRequestFrame,
)

NOW: Final = 1_700_000_000_000

VARINT: Final = 0
FIXED64: Final = 1
LENGTH_DELIMITED: Final = 2


def bits(value: float) -> int:
    """Return the 64 bits of a float, which differ where `==` sees no difference."""
    return int.from_bytes(struct.pack("<d", value), "little")


def from_bits(number: int) -> float:
    """Return the float with these 64 bits."""
    value: float = struct.unpack("<d", number.to_bytes(8, "little"))[0]
    return value


STALE: Final = from_bits(0x7FF0000000000002)


def series(labels: Mapping[str, str], *samples: tuple[float, int]) -> TimeSeries:
    """Build a series with sorted labels, as required; a sample is a value and a timestamp."""
    return TimeSeries(
        labels=[Label(name=name, value=value) for name, value in sorted(labels.items())],
        samples=[Sample(value=value, timestamp=timestamp) for value, timestamp in samples],
    )


def write_request(*content: TimeSeries) -> bytes:
    """Serialize a `prometheus.WriteRequest`."""
    return WriteRequest(timeseries=content).SerializeToString()


def compressed(*content: TimeSeries) -> bytes:
    """A request body as it is sent."""
    return compress(write_request(*content))


def compress(message: bytes) -> bytes:
    """Compress a message as one snappy block."""
    return bytes(snappy.compress(message))


def framed(*content: bytes) -> bytes:
    """Return a serialized `prometheus.WriteRequest` of encoded series."""
    return WriteRequestFrame(timeseries=content).SerializeToString()


# --- Remote-Write 2.0 -----------------------------------------------------------------------------


class Request2:
    """Builder of an `io.prometheus.write.v2.Request`; each distinct string becomes one symbol.

    Args:
        symbols: Initial content of the symbol table, the empty string first.
    """

    def __init__(self, symbols: Iterable[str] = ("",)) -> None:
        self.message = v2.Request(symbols=symbols)
        self._refs = {text: ref for ref, text in enumerate(self.message.symbols)}

    def ref(self, text: str) -> int:
        """Return the index of a string in the symbol table."""
        if text not in self._refs:
            self._refs[text] = len(self.message.symbols)
            self.message.symbols.append(text)
        return self._refs[text]

    def refs(self, labels: Iterable[tuple[str, str]]) -> list[int]:
        """Return the indexes of names and values alternately, in the given order of labels."""
        return [self.ref(text) for pair in labels for text in pair]

    def add(self, labels: Mapping[str, str], *samples: tuple[float, int]) -> v2.TimeSeries:
        """Add a series with sorted labels; a sample is a value and a timestamp."""
        return self.message.timeseries.add(
            labels_refs=self.refs(sorted(labels.items())),
            samples=[v2.Sample(value=value, timestamp=timestamp) for value, timestamp in samples],
        )

    def encoded(self) -> bytes:
        """Return the serialized message."""
        return self.message.SerializeToString()

    def compressed(self) -> bytes:
        """A request body as it is sent."""
        return compress(self.encoded())


def write_request2(*content: tuple[Mapping[str, str], float, int]) -> bytes:
    """A serialized `io.prometheus.write.v2.Request`: labels, value and timestamp of each series."""
    request = Request2()
    for labels, value, timestamp in content:
        request.add(labels, (value, timestamp))
    return request.encoded()


def framed2(symbols: Iterable[str], *content: bytes) -> bytes:
    """Return a serialized `io.prometheus.write.v2.Request` of encoded series."""
    return v2.RequestFrame(symbols=symbols, timeseries=content).SerializeToString()


# The receiver keeps no start timestamps, so its messages do not declare them.


def with_start(sample: v2.Sample, start: int) -> v2.Sample:
    """The sample with a start timestamp, as senders write it since 2.0-rc.4."""
    sample.MergeFromString(varint(3 << 3 | VARINT) + varint(start))
    return sample


def with_created(series: v2.TimeSeries, created: int) -> v2.TimeSeries:
    """The series with a created timestamp, as senders wrote it until 2.0-rc.3."""
    series.MergeFromString(varint(6 << 3 | VARINT) + varint(created))
    return series


# --- the wire format by hand: https://protobuf.dev/programming-guides/encoding/ ------------------


def varint(number: int, size: int = 0) -> bytes:
    """Encode a varint, negative numbers as int64; `size` pads it beyond the minimal length."""
    number &= 2**64 - 1
    groups: list[int] = []
    while number or len(groups) < max(size, 1):
        groups.append(number & 0x7F)
        number >>= 7
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def field(number: int, payload: bytes, *, size: int = 0) -> bytes:
    """Encode a length-delimited field; `size` is the size of the length's varint."""
    return varint(number << 3 | LENGTH_DELIMITED) + varint(len(payload), size) + payload


def label(name: str, value: str) -> bytes:
    """Encode a label as field 1 of a series."""
    return field(1, field(1, name.encode()) + field(2, value.encode()))


def encoded_value(value: float) -> bytes:
    """Encode field 1 of a sample, even if it is zero."""
    return varint(1 << 3 | FIXED64) + struct.pack("<d", value)


def encoded_timestamp(timestamp: int, size: int = 0) -> bytes:
    """Encode field 2 of a sample."""
    return varint(2 << 3 | VARINT) + varint(timestamp, size)


def sample(*parts: bytes) -> bytes:
    """Encode a sample as field 2 of a series."""
    return field(2, b"".join(parts))
