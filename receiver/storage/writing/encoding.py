"""Rows as PostgreSQL takes them: a binary COPY, arrays of columns, arrays of JSON."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import chain, repeat
from typing import Any, Final, TypeAlias

from receiver.rows.tables import Column, Table
from receiver.storage.writing.labels import ESCAPE
from receiver.storage.writing.records import Record

# The binary format of COPY: a header, then for each row its number of fields and each field after
# its length in bytes, then a trailer.
HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"
NULL: Final = b"\xff\xff\xff\xff"
KEY: Final = struct.Struct(">hiqii")
LENGTH: Final = struct.Struct(">i")

FIELDS: Final = {
    "integer": struct.Struct(">ii"),
    "bigint": struct.Struct(">iq"),
    "timestamptz": struct.Struct(">iq"),
    "double precision": struct.Struct(">id"),
    "boolean": struct.Struct(">i?"),
}
"""A field of each type, after its length."""

Fields: TypeAlias = Sequence[bytes]
"""A column of rows: for each of them its field."""


def encode_copy(table: Table, records: Sequence[Record]) -> memoryview:
    """Encode a whole binary COPY into the columns that `Statements` lists."""
    created_at, source_ids, values, sources = zip(*records, strict=True)
    keys = repeat(8), created_at, repeat(4), source_ids
    samples = list(zip(*values, strict=True))
    rows: Iterable[bytes]
    if table.optional or table.labels:
        number = 2 + table.width + len(table.labels)
        columns = list(map(encode_samples, table.columns, samples))
        columns += encode_labels([source.label_values for source in sources])
        heads = map(KEY.pack, repeat(number), *keys)
        rows = chain.from_iterable(zip(heads, *columns, strict=True))
    else:
        rows = map(row_of(table).pack, repeat(2 + table.width), *keys, *read_all(table, samples))
    # asyncpg takes bytes for the name of a file, a view for what to send.
    return memoryview(b"".join((HEADER, *rows, TRAILER)))


@cache
def row_of(table: Table) -> struct.Struct:
    """Return the format of a row that has a sample of each column, and no labels."""
    fields = (FIELDS[column.type.sql].format.removeprefix(">") for column in table.columns)
    return struct.Struct(KEY.format + "".join(fields))


def read_all(table: Table, samples: Sequence[Sequence[float]]) -> Iterator[Iterable[Any]]:
    """Yield for each column the size of its fields and what they hold, for each row."""
    for column, some in zip(table.columns, samples, strict=True):
        yield repeat(FIELDS[column.type.sql].size - LENGTH.size)
        yield column.type.read_all(some)


def encode_samples(column: Column, samples: Sequence[float | None]) -> Fields:
    """Encode a column of samples."""
    field = FIELDS[column.type.sql]
    pack, read, size = field.pack, column.read, field.size - LENGTH.size
    return [NULL if sample is None else pack(size, read(sample)) for sample in samples]


def encode_labels(labels: Sequence[Sequence[str | int | None]]) -> Iterator[Fields]:
    """Encode columns of label values; those of one source are encoded once."""
    known: dict[str | int | None, bytes] = {None: NULL}
    for column in zip(*labels, strict=True):
        for value in {*column} - known.keys():
            known[value] = encode_label(value)
        yield [known[value] for value in column]


def encode_label(value: str | int | None) -> bytes:
    """Encode a label value as a field."""
    if isinstance(value, int):
        return FIELDS["bigint"].pack(8, value)
    encoded = (value or "").translate(ESCAPE).encode()
    return LENGTH.pack(len(encoded)) + encoded


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
    """Write a label value so that PostgreSQL can hold it."""
    return value.translate(ESCAPE) if isinstance(value, str) else value


def to_entries(
    table: Table, records: Sequence[Record], *, labels: bool = True
) -> list[tuple[Any, ...]]:
    """Turn rows into entries for `run_for_each`."""
    return list(zip(*to_columns(table, records, labels=labels), strict=True))
