"""Windows are contiguous, and as long as the number of their samples allows."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.clients import backfill
from receiver.clients.backfill import (
    FIRST_SPAN,
    LONGEST_SPAN,
    SAMPLES_AT_ONCE,
    SHORTEST_SPAN,
    Backfill,
    find_selectors,
    next_span,
    to_milliseconds,
)
from receiver.clients.prometheus import TooMuchAtOnceError
from receiver.clients.prometheus_model import Points
from receiver.commands.arguments import moment
from receiver.config.catalogue import built_in
from receiver.errors import SetupError
from receiver.rows.batch import Batch, Outcomes
from receiver.rows.model import Sample, each_row
from receiver.storage.writing.backfills import Progress
from tests.messages import NOW
from tests.tables import catalogue

SAMPLES_OF = re.compile(r'\{__name__="(\w+)"\}')


class Series:
    """A source scraped at given times, which returns at most a fixed number of samples at once."""

    def __init__(self, times: Collection[int], most: int) -> None:
        self.times = sorted(times)
        self.most = most
        self.asked: list[tuple[int, int]] = []

    async def samples(self, selected: str, begin: int, end: int) -> list[Points]:
        match = SAMPLES_OF.fullmatch(selected)
        assert match is not None
        found = [(time, 0.0) for time in self.times if begin < time <= end]
        if len(found) > self.most:
            raise TooMuchAtOnceError
        self.asked.append((begin, end))
        labels = {"__name__": match[1], "instance": "a", "site": "own"}
        return [Points(labels, found)] if found else []


class Stored:
    """Pairs the samples it is given, as storage does."""

    def __init__(self) -> None:
        self.batch = Batch()

    async def store(self, samples: Collection[Sample]) -> Outcomes:
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
    backfill = Backfill(source, stored, built_in(), {"site": "added", "cluster": "c"})
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
    rows = list(each_row(stored.batch.rows()))
    assert sorted(row[0] for row in rows) == sorted(t for t in times if t <= end)
    labels = {row[1].labels for row in rows}
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


class Endless(Series):
    """Has a sample per millisecond of each of many metrics."""

    async def samples(self, selected: str, begin: int, end: int) -> list[Points]:
        del selected
        self.asked.append((begin, end))
        return [Points({"__name__": "m"}, [(end, 0.0)] * (end - begin))]


async def test_many_metrics_do_not_fill_memory_together(monkeypatch: pytest.MonkeyPatch) -> None:
    most, length = 50_000, 4_000
    monkeypatch.setattr(backfill, "MOST_AT_ONCE", most)
    columns = "".join(f"      c{n}: {{metric: m{n}, type: double}}\n" for n in range(20))
    tables = catalogue(f"tables:\n  t:\n    columns:\n{columns}".replace("m0,", "m,"))
    # Each metric alone has few enough samples for a single window.
    assert length < most < 20 * length
    progress, kept = Progress(NOW, NOW + length, NOW), 0

    async def keep(progress: Progress) -> None:
        del progress

    async for window in Backfill(Endless((), 0), Stored(), tables, {}).run(progress, keep):
        assert window.kept <= most
        kept += window.kept
    assert kept == 20 * length


def test_only_series_that_a_table_wants_are_read() -> None:
    tables = catalogue()
    assert find_selectors(tables, "robot_state", {}) == ['{__name__="robot_state"}']
    wanted = '{__name__="press_running",job=~"plc",line=~"A|B"}'
    assert find_selectors(tables, "press_running", {}) == [wanted]
    # A label that is added later does not exist in Prometheus yet.
    without = '{__name__="press_running",job=~"plc"}'
    assert find_selectors(tables, "press_running", {"line": "A"}) == [without]


def test_a_metric_of_several_tables_is_read_once() -> None:
    tables = catalogue(
        "tables:\n"
        "  one: {match: {job: a}, columns: {x: {metric: m, type: double}}}\n"
        "  two: {match: {job: 'a|b'}, columns: {x: {metric: m, type: double}}}\n"
    )
    assert find_selectors(tables, "m", {}) == ['{__name__="m"}']


def test_times() -> None:
    now = datetime(2026, 11, 8, tzinfo=UTC)
    assert moment("7d", now) == now - timedelta(days=7)
    assert moment("2026-11-01T09:00:00+09:00", now) == datetime(2026, 11, 1, tzinfo=UTC)
    assert to_milliseconds(datetime(1970, 1, 1, 0, 0, 1, 2500, tzinfo=UTC)) == 1002
    for text in ("yesterday", "", "7 days"):
        with pytest.raises(SetupError, match="must be a time"):
            moment(text, now)
