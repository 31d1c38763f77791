"""Chunks are written bit by bit as Prometheus writes them, and read back exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.protocol.xor_chunks import MAX_SAMPLES, encode_chunks
from tests import xor_chunks
from tests.messages import STALE, bits, from_bits

MILLISECONDS = st.integers(-(2**62), 2**62)
VALUES = st.one_of(
    st.floats(),
    st.sampled_from([0.0, -0.0, 1.0, 2.0, STALE]),
    st.integers(0, 2**64 - 1).map(from_bits),
)
INTERVALS = st.one_of(
    st.integers(1, 20),
    st.just(5000),
    st.integers(4990, 5010),
    st.integers(1, 2**21),
    st.integers(1, 2**55),
)


@st.composite
def chunks(draw: st.DrawFn) -> list[xor_chunks.Sample]:
    """Draw samples of one chunk: regular and irregular intervals, changing and constant values."""
    intervals = draw(st.lists(INTERVALS, max_size=MAX_SAMPLES - 1))
    steady = draw(st.booleans())
    values = draw(st.sampled_from([VALUES, st.sampled_from([0.0, 1.0, 99.0]), st.floats(1e9, 2e9)]))
    time = draw(MILLISECONDS)
    samples = [(time, draw(values))]
    for interval in intervals:
        time += intervals[0] if steady else interval
        samples.append((time, draw(values)))
    return samples


def encode(content: Sequence[Sequence[xor_chunks.Sample]]) -> list[bytes]:
    samples = [sample for chunk in content for sample in chunk]
    lengths = [len(chunk) for chunk in content]
    return encode_chunks(
        np.array([time for time, _ in samples], np.int64),
        np.array([value for _, value in samples], np.float64),
        np.cumsum([0, *lengths[:-1]]),
    )


def exactly(samples: Sequence[xor_chunks.Sample]) -> list[tuple[int, int]]:
    return [(time, bits(value)) for time, value in samples]


@given(st.lists(chunks(), min_size=1, max_size=5))
def test_chunks_are_those_of_prometheus(content: list[list[xor_chunks.Sample]]) -> None:
    encoded = encode(content)
    assert encoded == [xor_chunks.encode(chunk) for chunk in content]
    assert [exactly(xor_chunks.decode(chunk)) for chunk in encoded] == list(map(exactly, content))


@pytest.mark.parametrize("width", [14, 17, 20])
def test_every_width_ends_where_it_should(width: int) -> None:
    bound = 1 << (width - 1)
    for change in (bound, bound + 1, -bound + 1, -bound, -bound - 1):
        times = [0, 2**30, 2**31 + change, 2**31 + 2**30 + change]
        chunk = [(time, 1.0) for time in times]
        assert encode([chunk]) == [xor_chunks.encode(chunk)]
        assert xor_chunks.decode(encode([chunk])[0]) == chunk


def test_known_chunks() -> None:
    # By hand: one sample; time 1 is the varint 2, 1.0 is 3ff0000000000000.
    assert encode([[(1, 1.0)]]) == [bytes.fromhex("0001 02 3ff0000000000000")]
    # The same value 5 ms later: the varint 5, and a bit that says so.
    assert encode([[(1, 1.0), (6, 1.0)]]) == [bytes.fromhex("0002 02 3ff0000000000000 05 00")]
