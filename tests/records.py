"""Rows of random tables as records, and the column values that PostgreSQL must store for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from receiver.rows.model import arrange
from receiver.rows.tables import Table
from receiver.storage.writing.records import Record, to_records
from tests import random_rows
from tests.messages import bits
from tests.random_rows import reading


@st.composite
def records(draw: st.DrawFn, *, complete: bool = True) -> tuple[Table, list[Record]]:
    """Draw a table and some of its rows."""
    table = draw(random_rows.tables().filter(lambda table: complete or table.width > 1))
    rows = draw(random_rows.rows_of(table, complete=complete, least=1))
    return table, to_records(arrange(rows))[table]


def escaped(value: str | int | None) -> str | int | None:
    """Escape NUL in a label value."""
    return value.replace("␀", "␀␀").replace("\0", "␀0") if isinstance(value, str) else value


def sql_types(table: Table) -> list[str]:
    """Return the types of all columns, in the order of `Statements.columns`."""
    samples, labels = [one.type.sql for one in table.columns], [one.type for one in table.labels]
    return ["timestamptz", "integer", *samples, *labels]


def expected(table: Table, record: Record, *, labels: bool = True) -> list[Any]:
    """Return the column values of a row."""
    created_at, source_id, values, source = record
    samples = [
        None if value is None else reading(column.type, value)
        for column, value in zip(table.columns, values, strict=True)
    ]
    texts = dict(source.labels)
    copied = [
        texts.get(column.label) if column.type == "text" else as_int(texts.get(column.label))
        for column in table.labels
    ]
    return [created_at, source_id, *samples, *(map(escaped, copied) if labels else [])]


def as_int(text: str | None) -> int | None:
    return None if text is None else int(text)


def exact(values: Sequence[Any]) -> list[Any]:
    """Return the values in a form that compares floats by their bits, and types too."""
    return [
        bits(value) if isinstance(value, float) else (type(value).__name__, value)
        for value in values
    ]
