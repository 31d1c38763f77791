"""Column types: which samples a column takes, and the values that its rows hold."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from receiver.rows.reasons import Reason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POSTGRES_EPOCH_MS: Final = 946_684_800_000
"""2000-01-01 UTC, from which PostgreSQL counts, in milliseconds since the Unix epoch."""
POSTGRES_EPOCH: Final = POSTGRES_EPOCH_MS * 1000
# What TIMESTAMPTZ can hold: 4713 BC to 294276 AD, in microseconds since 2000-01-01 UTC.
MIN_TIMESTAMP: Final = -211_813_488_000_000_000
END_TIMESTAMP: Final = 9_223_371_331_200_000_000
# From here on the fraction of a value is a multiple of 2^-39. Multiplied by a million, which is 2^6
# times a 14-bit number, and with a half added, it still fits into 53 bits: floating point is exact.
EXACT_FROM: Final = 2.0**13
# Up to here TIMESTAMPTZ holds a value in either unit.
EXACT_TO: Final = 2.0**43
MAX_CACHED: Final = 1024
STALE_BITS: Final = (0x7FF0000000000002).to_bytes(8, "little")

Check: TypeAlias = Callable[[float], "Reason | None"]
"""Returns why a column does not take a sample's value; None if it does."""
Flags: TypeAlias = "NDArray[np.bool_]"
Floats: TypeAlias = "NDArray[np.float64]"
Integers: TypeAlias = "NDArray[np.int64]"
Numbers: TypeAlias = "NDArray[np.float64] | NDArray[np.int64]"
Takes: TypeAlias = Callable[[float], bool]
"""Returns whether a value is a usual one that the column takes; `Check` decides on all others."""
Read: TypeAlias = Callable[[float], Any]
"""Returns what a row holds for a sample's value that `Check` has passed."""

UNITS: Final = {"seconds": 1_000_000, "milliseconds": 1_000}
"""Units of timestamps, in microseconds."""


def is_stale_marker(value: float) -> bool:
    """Return whether a NaN is a stale marker: its series ended (1.0 and 2.0, "Stale Markers")."""
    return struct.pack("<d", value) == STALE_BITS


class ColumnType(NamedTuple):
    """A column type."""

    name: str
    """Its name in a declaration."""
    sql: str
    """Its name in PostgreSQL."""
    takes: Takes
    takes_all: Callable[[Floats], Flags]
    """Returns which of many values are usual ones that the column takes."""
    check: Check
    read: Read
    read_all: Callable[[Floats], Numbers]
    """Reads many values, which `Check` has passed."""


class Known(dict[float, bool]):
    """Whether a column takes a value, cached for the few values that come again and again.

    Args:
        check: Decides on a value that has not been seen before.
    """

    def __init__(self, check: Check) -> None:
        super().__init__()
        self._check = check

    def __missing__(self, value: float) -> bool:
        """Check a value that has not been seen before."""
        if len(self) >= MAX_CACHED:
            self.clear()
        self[value] = takes = self._check(value) is None
        return takes


def check_finite(value: float) -> Reason | None:
    """Accept every number but NaN and the infinities."""
    if math.isfinite(value):
        return None
    return Reason.NOT_A_NUMBER if math.isnan(value) else Reason.INFINITE


def are_finite(values: Floats) -> Flags:
    """Return which values are numbers other than NaN and the infinities."""
    # Does without importing numpy, which is not loaded before there are values in an array.
    finite: Flags = abs(values) < math.inf
    return finite


def check_number(value: float) -> Reason | None:
    """Accept every number and the infinities; NaN, perhaps a stale marker, is for the caller."""
    return None if value == value else Reason.NOT_A_NUMBER  # noqa: PLR0124


def whole(low: int, end: int) -> Check:
    """Return a check that accepts whole numbers from `low` to before `end`."""

    def check(value: float) -> Reason | None:
        if value.is_integer():
            return None if low <= value < end else Reason.OUT_OF_RANGE
        return check_finite(value) or Reason.NOT_WHOLE

    return check


def are_whole(low: int, end: int) -> Callable[[Floats], Flags]:
    """Return a function that returns which of many values the check of `whole` accepts."""

    def are(values: Floats) -> Flags:
        taken: Flags = (values.round() == values) & (values >= low) & (values < end)
        return taken

    return are


def few(name: str, sql: str, low: int, end: int, read: Read) -> ColumnType:
    """Return a type of whole numbers, for columns that mostly hold the same few values."""
    check = whole(low, end)
    takes = Known(check).__getitem__
    return ColumnType(name, sql, takes, are_whole(low, end), check, read, as_they_are)


def timestamp(unit: int) -> ColumnType:
    """Return the type of a Unix time in units of `unit` microseconds.

    Rows hold microseconds since 2000-01-01 UTC, as TIMESTAMPTZ is stored. Fractions of a
    microsecond are rounded exactly, halves up.
    """

    def read(value: float) -> int:
        if EXACT_FROM <= value < EXACT_TO:
            number = int(value)
            return number * unit + int((value - number) * unit + 0.5) - POSTGRES_EPOCH
        top, bottom = value.as_integer_ratio()
        return (2 * top * unit + bottom) // (2 * bottom) - POSTGRES_EPOCH

    def takes(value: float) -> bool:
        return EXACT_FROM <= value < EXACT_TO

    def takes_all(values: Floats) -> Flags:
        exact: Flags = (values >= EXACT_FROM) & (values < EXACT_TO)
        return exact

    def check(value: float) -> Reason | None:
        reason = check_finite(value)
        if reason is None and not MIN_TIMESTAMP <= read(value) < END_TIMESTAMP:
            return Reason.OUT_OF_RANGE
        return reason

    def read_all(values: Floats) -> Numbers:
        exact = takes_all(values)
        numbers = values.astype("int64")
        found: Numbers = (
            numbers * unit + ((values - numbers) * unit + 0.5).astype("int64") - POSTGRES_EPOCH
        )
        if not exact.all():
            found[~exact] = [read(value) for value in values[~exact].tolist()]
        return found

    return ColumnType("timestamp", "timestamptz", takes, takes_all, check, read, read_all)


def as_they_are(values: Floats) -> Numbers:
    """Return the values unchanged; they are converted to the type when they are written."""
    return values


def same(value: float) -> float:
    """Return the value unchanged."""
    return value


def fits_bigint(value: float) -> bool:
    """Return whether a value is a whole number that BIGINT holds."""
    return value.is_integer() and -(2.0**63) <= value < 2.0**63


INT32: Final = -(2**31), 2**31
INT64: Final = -(2**63), 2**63

CODE: Final = few("code", "integer", *INT32, int)
BIGINT: Final = ColumnType(
    "bigint", "bigint", fits_bigint, are_whole(*INT64), whole(*INT64), int, as_they_are
)
BOOLEAN: Final = few("boolean", "boolean", 0, 2, bool)
DOUBLE: Final = ColumnType(
    "double", "double precision", math.isfinite, are_finite, check_finite, same, as_they_are
)
SPECIAL_DOUBLE: Final = DOUBLE._replace(check=check_number)
"""A double that may be NaN, +Inf or -Inf."""
