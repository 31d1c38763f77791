"""The values that each column type accepts, and the stored values, to the last bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from receiver.config.catalogue import TIMESTAMPS
from receiver.rows.columns import (
    BIGINT,
    BOOLEAN,
    CODE,
    DOUBLE,
    MAX_CACHED,
    SPECIAL_DOUBLE,
    UNITS,
    ColumnType,
    is_stale_marker,
    whole,
)
from receiver.rows.reasons import Reason
from receiver.rows.tables import Column
from tests import strategies
from tests.messages import NOW, STALE, bits, from_bits
from tests.random_rows import END, END_MS, FIRST, FIRST_MS, TYPES, UNIX_EPOCH, alike, reading

SECONDS, MILLISECONDS = TIMESTAMPS["seconds"], TIMESTAMPS["milliseconds"]
INFINITY = float("inf")
NAN = float("nan")
LARGEST = 1.7976931348623157e308

NUMBERS = (CODE, BIGINT, DOUBLE, BOOLEAN, SECONDS, MILLISECONDS)
"""The types that accept no special value."""
NUMPY = {"double precision": "float64", "boolean": "bool"}
NAMES = {kind: name for name, kind in TYPES.items()}


def read(kind: ColumnType, value: float) -> Any:  # noqa: ANN401  what a column holds
    """Return the stored value, or the reason for which the value is rejected."""
    reason = kind.check(value)
    return kind.read(value) if reason is None else reason


TABLE: list[tuple[ColumnType, float, Any]] = [
    # type, value, what is stored or why it is rejected
    *((kind, STALE, Reason.NOT_A_NUMBER) for kind in TYPES.values()),
    *((kind, NAN, Reason.NOT_A_NUMBER) for kind in NUMBERS),
    *((kind, from_bits(0x7FF0000000000001), Reason.NOT_A_NUMBER) for kind in NUMBERS),
    *((kind, from_bits(0xFFF0000000000002), Reason.NOT_A_NUMBER) for kind in NUMBERS),
    *((kind, from_bits(0x7FF8000000000002), Reason.NOT_A_NUMBER) for kind in NUMBERS),
    *((kind, sign * INFINITY, Reason.INFINITE) for kind in NUMBERS for sign in (1, -1)),
    (CODE, 0.0, 0),
    (CODE, -0.0, 0),
    (CODE, 99.0, 99),
    (CODE, -1.0, -1),
    (CODE, 0.5, Reason.NOT_WHOLE),
    (CODE, 5e-324, Reason.NOT_WHOLE),
    (CODE, -5e-324, Reason.NOT_WHOLE),
    (CODE, math.nextafter(1, 2), Reason.NOT_WHOLE),
    (CODE, 2.0**31 - 1, 2**31 - 1),
    (CODE, 2.0**31 - 0.5, Reason.NOT_WHOLE),
    (CODE, 2.0**31, Reason.OUT_OF_RANGE),
    (CODE, -(2.0**31), -(2**31)),
    (CODE, -(2.0**31) - 0.5, Reason.NOT_WHOLE),
    (CODE, -(2.0**31) - 1, Reason.OUT_OF_RANGE),
    (CODE, 2.0**63, Reason.OUT_OF_RANGE),
    (CODE, LARGEST, Reason.OUT_OF_RANGE),
    (BIGINT, 0.0, 0),
    (BIGINT, -0.0, 0),
    (BIGINT, 0.5, Reason.NOT_WHOLE),
    (BIGINT, 2.0**53, 2**53),
    (BIGINT, 2.0**53 - 0.5, 2**53),
    (BIGINT, 2.0**52 - 0.5, Reason.NOT_WHOLE),
    (BIGINT, math.nextafter(2.0**63, 0), 2**63 - 1024),
    (BIGINT, 2.0**63, Reason.OUT_OF_RANGE),
    (BIGINT, -(2.0**63), -(2**63)),
    (BIGINT, math.nextafter(-(2.0**63), -INFINITY), Reason.OUT_OF_RANGE),
    (BIGINT, -LARGEST, Reason.OUT_OF_RANGE),
    (DOUBLE, 0.0, 0.0),
    (DOUBLE, -0.0, -0.0),
    (DOUBLE, 5e-324, 5e-324),
    (DOUBLE, 0.1, 0.1),
    (DOUBLE, -LARGEST, -LARGEST),
    (SPECIAL_DOUBLE, -0.0, -0.0),
    (SPECIAL_DOUBLE, LARGEST, LARGEST),
    (SPECIAL_DOUBLE, INFINITY, INFINITY),
    (SPECIAL_DOUBLE, -INFINITY, -INFINITY),
    (BOOLEAN, 0.0, False),
    (BOOLEAN, -0.0, False),
    (BOOLEAN, 1.0, True),
    (BOOLEAN, 0.5, Reason.NOT_WHOLE),
    (BOOLEAN, math.nextafter(1, 0), Reason.NOT_WHOLE),
    (BOOLEAN, 2.0, Reason.OUT_OF_RANGE),
    (BOOLEAN, -1.0, Reason.OUT_OF_RANGE),
    (SECONDS, 0.0, UNIX_EPOCH),
    (SECONDS, -0.0, UNIX_EPOCH),
    (SECONDS, 5e-324, UNIX_EPOCH),
    (SECONDS, -5e-324, UNIX_EPOCH),
    (SECONDS, 946_684_800.0, 0),
    (SECONDS, 946_684_800.25, 250_000),
    (SECONDS, -0.000001, UNIX_EPOCH - 1),
    (SECONDS, 1 / 128, UNIX_EPOCH + 7813),
    (SECONDS, -1 / 128, UNIX_EPOCH - 7812),
    (SECONDS, FIRST_MS / 1000, FIRST),
    (SECONDS, math.nextafter(FIRST_MS / 1000, -INFINITY), Reason.OUT_OF_RANGE),
    (SECONDS, END_MS / 1000, Reason.OUT_OF_RANGE),
    (SECONDS, math.nextafter(END_MS / 1000, 0), END - 1953),
    (SECONDS, 1e18, Reason.OUT_OF_RANGE),
    (SECONDS, -LARGEST, Reason.OUT_OF_RANGE),
    (MILLISECONDS, 0.0, UNIX_EPOCH),
    (MILLISECONDS, 946_684_800_000.0, 0),
    (MILLISECONDS, 946_684_800_000.25, 250),
    (MILLISECONDS, 0.0005, UNIX_EPOCH + 1),
    (MILLISECONDS, float(FIRST_MS), FIRST),
    (MILLISECONDS, math.nextafter(FIRST_MS, -INFINITY), Reason.OUT_OF_RANGE),
    (MILLISECONDS, float(END_MS), Reason.OUT_OF_RANGE),
    (MILLISECONDS, 1e18, Reason.OUT_OF_RANGE),
]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [pytest.param(*row, id=f"{NAMES[row[0]]} {row[1]!r} {bits(row[1]):016x}") for row in TABLE],
)
def test_the_table_of_values(
    kind: ColumnType,
    value: float,
    expected: Any,  # noqa: ANN401  what a column holds
) -> None:
    for _ in range(2):
        found = read(kind, value)
        assert found == expected
        assert type(found) is type(expected)
        if isinstance(expected, float):
            assert bits(found) == bits(expected)


@given(strategies.values)
def test_only_one_nan_is_the_stale_marker(value: float) -> None:
    assert is_stale_marker(value) == (bits(value) == 0x7FF0000000000002)


@given(strategies.values)
def test_special_values_keep_every_bit(value: float) -> None:
    found = SPECIAL_DOUBLE.read(value)
    assert bits(found) == bits(value)
    # The type does not check whether a NaN is the stale marker.
    assert (SPECIAL_DOUBLE.check(value) is None) == (not math.isnan(value))


@pytest.mark.parametrize("kind", NUMBERS, ids=NAMES.get)
@hypothesis_settings(max_examples=300)
@given(strategies.values)
def test_every_type_holds_what_the_model_says(kind: ColumnType, value: float) -> None:
    found, expected = read(kind, value), reading(kind, value)
    assert alike(found, expected)
    assert type(found) is type(expected)


edges = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-1e10, 1e10),
    st.floats(FIRST_MS / 1000 - 5, FIRST_MS / 1000 + 5),
    st.floats(END_MS / 1000 - 5, END_MS / 1000 + 5),
    st.integers(FIRST_MS - 50, FIRST_MS + 50).map(float),
    st.integers(END_MS - 50, END_MS + 50).map(float),
    # Halves of a microsecond are exact floats only here.
    st.integers(-(10**9), 10**9).map(lambda number: number / 128),
    # Values close to half a microsecond.
    st.integers(-(10**10), 10**10).map(lambda number: (number + 0.5) / 1e6),
    # The limits of exact floating point.
    st.floats(2.0**13 - 1, 2.0**13 + 1),
    st.floats(2.0**43 - 1, 2.0**43 + 1),
)


@pytest.mark.parametrize("unit", UNITS)
@hypothesis_settings(max_examples=500)
@given(edges)
@example(NOW / 1000)
@example(1 / 128)
@example(-1 / 128)
@example(2.0**13 + 1 / 128)
@example(math.nextafter(2.0**13, 0))
@example(math.nextafter(2.0**43, 0))
@example(7478.8734015)
@example(2.0**43)
def test_a_timestamp_is_exact_to_the_microsecond(unit: str, value: float) -> None:
    exact = Fraction(value) * UNITS[unit]
    expected = math.floor(exact + Fraction(1, 2)) + UNIX_EPOCH
    found = read(TIMESTAMPS[unit], value)
    if FIRST <= expected < END:
        assert found == expected
        assert abs(Fraction(found) - UNIX_EPOCH - exact) <= Fraction(1, 2)
    else:
        assert found is Reason.OUT_OF_RANGE


@pytest.mark.parametrize("kind", TYPES.values(), ids=TYPES)
@given(st.lists(st.one_of(edges, strategies.values)))
@example([7478.8734015, math.nextafter(2.0**43, 0), 2.0**43, -1 / 128, NOW / 1000])
def test_many_values_are_read_as_each_of_them_is(kind: ColumnType, values: list[float]) -> None:
    taken = [value for value in values if kind.check(value) is None]
    found = kind.read_all(np.array(taken, np.float64)).astype(NUMPY.get(kind.sql, "int64"))
    assert list(map(repr, found.tolist())) == [repr(kind.read(value)) for value in taken]


@pytest.mark.parametrize("kind", TYPES.values(), ids=TYPES)
@given(st.one_of(edges, strategies.values))
def test_a_usual_value_is_one_that_is_taken(kind: ColumnType, value: float) -> None:
    assert not kind.takes(value) or kind.check(value) is None


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001  hypothesis wants naive bounds
def test_a_time_is_what_its_float_says(time: datetime) -> None:
    found = SECONDS.read(time.timestamp())
    assert datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=found) == time


def test_what_is_cached_is_bounded_and_stays_right() -> None:
    takes = BOOLEAN.takes
    cache = takes.__self__  # type: ignore[attr-defined]
    for number in range(2 * MAX_CACHED):
        assert takes(float(number)) is (number <= 1)
        assert not takes(NAN)
        assert len(cache) <= MAX_CACHED
    assert takes(1.0)


@pytest.mark.parametrize(
    ("low", "end", "value", "expected"),
    [
        (0, 2, 1.0, None),
        (0, 2, 2.0, Reason.OUT_OF_RANGE),
        (-5, -3, -3.0, Reason.OUT_OF_RANGE),
        (-5, -3, -5.0, None),
        (-5, -3, -5.5, Reason.NOT_WHOLE),
    ],
)
def test_a_range_of_whole_numbers_has_its_lower_bound(
    low: int, end: int, value: float, expected: Reason | None
) -> None:
    check: Callable[[float], Reason | None] = whole(low, end)
    assert check(value) is expected


# --- equal values ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "one", "other", "same"),
    [
        (CODE, 0.0, -0.0, True),
        (CODE, 1.0, 2.0, False),
        (DOUBLE, 0.0, -0.0, True),
        (DOUBLE, 0.1, math.nextafter(0.1, 1), False),
        (SPECIAL_DOUBLE, NAN, -NAN, True),
        (SPECIAL_DOUBLE, NAN, 0.0, False),
        (SPECIAL_DOUBLE, INFINITY, -INFINITY, False),
        (SECONDS, 1e9, 1e9 + 1e-7, True),
        (SECONDS, 1e9, 1e9 + 1e-6, False),
        (MILLISECONDS, 1e12, 1e12 + 1e-3, False),
    ],
)
def test_samples_agree_if_a_row_holds_the_same_for_both(
    kind: ColumnType, one: float, other: float, same: bool
) -> None:
    column = Column("value", "value", kind)
    assert column.agree(one, other) is same
    assert column.agree(other, one) is same
    assert column.holds(column.read(one), other) is same


@pytest.mark.parametrize("kind", TYPES.values(), ids=TYPES)
@given(st.data())
def test_what_a_row_holds_is_what_the_sample_reads_as(
    kind: ColumnType, data: st.DataObject
) -> None:
    column = Column("value", "value", kind)
    taken = st.one_of(st.integers(0, 1).map(float), strategies.values).filter(
        lambda value: kind.check(value) is None
    )
    one, other = data.draw(taken), data.draw(taken)
    assert column.holds(column.read(one), one)
    assert column.agree(one, other) == alike(reading(kind, one), reading(kind, other))
