"""Encodes rows for PostgreSQL's binary COPY, all at once, with numpy.

https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format"
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from receiver.rows.blocks import Objects, RowBlock, find_codes
from receiver.rows.columns import POSTGRES_EPOCH_MS, Floats
from receiver.rows.model import Source
from receiver.rows.tables import Column, Table, Values
from receiver.storage.writing.labels import ESCAPE
from receiver.storage.writing.records import Blocks, Record, Records

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"
NULL: Final = -1
"""The size that marks a field as NULL; no data follows."""
SIZE: Final = struct.Struct(">i")
BIGINT: Final = struct.Struct(">iq")
TYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "integer": np.dtype(">i4"),
    "bigint": np.dtype(">i8"),
    "timestamptz": np.dtype(">i8"),
    "double precision": np.dtype(">f8"),
    "boolean": np.dtype("?"),
}
KEY_TYPES: Final = ("timestamptz", "integer")
"""Types of created_at and source_id, which come first."""

Array: TypeAlias = NDArray[Any]
"""An array of numbers, records or booleans."""


@dataclass(frozen=True, slots=True)
class RowArrays:
    """Rows of a table, sorted by (source_id, created_at)."""

    table: Table
    created_at: Array
    """Microseconds since 2000-01-01 UTC, as in records."""
    source_ids: Array
    samples: Floats
    """One row for each, one column for each column of the table."""
    missing: Array | None
    """Which samples are missing; None if none is."""
    sources: Objects | None
    """The source of each row; None if the table has no label columns."""

    def __len__(self) -> int:
        return len(self.created_at)

    def codes(self, column: Column) -> list[int]:
        """Return the codes that the rows have in a column, sorted; none is missing."""
        return find_codes(self.samples, column)


def gather(records: Records, blocks: Blocks) -> dict[Table, RowArrays]:
    """Combine rows and blocks into arrays by table, in the order in which tables are locked.

    Raises:
        RuntimeError: a source has no id, which must not happen.
    """
    found: dict[Table, RowArrays] = {}
    for table in sorted({*records, *blocks}, key=lambda table: table.name):
        some = [from_block(table, block) for block in blocks.get(table, ())]
        if table in records:
            some.append(from_records(table, records[table]))
        found[table] = sort(some) if table in blocks else some[0]
    return found


def from_records(table: Table, records: Sequence[Record]) -> RowArrays:
    """Turn records of a table into arrays."""
    created_at, source_ids, values, sources = zip(*records, strict=True)
    samples, missing = to_arrays(table, values)
    return RowArrays(
        table,
        np.array(created_at, np.int64),
        np.array(source_ids, np.int64),
        samples,
        missing,
        hold(table, sources),
    )


def from_block(table: Table, block: RowBlock) -> RowArrays:
    """Turn a block of rows into arrays, not sorted yet.

    Raises:
        RuntimeError: a source has no id, which must not happen.
    """
    sources = block.sources
    ids = np.fromiter((source.id or 0 for source in sources), np.int64, len(sources))
    if not ids.all():
        raise RuntimeError(f"{sources[int(ids.argmin())]} has no id yet")
    created_at = (block.times - POSTGRES_EPOCH_MS) * 1000
    return RowArrays(table, created_at, ids, block.values, None, hold(table, sources))


def hold(table: Table, sources: Sequence[Source]) -> Objects | None:
    """Return the sources of rows, if the table has label columns."""
    return np.fromiter(sources, object, len(sources)) if table.labels else None


def sort(some: Sequence[RowArrays]) -> RowArrays:
    """Combine rows of one table, and sort them by their keys."""
    table = some[0].table
    created_at = np.concatenate([one.created_at for one in some])
    source_ids = np.concatenate([one.source_ids for one in some])
    order = np.lexsort((created_at, source_ids))
    sources = [one.sources for one in some if one.sources is not None]
    return RowArrays(
        table,
        created_at[order],
        source_ids[order],
        np.concatenate([one.samples for one in some])[order],
        None,
        np.concatenate(sources)[order] if sources else None,
    )


def encode_copy(arrays: RowArrays) -> memoryview:
    """Encode rows as a complete binary COPY into the columns that `Statements` lists."""
    table = arrays.table
    rows = np.full(len(arrays), empty_row(table))
    rows["value 0"], rows["value 1"] = arrays.created_at, arrays.source_ids
    for place, column in enumerate(table.columns, len(KEY_TYPES)):
        rows[f"value {place}"] = column.type.read_all(arrays.samples[:, column.slot])
    if arrays.missing is None:
        data, sizes = rows.tobytes(), np.full(len(rows), rows.itemsize)
    else:
        data, sizes = leave_out(rows, arrays.missing)
    if arrays.sources is not None:
        data = add_labels(data, sizes, arrays.sources.tolist())
    # asyncpg takes bytes for the name of a file, a memoryview for the data.
    return memoryview(b"".join((HEADER, data, TRAILER)))


@cache
def empty_row(table: Table) -> Array:
    """Return a row without its values: the number of its fields, then the size of each."""
    types = [TYPES[name] for name in (*KEY_TYPES, *(one.type.sql for one in table.columns))]
    fields = [("number", ">i2")]
    for place, type_ in enumerate(types):
        fields += [(f"size {place}", ">i4"), (f"value {place}", type_.str)]
    row = np.zeros((), fields)
    row["number"] = len(types) + len(table.labels)
    for place, type_ in enumerate(types):
        row[f"size {place}"] = type_.itemsize
    return row


def to_arrays(table: Table, values: Sequence[Values]) -> tuple[Floats, Array | None]:
    """Turn samples into an array, one row for each, and a mask of missing ones; None if none is."""
    shape = len(values), table.width
    if not table.optional:
        samples = np.fromiter(chain.from_iterable(values), np.float64, shape[0] * shape[1])
        return samples.reshape(shape), None
    objects = np.array(values, object)
    with np.errstate(invalid="ignore"):  # comparing a signaling NaN would warn
        missing: Array = objects == None  # noqa: E711  element by element
    objects[missing] = 0.0
    return objects.astype(np.float64), missing if missing.any() else None


def leave_out(rows: Array, missing: Array) -> tuple[bytes, Array]:
    """Make missing samples NULL; return the rows' bytes, and the size of each."""
    kept = np.ones((len(rows), rows.itemsize), np.bool_)
    places: Mapping[str, Any] = rows.dtype.fields or {}
    for place, lacking in enumerate(missing.T, len(KEY_TYPES)):
        rows[f"size {place}"][lacking] = NULL
        start = places[f"value {place}"][1]
        kept[lacking, start : start + rows.dtype[f"value {place}"].itemsize] = False
    return rows.view(np.uint8).reshape(kept.shape)[kept].tobytes(), kept.sum(axis=1)


def add_labels(data: bytes, sizes: Array, sources: Sequence[Source]) -> bytes:
    """Append the values of the label columns to each row, encoding those of a source once."""
    labels = {source: b"".join(map(encode_label, source.label_values)) for source in {*sources}}
    ends = np.cumsum(sizes).tolist()
    rows = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return b"".join(chain.from_iterable(zip(rows, map(labels.__getitem__, sources), strict=True)))


def encode_label(value: str | int | None) -> bytes:
    """Encode a label value as a field."""
    if value is None:
        return SIZE.pack(NULL)
    if isinstance(value, int):
        return BIGINT.pack(8, value)
    encoded = value.translate(ESCAPE).encode()
    return SIZE.pack(len(encoded)) + encoded
