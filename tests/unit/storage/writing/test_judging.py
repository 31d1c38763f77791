"""One function decides whether a sample is missing, repeated or contradicting."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from receiver.rows.columns import BOOLEAN, DOUBLE, SPECIAL_DOUBLE, ColumnType
from receiver.rows.tables import Column, Table, Values
from receiver.storage.writing.judging import judge, readings
from tests import random_rows
from tests.catalogues import TYPES
from tests.random_rows import alike, reading
from tests.rows import LOGS, OCR, STATUS

NAN = float("nan")


@st.composite
def rows(draw: st.DrawFn) -> tuple[Table, Values, Values]:
    """Draw a table and two of its rows, which agree in some samples."""
    table = draw(random_rows.tables())
    one, other = (
        [draw(st.one_of(st.none(), random_rows.taken_by(column))) for column in table.columns]
        for _ in range(2)
    )
    same = draw(st.lists(st.booleans(), min_size=table.width, max_size=table.width))
    return table, one, [a if keep else b for a, b, keep in zip(one, other, same, strict=True)]


@hypothesis_settings(max_examples=300)
@given(rows())
def test_samples_are_judged_as_the_model_says(drawn: tuple[Table, Values, Values]) -> None:
    table, values, other = drawn
    held = readings(table, other)
    missing: dict[Column, float] = {}
    repeated, contradicting = 0, []
    for column, value, there in zip(table.columns, values, held, strict=True):
        if value is None:
            continue
        if there is None:
            missing[column] = value
        elif alike(reading(column.type, value), there):
            repeated += 1
        else:
            contradicting.append(column)
    verdict = judge(table, values, held)
    assert repr(verdict.missing) == repr([missing.get(column) for column in table.columns])
    assert verdict.repeated == repeated
    assert verdict.contradicting == contradicting
    # Every sample is one of the three.
    assert len(missing) + repeated + len(contradicting) == sum(one is not None for one in values)


@given(rows())
def test_a_row_repeats_itself(drawn: tuple[Table, Values, Values]) -> None:
    table, values, _ = drawn
    verdict = judge(table, values, readings(table, values))
    assert verdict.missing == table.empty
    assert verdict.repeated == sum(one is not None for one in values)
    assert not verdict.contradicting


def test_what_is_missing_is_a_row_of_its_own() -> None:
    """What is made of a verdict must change no other row."""
    values: Values = [1.0, None]
    verdict = judge(LOGS, values, [None, None])
    assert verdict.missing == values
    assert verdict.missing is not values
    assert LOGS.empty == [None, None]


@pytest.mark.parametrize(
    ("kind", "stored", "value", "same"),
    [
        (SPECIAL_DOUBLE, NAN, -NAN, True),
        (SPECIAL_DOUBLE, NAN, 0.0, False),
        (DOUBLE, -0.0, 0.0, True),
        (BOOLEAN, True, 1.0, True),
        (BOOLEAN, False, 1.0, False),
        (TYPES["timestamp in seconds"], 0, 946_684_800.0, True),
        (TYPES["timestamp in seconds"], 0, 946_684_800.0000001, True),
        (TYPES["timestamp in milliseconds"], 0, 946_684_800_000.001, False),
    ],
)
def test_a_sample_is_compared_with_what_the_row_holds(
    kind: ColumnType,
    stored: Any,  # noqa: ANN401  what a column holds
    value: float,
    same: bool,
) -> None:
    column = Column("value", "value", kind)
    verdict = judge(Table("t", [column]), [value], [stored])
    assert (verdict.repeated == 1) is same
    assert (verdict.contradicting == [column]) is not same


def test_one_row_may_have_all_three() -> None:
    more = Column("more", "more", DOUBLE, required=False)
    table = Table("t", [Column("a", "a", DOUBLE), Column("b", "b", DOUBLE), more])
    verdict = judge(table, [1.0, 2.0, 3.0], [1.0, 5.0, None])
    assert verdict.missing == [None, None, 3.0]
    assert verdict.repeated == 1
    assert [column.name for column in verdict.contradicting] == ["b"]


def test_the_pair_of_the_built_in_table() -> None:
    verdict = judge(LOGS, [3.0, 946_684_800.0], [3, 1])
    assert (verdict.repeated, verdict.contradicting) == (1, [OCR])
    verdict = judge(LOGS, [3.0, None], [4, 1])
    assert (verdict.repeated, verdict.contradicting) == (0, [STATUS])
