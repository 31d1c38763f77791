"""Turns rows into arguments of statements: arrays of columns, or entries that run one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from receiver.rows.tables import Table
from receiver.storage.writing.labels import ESCAPE
from receiver.storage.writing.records import Record


def to_columns(
    table: Table, records: Sequence[Record], *, labels: bool = True
) -> list[Sequence[Any]]:
    """Turn rows into the columns that `Statements` lists, with the label columns or without."""
    created_at, source_ids, values, sources = zip(*records, strict=True)
    columns: list[Sequence[Any]] = [created_at, source_ids]
    for column, samples in zip(table.columns, zip(*values, strict=True), strict=True):
        read: Callable[[float], Any] = column.read
        columns.append([None if sample is None else read(sample) for sample in samples])
    if table.labels and labels:
        rows = [map(escape, source.label_values) for source in sources]
        columns += zip(*rows, strict=True)
    return columns


def escape(value: str | int | None) -> str | int | None:
    """Escape a label value so that PostgreSQL can hold it."""
    return value.translate(ESCAPE) if isinstance(value, str) else value


def to_entries(
    table: Table, records: Sequence[Record], *, labels: bool = True
) -> list[tuple[Any, ...]]:
    """Turn rows into entries for `run_for_each`."""
    return list(zip(*to_columns(table, records, labels=labels), strict=True))
