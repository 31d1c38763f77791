"""Compares samples with existing ones: the one place that decides what contradicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from receiver.rows.tables import Column, Table, Values


class Verdict(NamedTuple):
    """How the samples of a row compare with another row of the same key."""

    missing: Values
    """Samples that the other row lacks."""
    repeated: int
    """Number of samples whose value the other row has, too."""
    contradicting: list[Column]
    """Columns in which the other row has another value."""


def judge(table: Table, values: Values, others: Sequence[Any]) -> Verdict:
    """Compare the samples of a row with an existing row.

    Args:
        table: The table of both rows.
        values: The samples.
        others: The values of the other row, as `Column.read` returns them.
    """
    missing, repeated = table.empty.copy(), 0
    contradicting: list[Column] = []
    for column, value in table.samples(values):
        other = others[column.slot]
        if other is None:
            missing[column.slot] = value
        elif column.holds(other, value):
            repeated += 1
        else:
            contradicting.append(column)
    return Verdict(missing, repeated, contradicting)


def readings(table: Table, values: Values) -> list[Any]:
    """Return the values of a row with these samples."""
    return [
        None if value is None else column.read(value)
        for column, value in zip(table.columns, values, strict=True)
    ]
