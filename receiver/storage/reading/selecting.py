"""Writes statements that read rows of any declared table, with the meaning of their codes.

`receiver logs`, exports and pages choose rows by queries of their own; only this module defines
which columns are shown, under which names and types.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from receiver.rows.tables import Catalogue, Column, Table
from receiver.storage.connection.places import LOGS, quote
from receiver.storage.schema.naming import unused

STATUS: Final = "app_status"
OCR: Final = "ocr_value"
USERS_NAMES: Final = ("error_name", "description")
"""Names of the columns with the name and the description of a code in the user's own query."""


class Kind(StrEnum):
    """Kind of a field."""

    OWN = "own"
    """A column that every table has."""
    LABEL = "label"
    VALUE = "value"
    NAME = "name"
    """The name of a code."""
    DESCRIPTION = "description"
    """The description of a code."""
    LABELS = "labels"
    """All labels of the source."""


class Field(NamedTuple):
    """A column of a result."""

    name: str
    type: str
    """Its type in PostgreSQL, as a `ColumnType` or a `LabelColumn` names it."""
    expression: str
    """Refers to the row `l`, its source `s` and the tables of codes that `joins` adds."""
    kind: Kind = Kind.OWN


ID: Final = Field("id", "bigint", "l.id")
CREATED_AT: Final = Field("created_at", "timestamptz", "l.created_at")
SOURCE_ID: Final = Field("source_id", "integer", "l.source_id")


def label_fields(table: Table) -> list[Field]:
    """Return the label columns of a table."""
    return [stored(column.name, column.type, Kind.LABEL) for column in table.labels]


def value_fields(table: Table) -> list[Field]:
    """Return the metric columns of a table; after each code its name and its description."""
    taken = {"id", "created_at", "source_id", "labels"}
    taken |= declared(table)
    return [field for column in table.columns for field in fields_of(table, column, taken)]


def declared(table: Table) -> set[str]:
    """Return the names of the declared columns."""
    return {name for name, *_ in table.labels} | {column.name for column in table.columns}


def fields_of(table: Table, column: Column, taken: set[str]) -> Iterator[Field]:
    """Yield a metric column, and its codes' name and description under unused names."""
    yield stored(column.name, column.type.sql, Kind.VALUE)
    if not column.codes:
        return
    users = is_users(table) and column.name == STATUS
    for kind, name in zip((Kind.NAME, Kind.DESCRIPTION), USERS_NAMES, strict=True):
        shown = unused(taken, name) if users else unused(taken, column.name, f"_{kind}")
        yield Field(shown, "text", f"{alias(column)}.{kind}::text", kind)


def stored(name: str, type_: str, kind: Kind) -> Field:
    """Return the field of a column, cast to its declared type: the column's own may be wider."""
    return Field(name, type_, f"l.{quote(name)}::{type_}", kind)


def is_users(table: Table) -> bool:
    """Return whether the user's own query, which README promises, can be run on the table."""
    types = {column.name: column.type.name for column in table.columns}
    return table.name == LOGS and (types.get(STATUS), types.get(OCR)) == ("code", "timestamp")


def default_table(catalogue: Catalogue) -> Table:
    """Return the table that is shown unless another one is named: app_logs, else the first."""
    return catalogue.by_name.get(LOGS, catalogue.tables[0])


def default_states(catalogue: Catalogue) -> Table:
    """Return the table whose states are shown unless another one is named.

    It is the default table, else the first with codes; the default table if none has codes.
    """
    table = default_table(catalogue)
    return table if table.codes else next((one for one in catalogue.tables if one.codes), table)


def alias(column: Column) -> str:
    """Return the alias of a column's table of codes in a statement."""
    return f"e{column.slot}"


def joins(table: Table, *, with_source: bool) -> str:
    """Write the joins of the rows `l` with their sources, and with the tables of their codes."""
    sources = ("JOIN sources s ON s.id = l.source_id",) if with_source else ()
    codes = (
        f"LEFT JOIN {quote(column.codes)} {alias(column)} "
        f"ON {alias(column)}.code = l.{quote(column.name)}"
        for column in table.codes
    )
    return "\n".join((*sources, *codes))


def select(
    table: Table, fields: Iterable[Field], rows: str, rest: str, *, with_source: bool = True
) -> str:
    """Write a statement that reads fields of rows.

    Args:
        table: The table.
        fields: The columns of the result.
        rows: A query for whole rows of the table.
        rest: What follows the joins: more joins, conditions on `l` and `s`, the order.
        with_source: Whether the sources are joined.
    """
    listed = ",\n    ".join(f"{field.expression} AS {quote(field.name)}" for field in fields)
    return f"SELECT {listed}\nFROM ({rows}) AS l\n{joins(table, with_source=with_source)}\n{rest}"


def chosen_sources(ids: str, *, distributed: bool) -> str:
    """Write the FROM item `chosen (id)`: the sources in a parameter such as `$1`.

    Citus joins the rows of each source only with a table that is distributed by source, too.
    """
    if distributed:
        return f"(SELECT id FROM source_keys WHERE id = ANY({ids}::int[])) AS chosen"
    return f"unnest({ids}::int[]) AS chosen (id)"
