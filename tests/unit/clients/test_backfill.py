"""Windows follow each other without a hole, and are as long as their samples allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.clients.backfill import (
    FIRST_SPAN,
    LONGEST_SPAN,
    SAMPLES_AT_ONCE,
    SHORTEST_SPAN,
    Backfill,
    next_span,
    to_milliseconds,
)
from receiver.clients.prometheus import TooMuchAtOnceError
from receiver.clients.prometheus_model import Points
from receiver.commands.arguments import moment
from receiver.errors import SetupError
from receiver.rows.batch import Batch, Outcome
from receiver.rows.model import Metric, Sample
from receiver.storage.writing.backfills import Progress
from tests.messages import NOW

NAMES = {"app_status": Metric.STATUS, "ocr_value": Metric.OCR}


class Series:
    """One source scraped at some times; it gives no more than so many samples at once."""

    def __init__(self, times: Collection[int], most: int) -> None:
        self.times = sorted(times)
        self.most = most
        self.asked: list[tuple[int, int]] = []

    async def samples(self, metric: str, begin: int, end: int) -> list[Points]:
        found = [(time, 0.0) for time in self.times if begin < time <= end]
        if len(found) > self.most:
            raise TooMuchAtOnceError
        self.asked.append((begin, end))
        labels = {"__name__": metric, "instance": "a", "site": "own"}
        return [Points(labels, found)] if found else []


class Stored:
    """Pairs what it is given, as storage does."""

    def __init__(self) -> None:
        self.batch = Batch(1_000_000)

    async def store(self, samples: Collection[Sample]) -> Counter[Outcome]:
        return self.batch.add(samples)


@given(
    st.sets(st.integers(NOW, NOW + 3 * LONGEST_SPAN), max_size=60),
    st.integers(1, 80),
    st.integers(1, 3 * LONGEST_SPAN),
)
async def test_every_sample_of_the_range_is_read_once(
    times: set[int], most: int, length: int
) -> None:
    source, stored = Series(times, most), Stored()
    end = NOW + length
    backfill = Backfill(source, stored, NAMES, {"site": "added", "cluster": "c"})
    kept: list[Progress] = []

    async def keep(progress: Progress) -> None:
        kept.append(progress)

    try:
        windows = [one async for one in backfill.run(Progress(NOW, end, NOW - 1), keep)]
    except TooMuchAtOnceError:
        assert most < 60  # two samples within the shortest window
        return
    assert source.asked[::2] == source.asked[1::2]  # both metrics
    asked = source.asked[::2]
    assert asked[0][0] == NOW - 1
    assert asked[-1][1] == windows[-1].progress.done == end
    assert kept == [window.progress for window in windows]
    assert all(one[1] == other[0] for one, other in pairwise(asked))
    assert all(begin < until <= begin + LONGEST_SPAN for begin, until in asked)
    assert sorted(row[0] for row in stored.batch.rows) == sorted(t for t in times if t <= end)
    labels = {row[1].labels for row in stored.batch.rows}
    assert labels <= {(("cluster", "c"), ("instance", "a"), ("site", "own"))}


@given(st.integers(SHORTEST_SPAN, LONGEST_SPAN), st.integers(0, 10 * SAMPLES_AT_ONCE))
def test_the_next_window_is_longer_after_few_samples_and_shorter_after_many(
    span: int, samples: int
) -> None:
    following = next_span(span, samples)
    assert SHORTEST_SPAN <= following <= LONGEST_SPAN
    if samples > SAMPLES_AT_ONCE:
        assert following <= span
    if samples <= SAMPLES_AT_ONCE // 2:
        assert following >= span
    assert SHORTEST_SPAN < FIRST_SPAN < LONGEST_SPAN


def test_times() -> None:
    now = datetime(2026, 11, 8, tzinfo=UTC)
    assert moment("7d", now) == now - timedelta(days=7)
    assert moment("2026-11-01T09:00:00+09:00", now) == datetime(2026, 11, 1, tzinfo=UTC)
    assert to_milliseconds(datetime(1970, 1, 1, 0, 0, 1, 2500, tzinfo=UTC)) == 1002
    for text in ("yesterday", "", "7 days"):
        with pytest.raises(SetupError, match="must be a time"):
            moment(text, now)
