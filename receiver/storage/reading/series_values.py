"""Formats in which the database sends the values of series: as stored, to be converted here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from receiver.config.catalogue import unit_of
from receiver.rows.columns import END_TIMESTAMP, MIN_TIMESTAMP, POSTGRES_EPOCH, UNITS, Floats
from receiver.rows.tables import Column
from receiver.storage.connection.places import quote

Sent: TypeAlias = NDArray[Any]

EXACT: Final = 2**53
"""Up to here floating-point numbers represent every integer exactly."""


class Form(NamedTuple):
    """The binary format in which the database sends values, and its conversion to floats."""

    type: str
    """The type in PostgreSQL."""
    sent: str
    """The type in numpy."""
    read: Callable[[Sent], Floats]


def to_floats(sent: Sent) -> Floats:
    """Convert numbers to the nearest floating-point numbers."""
    return sent.astype(np.float64)


def to_unix(factor: int, sent: Sent) -> Floats:
    """Convert times from the database to Unix time, as the nearest floating-point numbers.

    Args:
        factor: Microseconds in the unit.
        sent: Microseconds since 2000; times outside of the range become infinities.
    """
    times = sent.astype(np.int64)
    # Both are exact, so that the quotient is rounded only once.
    found = (times + POSTGRES_EPOCH) / factor
    far = np.flatnonzero((times < -EXACT) | (times > EXACT - POSTGRES_EPOCH))
    found[far] = [far_to_unix(factor, time) for time in times[far].tolist()]
    return found


def far_to_unix(factor: int, time: int) -> float:
    """Convert one time as `to_unix` does, however far from the epoch."""
    if MIN_TIMESTAMP <= time < END_TIMESTAMP:
        return (time + POSTGRES_EPOCH) / factor
    return float("-inf") if time < 0 else float("inf")


FLOAT: Final = Form("float8", ">f8", to_floats)
FORMS: Final = {
    "code": Form("int4", ">i4", to_floats),
    "bigint": Form("int8", ">i8", to_floats),
    "double": FLOAT,
    "boolean": Form("bool", "u1", to_floats),
    "seconds": Form("timestamptz", ">i8", partial(to_unix, UNITS["seconds"])),
    "milliseconds": Form("timestamptz", ">i8", partial(to_unix, UNITS["milliseconds"])),
}
"""Forms by the type of a column; for a timestamp, by its unit."""
TIMESTAMP_FACTORS: Final = {"seconds": "", "milliseconds": " * 1000"}


def form_of(columns: Iterable[Column]) -> Form:
    """Return the form in which the values of some columns can be sent together.

    PostgreSQL converts different types to the same one, which takes it longer than numpy.
    """
    first, *others = {name_of(column) for column in columns}
    return FLOAT if others else FORMS[first]


def name_of(column: Column) -> str:
    """Return the name of a column's form."""
    return unit_of(column) if column.type.name == "timestamp" else column.type.name


def write_value(column: Column, form: Form) -> str:
    """Write the value of a column in a form: its own, or FLOAT."""
    name = quote(column.name)
    if form is not FLOAT:
        return f"{name}::{form.type}"
    match column.type.name:
        case "timestamp":
            return f"(EXTRACT(EPOCH FROM {name}){TIMESTAMP_FACTORS[unit_of(column)]})::float8"
        case "boolean":
            return f"{name}::int::float8"
    return f"{name}::float8"
