"""Small random catalogues, samples that share rows, and slow, obvious reference models.

Only the plain types are shared with the receiver's code. `tests.catalogues` draws declarations of
any kind and name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, Final, NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from receiver.config.catalogue import TIMESTAMPS
from receiver.rows.columns import BIGINT, BOOLEAN, CODE, DOUBLE, SPECIAL_DOUBLE, UNITS, ColumnType
from receiver.rows.model import Labels, Row, Source
from receiver.rows.reasons import Reason
from receiver.rows.tables import Catalogue, Column, LabelColumn, Table, Values
from tests import strategies
from tests.messages import NOW, STALE, bits

# The range of TIMESTAMPTZ, which PostgreSQL defines in Julian days
# (src/include/datatype/timestamp.h): from day 0 to before day 109203528; 2000-01-01 is 2451545, the
# Unix epoch 2440588.
DAY: Final = 86_400_000_000
FIRST: Final = (0 - 2_451_545) * DAY
END: Final = (109_203_528 - 2_451_545) * DAY
UNIX_EPOCH: Final = (2_440_588 - 2_451_545) * DAY
# The same in milliseconds since the Unix epoch.
FIRST_MS: Final = (0 - 2_440_588) * DAY // 1000
END_MS: Final = (109_203_528 - 2_440_588) * DAY // 1000

METRICS: Final = ("app_status", "ocr_value", "압력", "strokes_total")
TYPES: Final[Mapping[str, ColumnType]] = {
    "code": CODE,
    "bigint": BIGINT,
    "double": DOUBLE,
    "special": SPECIAL_DOUBLE,
    "boolean": BOOLEAN,
    **TIMESTAMPS,
}
NAMES: Final = ("pressure", "압력", "select", "Order", 'a "quoted" one', "x" * 63)
LABELS: Final[Mapping[str, Sequence[str]]] = {
    "line": ("A", "B", "가"),
    "machine": ("7", "-3", "9223372036854775808", "+07", "x\0y"),
    "sensor": ("s1", "s2", "a\nb"),
}
"""Labels that series may have, with some of their values."""
EXPRESSIONS: Final = (".*", ".+", "", "A|B", "[^A]*", "가?", "s.", "a.b", "-?[0-9]+")


# --- catalogues -----------------------------------------------------------------------------------


@st.composite
def columns(draw: st.DrawFn) -> list[Column]:
    """Draw the columns of a table: any types, at least one required."""
    metrics = draw(st.lists(st.sampled_from(METRICS), min_size=1, max_size=3, unique=True))
    names = draw(st.permutations(NAMES))
    required = draw(st.lists(st.booleans(), min_size=len(metrics), max_size=len(metrics)))
    required[draw(st.integers(0, len(metrics) - 1))] = True
    found: list[Column] = []
    for name, metric, needed in zip(names, metrics, required, strict=False):
        kind = TYPES[draw(st.sampled_from(sorted(TYPES)))]
        codes = draw(st.sampled_from(["error_codes", "states"])) if kind is CODE else ""
        found.append(Column(name, metric, kind, required=needed, codes=codes))
    return found


@st.composite
def tables(draw: st.DrawFn, name: str = "readings") -> Table:
    """Draw a table of any columns and series, with or without label columns."""
    ignoring = draw(st.sets(st.sampled_from(sorted(LABELS))))
    copied = draw(st.lists(st.sampled_from(sorted(LABELS)), unique=True))
    return Table(
        name,
        draw(columns()),
        labels=[
            LabelColumn(f"of {label}", label, draw(st.sampled_from(["text", "bigint"])))
            for label in copied
            if label not in ignoring
        ],
        match=draw(
            st.one_of(
                st.just({}),
                st.dictionaries(st.sampled_from(sorted(LABELS)), st.sampled_from(EXPRESSIONS)),
            )
        ),
        ignoring=frozenset(ignoring),
    )


@st.composite
def catalogues(draw: st.DrawFn, most: int = 3) -> Catalogue:
    """Draw some tables, which may share metrics."""
    names = draw(st.permutations(["readings", "user", "라인", "Z"]))
    count = draw(st.integers(1, most))
    return Catalogue([draw(tables(name)) for name in names[:count]])


# --- samples --------------------------------------------------------------------------------------


class Point(NamedTuple):
    """A sample as it is sent."""

    metric: str
    labels: Mapping[str, str]
    timestamp: int
    value: float


label_sets: SearchStrategy[dict[str, str]] = st.fixed_dictionaries(
    {}, optional={label: st.sampled_from(values) for label, values in LABELS.items()}
)
usual_values: SearchStrategy[float] = st.one_of(
    st.integers(0, 1).map(float),
    st.sampled_from([-1.0, 2.0, -0.0, 0.5, float("inf"), 1e18, -(2.0**31)]),
    st.sampled_from([float("nan"), -float("nan"), STALE]),
    # As times, some of these are less than a microsecond apart.
    st.integers(0, 3).map(lambda step: NOW / 1000 + step * 2.0**-21),
)
usual_times: SearchStrategy[int] = st.integers(NOW, NOW + 2)
any_times: SearchStrategy[int] = st.one_of(usual_times, usual_times, strategies.timestamps)
any_values: SearchStrategy[float] = st.one_of(usual_values, usual_values, strategies.values)


points: SearchStrategy[Point] = st.builds(
    Point, st.sampled_from(METRICS), label_sets, usual_times, any_values
)


def divide(points: Sequence[Point], cuts: Sequence[int]) -> list[list[Point]]:
    """Divide the samples into several requests."""
    return [list(points[start:end]) for start, end in pairwise([0, *cuts, len(points)])]


@st.composite
def arrivals(
    draw: st.DrawFn,
    times: SearchStrategy[int] = usual_times,
    values: SearchStrategy[float] = usual_values,
    most: int = 30,
) -> list[list[Point]]:
    """Draw requests of few series and times, so that samples share rows."""
    pools = (
        st.just(METRICS),
        st.lists(label_sets, min_size=1, max_size=2),
        st.lists(times, min_size=1, max_size=2),
        st.lists(values, min_size=1, max_size=3),
    )
    some = st.builds(Point, *(st.sampled_from(draw(pool)) for pool in pools))
    found = draw(st.lists(some, max_size=most))
    cuts = draw(st.lists(st.integers(0, len(found)), max_size=4).map(sorted))
    return divide(found, cuts)


# --- rows -----------------------------------------------------------------------------------------

finite: SearchStrategy[float] = st.floats(allow_nan=False, allow_infinity=False)
TAKEN: Final[Mapping[str, SearchStrategy[float]]] = {
    "code": st.one_of(st.integers(-(2**31), 2**31 - 1).map(float), st.just(-0.0)),
    "bigint": st.one_of(
        st.integers(-(2**62), 2**62).map(float), st.sampled_from([-0.0, -(2.0**63), 2.0**63 - 1024])
    ),
    "double": finite,
    "special": st.one_of(finite, strategies.values.filter(lambda value: not is_stale(value))),
    "boolean": st.sampled_from([0.0, 1.0, -0.0]),
    "seconds": st.one_of(st.floats(-1e11, 9e12), st.just(NOW / 1000)),
    "milliseconds": st.one_of(st.floats(-1e14, 8e15), st.just(float(NOW))),
}
"""Values that a column of each type accepts."""


def taken_by(column: Column) -> SearchStrategy[float]:
    """Return a strategy of values that a column accepts."""
    return TAKEN[next(name for name, kind in TYPES.items() if kind is column.type)]


@st.composite
def sources_of(draw: st.DrawFn, table: Table) -> list[Source]:
    """Draw some sources of a table with their ids and with labels that fit its columns."""
    numbers = {column.label for column in table.labels if column.type == "bigint"}
    found = []
    for number in range(draw(st.integers(1, 3))):
        labels = {
            name: str(number) if name in numbers else value
            for name, value in draw(label_sets).items()
        }
        found.append(Source(table, telling(table, labels)))
        found[-1].id = draw(st.integers(1, 2**31 - 1))
    return found


@st.composite
def rows_of(
    draw: st.DrawFn, table: Table, *, complete: bool = True, least: int = 0, most: int = 5
) -> list[Row]:
    """Draw non-empty rows of a table, no two of the same source and time."""
    if not complete and table.width == 1:
        return []
    keys = st.tuples(usual_times, st.sampled_from(draw(sources_of(table))))
    return [
        (timestamp, source, draw(values_of(table, complete=complete)))
        for timestamp, source in draw(st.lists(keys, min_size=least, max_size=most, unique=True))
    ]


@st.composite
def values_of(draw: st.DrawFn, table: Table, *, complete: bool = True) -> Values:
    """Draw the samples of a complete row, or of one that lacks a required sample."""
    values: Values = [
        draw(taken_by(column) if column.required else st.one_of(st.none(), taken_by(column)))
        for column in table.columns
    ]
    if complete:
        return values
    lacking = draw(st.integers(0, table.required - 1))
    kept = draw(st.integers(0, table.width - 1).filter(lambda slot: slot != lacking))
    for slot, column in enumerate(table.columns):
        if slot == lacking or (slot != kept and draw(st.booleans())):
            values[slot] = None
        elif slot == kept and values[slot] is None:
            values[slot] = draw(taken_by(column))
    return values


# --- the meaning of samples -----------------------------------------------------------------------


def belongs(table: Table, labels: Mapping[str, str]) -> bool:
    """Return whether a series with these labels belongs to the table."""
    return all(
        re.fullmatch(expression, labels.get(label, ""), re.DOTALL)
        for label, expression in table.match.items()
    )


def telling(table: Table, labels: Mapping[str, str]) -> Labels:
    """Return the labels that identify a source of the table."""
    return tuple(sorted(pair for pair in labels.items() if pair[0] not in table.ignoring))


def feeds(catalogue: Catalogue, point: Point) -> Iterator[tuple[Table, Column]]:
    """Yield every column of a table that a sample belongs to."""
    for table in catalogue.tables:
        for column in table.columns:
            if column.metric == point.metric and belongs(table, point.labels):
                yield table, column


def is_stale(value: float) -> bool:
    return bits(value) == 0x7FF0000000000002


def reading(kind: ColumnType, value: float) -> Any:  # noqa: ANN401  what a column holds
    """Return the stored value of a sample in a column of this type, or why it is rejected."""
    if kind is SPECIAL_DOUBLE:
        return Reason.NOT_A_NUMBER if is_stale(value) else value
    if math.isnan(value):
        return Reason.NOT_A_NUMBER
    if math.isinf(value):
        return Reason.INFINITE
    if kind is DOUBLE:
        return value
    for unit, of_unit in TIMESTAMPS.items():
        if kind is of_unit:
            return time_of(Fraction(value) * UNITS[unit])
    return whole_of(kind, Fraction(value))


def time_of(microseconds: Fraction) -> int | Reason:
    """Convert a Unix time, rounded half up, to the internal value of TIMESTAMPTZ."""
    rounded = math.floor(microseconds + Fraction(1, 2)) + UNIX_EPOCH
    return rounded if FIRST <= rounded < END else Reason.OUT_OF_RANGE


def whole_of(kind: ColumnType, exact: Fraction) -> int | bool | Reason:
    """Convert to a whole number of a type, or return why it is rejected."""
    low, high = {CODE: (-(2**31), 2**31 - 1), BIGINT: (-(2**63), 2**63 - 1), BOOLEAN: (0, 1)}[kind]
    if exact.denominator != 1:
        return Reason.NOT_WHOLE
    if not low <= exact <= high:
        return Reason.OUT_OF_RANGE
    return bool(exact) if kind is BOOLEAN else int(exact)


def alike(one: Any, other: Any) -> bool:  # noqa: ANN401  what a column holds
    """Return whether two stored values are equal; NaN equals NaN."""
    return bool(one == other) or (one != one and other != other)  # noqa: PLR0124  NaN
