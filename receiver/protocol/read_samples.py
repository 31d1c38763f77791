"""Arrays of samples for remote-read responses, and their encoding."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from receiver.protocol.bits import Words
from receiver.rows.columns import Floats, Integers


class Samples(NamedTuple):
    """Samples of one or more series, grouped by series and ordered by time."""

    series: Integers
    """Index of each sample's series among the series of the query; ascending."""
    times: Integers
    """Milliseconds since the Unix epoch."""
    values: Floats

    def cut(self, begin: int, end: int) -> Samples:
        """Return the samples from index `begin` to before `end`."""
        return Samples(self.series[begin:end], self.times[begin:end], self.values[begin:end])

    def then(self, others: Samples) -> Samples:
        """Return these samples followed by others."""
        if not len(self.times):
            return others
        return Samples(
            np.concatenate((self.series, others.series)),
            np.concatenate((self.times, others.times)),
            np.concatenate((self.values, others.values)),
        )

    def starts(self) -> Integers:
        """Return the index of the first sample of each series."""
        return np.flatnonzero(np.diff(self.series, prepend=-1))


NOTHING = Samples(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float64))

TIMES_AT = 12
"""Offset of the timestamp's varint in an encoded sample."""
MAX_VARINT = 10


def encode_samples(samples: Samples) -> tuple[bytes, Integers]:
    """Encode samples as the field `samples` of `TimeSeries`.

    Returns:
        The encoded samples, and the offset of the end of each.
    """
    times = samples.times.view(np.uint64)
    lengths = varint_lengths(times)
    longest = int(lengths.max(initial=1))
    encoded = np.zeros((len(times), TIMES_AT + longest), np.uint8)
    # The tag and length of the field; the value; the timestamp.
    encoded[:, 0] = 0x12
    encoded[:, 1] = TIMES_AT - 2 + lengths
    encoded[:, 2] = 0x09
    encoded[:, 3:11] = samples.values.astype("<f8").view(np.uint8).reshape(-1, 8)
    encoded[:, 11] = 0x10
    for place in range(longest):
        byte = (times >> np.uint64(7 * place)).astype(np.uint8) & 0x7F
        encoded[:, TIMES_AT + place] = byte | np.where(lengths > place + 1, 0x80, 0).astype(
            np.uint8
        )
    ends = np.cumsum(TIMES_AT + lengths)
    if len(times) and int(lengths.min()) == longest:
        return encoded.tobytes(), ends
    there = np.arange(TIMES_AT + longest) < (TIMES_AT + lengths)[:, np.newaxis]
    return encoded[there].tobytes(), ends


def varint_lengths(numbers: Words) -> Integers:
    """Return the size of each number as a varint, in bytes."""
    lengths = np.ones(len(numbers), np.int64)
    largest = int(numbers.max(initial=0))
    for place in range(1, MAX_VARINT):
        if largest < 1 << (7 * place):
            break
        lengths += numbers >= np.uint64(1 << (7 * place))
    return lengths


def varint(number: int) -> bytes:
    """Encode a number as a varint."""
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
