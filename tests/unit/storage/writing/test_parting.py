"""Parts of a request are small and keep rows together; no sample is lost."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.rows.columns import DOUBLE
from receiver.rows.model import Sample, Series, Source
from receiver.rows.tables import Column, Table
from receiver.storage.writing import parting
from receiver.storage.writing.parting import chunks_of, part
from tests.messages import NOW

TABLES = [
    Table(name, [Column(f"value {number}", f"value_{number}", DOUBLE) for number in range(width)])
    for name, width in (("one", 1), ("pair", 2), ("eight", 8))
]
SOURCES = [Source(table, (("instance", str(number)),)) for table in TABLES for number in range(3)]
DAY = 86_400_000


def sample(column: int, source: Source, timestamp: int) -> Sample:
    columns = source.table.columns
    return Series(columns[column % len(columns)], source), timestamp, 1.0


@st.composite
def samples(draw: st.DrawFn) -> list[Sample]:
    """Draw samples of many times, or of so few that samples of one time have to be divided."""
    days = st.integers(0, draw(st.sampled_from([0, 2, 12])))
    times = days.map(lambda day: NOW + day * DAY // 2)
    some = st.builds(sample, st.integers(0, 7), st.sampled_from(SOURCES), times)
    return draw(st.lists(some, max_size=60))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parting, "MAX_CHUNKS", 3)
    monkeypatch.setattr(parting, "AT_ONCE", 7)


@given(samples())
async def test_parts_are_small_and_hold_everything(brought: list[Sample]) -> None:
    parts = [list(some) async for some in part(brought, DAY, lambda: 12)]
    assert Counter(one for some in parts for one in some) == Counter(brought)
    for some in parts:
        assert len(chunks_of(some, DAY)) <= 3
        # Samples of one source and time are never separated.
        assert len(some) <= 12 or len({(one[0].source, one[1]) for one in some}) < len(some)


@given(samples())
async def test_parts_of_samples_that_may_be_refused_are_smaller(brought: list[Sample]) -> None:
    parts = [list(some) async for some in part(brought, DAY, lambda: 4)]
    assert Counter(one for some in parts for one in some) == Counter(brought)
    for some in parts:
        assert len(some) <= 4 or len({(one[0].source, one[1]) for one in some}) < len(some)


async def test_no_part_is_larger_because_many_sources_come_at_one_time() -> None:
    many = [Source(TABLES[0], (("instance", str(number)),)) for number in range(1_000)]
    brought = [sample(0, source, NOW) for source in many]
    parts = [list(some) async for some in part(brought, DAY, lambda: 12)]
    assert max(map(len, parts)) == 12
    assert [one for some in parts for one in some] == brought


async def test_the_limit_may_change_from_one_part_to_the_next() -> None:
    brought = [sample(0, source, NOW + number) for number in range(20) for source in SOURCES[:1]]
    limits = [12]
    parts: list[int] = []
    async for some in part(brought, DAY, lambda: limits[-1]):
        parts.append(len(some))
        limits.append(4)
    assert parts == [12, 4, 4]


@given(samples())
async def test_the_samples_of_a_row_stay_together_and_in_order(brought: list[Sample]) -> None:
    parts = [list(some) async for some in part(brought, DAY, lambda: 12)]
    places: dict[tuple[Source, int], int] = {}
    for number, some in enumerate(parts):
        for one in some:
            assert places.setdefault((one[0].source, one[1]), number) == number
    for source in SOURCES:
        for timestamp in {one[1] for one in brought}:
            key = source, timestamp
            sent = [one for one in brought if (one[0].source, one[1]) == key]
            got = [one for some in parts for one in some if (one[0].source, one[1]) == key]
            assert got == sent


async def test_a_small_request_is_one_part_and_is_not_copied() -> None:
    brought = [sample(column, SOURCES[-1], NOW) for column in range(8)]
    parts = [some async for some in part(brought, DAY, lambda: 12)]
    assert len(parts) == 1
    assert parts[0] is brought
