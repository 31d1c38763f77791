"""Conversion of stored values, as the database sends them, to sample values."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from receiver.rows.columns import END_TIMESTAMP, MIN_TIMESTAMP, POSTGRES_EPOCH, UNITS
from receiver.storage.reading.series_values import FLOAT, FORMS, form_of, write_value
from tests.tables import catalogue

STORED = st.integers(MIN_TIMESTAMP, END_TIMESTAMP - 1) | st.integers(-(2**54), 2**54)
MIXED = """
tables:
  mixed:
    columns:
      at: {metric: at, type: timestamp}
      at_ms: {metric: at_ms, type: timestamp, unit: milliseconds}
      on: {metric: on, type: boolean}
      "a\\"b": {metric: ab, type: bigint}
"""


@given(st.lists(STORED, max_size=20), st.sampled_from(sorted(UNITS)))
def test_a_time_is_the_nearest_number(stored: list[int], unit: str) -> None:
    found = FORMS[unit].read(np.array(stored, dtype=FORMS[unit].sent))
    assert found.tolist() == [
        float(Fraction(time + POSTGRES_EPOCH, UNITS[unit])) for time in stored
    ]


def test_infinite_times_are_infinite() -> None:
    ends = np.array([-(2**63), 2**63 - 1], dtype=">i8")
    for unit in UNITS:
        assert FORMS[unit].read(ends).tolist() == [-math.inf, math.inf]


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_a_whole_number_is_the_nearest_number(stored: list[int]) -> None:
    found = FORMS["bigint"].read(np.array(stored, dtype=">i8"))
    assert found.tolist() == [float(number) for number in stored]


def test_columns_of_different_types_are_sent_as_floating_point() -> None:
    at, at_ms, on, ab = catalogue(MIXED).tables[0].columns
    assert form_of([at, at]) is FORMS["seconds"]
    assert [form_of(pair) for pair in ([at, at_ms], [on, ab], [at, on])] == [FLOAT] * 3
    assert write_value(at_ms, FLOAT) == '(EXTRACT(EPOCH FROM "at_ms") * 1000)::float8'
    assert write_value(on, FLOAT) == '"on"::int::float8'
    assert write_value(ab, FLOAT) == '"a""b"::float8'
    assert write_value(ab, form_of([ab])) == '"a""b"::int8'
