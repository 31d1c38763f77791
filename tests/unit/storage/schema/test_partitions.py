"""The partitions that are created for a table."""

from __future__ import annotations

from datetime import timedelta

import pytest

from receiver.storage.schema.partitions import MOST, Part, find_gaps, width_of

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("retention", "days"),
    [(1, 1), (14, 1), (15, 7), (30, 7), (90, 7), (99, 28), (365, 28), (393, 91), (36500, 3640)],
)
def test_a_retention_is_divided_into_few_parts(retention: int, days: int) -> None:
    width = width_of(retention * DAY)
    assert width == days * DAY
    assert retention * DAY / width <= MOST


def test_a_table_that_is_never_deleted_from_has_parts_all_the_same() -> None:
    assert width_of(None) == 28 * DAY


def gaps(parts: list[tuple[float, float]], since: float, until: float) -> list[tuple[float, float]]:
    found = find_gaps([Part("", *bounds) for bounds in parts], timedelta(seconds=10), since, until)
    return list(found)


def test_new_parts_begin_and_end_at_multiples_of_their_width() -> None:
    assert gaps([], 12, 31) == [(10, 20), (20, 30), (30, 40)]


def test_only_what_lacks_is_made_whatever_the_width_was() -> None:
    assert gaps([(10, 20), (20, 30)], 12, 31) == [(30, 40)]
    assert gaps([(20, 25), (28, 30)], 12, 31) == [(10, 20), (25, 28), (30, 40)]
    assert gaps([(0, 100)], 12, 31) == []
    assert gaps([(10, 33)], 12, 39) == [(33, 40)]
    assert gaps([(10, 33), (50, 60)], 12, 39) == [(33, 40)]


def test_nothing_is_made_for_times_that_are_not_kept() -> None:
    assert gaps([(19, 30)], 19, 31) == [(30, 40)]
    assert gaps([(0, 5), (5, 10)], 12, 20) == [(10, 20)]
