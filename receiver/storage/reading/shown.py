"""The cells that a page shows of a row, each with the meaning of its code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from receiver.rows.tables import Table
from receiver.storage.reading.selecting import Field, Kind, label_fields, value_fields

LONGEST: Final = 500
"""Maximum number of characters shown of a name, a description or a label."""


class Cell(NamedTuple):
    """A value of a row."""

    column: str
    type: str
    """The type in PostgreSQL."""
    value: Any
    is_code: bool = False
    name: str | None = None
    """The name of the code."""
    description: str | None = None


class Columns:
    """The columns that a page shows of a table: the first code, the labels, all other values.

    Args:
        table: The table.
    """

    def __init__(self, table: Table) -> None:
        values = value_fields(table)
        codes = [column.name for column in table.codes]
        first = [field for field in values if is_of(field, values, codes[:1])]
        others = [field for field in values if field not in first]
        self.fields = [shorten(field) for field in (*first, *label_fields(table), *others)]
        """The fields read of each row; names and descriptions follow their codes."""
        self._codes = set(codes)
        self.names = [field.name for field in self.fields if field.kind in SHOWN]
        """Names of the cells, in their order."""
        self.has_state = bool(codes)
        """Whether the first cell is a code."""

    def read(self, values: Iterable[Any]) -> list[Cell]:
        """Build the cells of a row from the values that were read."""
        cells: list[Cell] = []
        for field, value in zip(self.fields, values, strict=True):
            if field.kind is Kind.NAME:
                cells[-1] = cells[-1]._replace(name=value)
            elif field.kind is Kind.DESCRIPTION:
                cells[-1] = cells[-1]._replace(description=value)
            else:
                is_code = field.kind is Kind.VALUE and field.name in self._codes
                cells.append(Cell(field.name, field.type, value, is_code))
        return cells


SHOWN: Final = (Kind.LABEL, Kind.VALUE)


def is_of(field: Field, fields: Sequence[Field], columns: Sequence[str]) -> bool:
    """Return whether a field is one of these columns, or the name or description of its codes."""
    place = fields.index(field)
    return next(one.name for one in fields[place::-1] if one.kind is Kind.VALUE) in columns


def shorten(field: Field) -> Field:
    """Return the field with its text cut to what is shown."""
    if field.type != "text":
        return field
    return field._replace(expression=f"left({field.expression}, {LONGEST})")
