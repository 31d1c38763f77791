"""Both response types of remote read hold all samples, however they were divided."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import snappy
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import ReadLimitError
from receiver.protocol.read_answers import Answer, SamplesAnswer, StreamedAnswer
from receiver.protocol.read_samples import Samples
from receiver.rows.model import Labels
from tests.messages import bits
from tests.reading import Result, decode_frames, decode_samples, split_frames

Series = tuple[Labels, list[tuple[int, float]]]

LABELS = st.dictionaries(
    st.text(min_size=1, max_size=3), st.text(min_size=1, max_size=5), max_size=3
).map(lambda labels: tuple(sorted(labels.items())))
TIMES = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, max_size=5),
    st.integers(0, 400).map(
        lambda count: list(range(1_700_000_000_000, 1_700_000_000_000 + count))
    ),
    st.lists(st.integers(-200, 20_000), unique=True, max_size=30),
)


@st.composite
def results(draw: st.DrawFn) -> list[list[Series]]:
    """Draw the series of some queries, each with samples, as others are not part of an answer."""
    queries = []
    for _ in range(draw(st.integers(0, 3))):
        series = []
        for labels in sorted(draw(st.sets(LABELS, max_size=4))):
            times = sorted(draw(TIMES))
            value = draw(st.floats())
            values = [value if place % 3 else float(place) for place in range(len(times))]
            series.append((labels, list(zip(times, values, strict=True))))
        queries.append(series)
    return queries


def fill(answer: Answer, queries: Sequence[Sequence[Series]], cut: int) -> bytes:
    """Add all samples to an answer, `cut` at a time."""
    parts: list[bytes] = []
    for number, series in enumerate(queries):
        answer.begin(number, [labels for labels, _ in series])
        flat = [(place, *sample) for place, (_, samples) in enumerate(series) for sample in samples]
        for begin, end in pairwise([*range(0, len(flat), cut), len(flat)]):
            places, times, values = zip(*flat[begin:end], strict=True)
            parts += answer.add(
                Samples(
                    np.array(places, np.int64),
                    np.array(times, np.int64),
                    np.array(values, np.float64),
                )
            )
        parts += answer.end()
    return b"".join([*parts, *answer.finish()])


def exactly(queries: Sequence[Result]) -> list[list[tuple[Labels, list[tuple[int, int]]]]]:
    return [
        [
            (labels, [(time, bits(value)) for time, value in samples])
            for labels, samples in series
            if samples
        ]
        for series in queries
    ]


@given(results(), st.sampled_from([1, 7, 120, 1000]))
def test_samples(queries: list[list[Series]], cut: int) -> None:
    body = fill(SamplesAnswer(2**30), queries, cut)
    assert exactly(decode_samples(body)) == exactly(queries)


@given(results(), st.sampled_from([1, 7, 120, 1000]))
def test_frames(queries: list[list[Series]], cut: int) -> None:
    body = fill(StreamedAnswer(2**30), queries, cut)
    assert exactly(decode_frames(body, len(queries))) == exactly(queries)


def test_a_series_that_does_not_fit_into_a_frame_is_refused() -> None:
    series: list[Series] = [
        ((("a", str(number)),), [(1000 * at, at / 3) for at in range(4000 * number)])
        for number in (1, 2)
    ]
    body = fill(StreamedAnswer(2**30), [series], 1000)
    size = max(map(len, split_frames(body)))
    assert fill(StreamedAnswer(size), [series], 1000) == body
    with pytest.raises(ReadLimitError, match=r"\{a='2'\} .* \(RECEIVER_MAX_REMOTE_READ_FRAME\)"):
        fill(StreamedAnswer(size - 100), [series], 1000)


def test_a_long_answer_is_compressed_while_it_is_written() -> None:
    series: list[Series] = [
        ((("a", str(number)),), [(1000 * at, at / 3) for at in range(40_000)])
        for number in range(3)
    ]
    short: Series = ((("b", ""),), [(1, 2.0)])
    body = fill(SamplesAnswer(2**30), [[*series, short], [short]], 9_000)
    assert exactly(decode_samples(body)) == exactly([[*series, short], [short]])
    assert len(body) < len(snappy.uncompress(body)) * 0.9


def test_an_answer_is_no_larger_than_allowed() -> None:
    series: list[Series] = [((("a", "b"),), [(1000 * at, at / 3) for at in range(40_000)])]
    size = len(fill(SamplesAnswer(2**30), [series], 1000))
    assert len(fill(SamplesAnswer(size), [series], 1000)) == size
    with pytest.raises(ReadLimitError, match="RECEIVER_MAX_REMOTE_READ_SIZE"):
        fill(SamplesAnswer(size - 100), [series], 1000)
