"""Lists the newest rows of a table, as `receiver logs` and the demo show them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from receiver.rows.tables import Table
from receiver.storage.connection.database import Connection, used
from receiver.storage.connection.places import quote
from receiver.storage.reading.selecting import (
    CREATED_AT,
    ID,
    OCR,
    STATUS,
    Field,
    Kind,
    is_users,
    label_fields,
    select,
    value_fields,
)
from receiver.storage.reading.sources import LABELS, read_labels

BEGINNING: Final = "-infinity"
SOURCE: Final = Field("source", "jsonb", LABELS, Kind.LABELS)


class Entry(NamedTuple):
    """A row, and what is shown of it."""

    id: int
    created_at: str
    values: list[Any]
    """One for each field; labels as a mapping."""


class Listing:
    """Reads the newest rows of a table, newest first.

    Times are as PostgreSQL writes them, in UTC: TIMESTAMPTZ holds years that datetime does not.
    Rows that lie in the future are left out: one that a wrong clock has dated years ahead would
    come first for years.

    Args:
        table: The table.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.fields = list(find_fields(table))
        rows = f"SELECT * FROM {quote(table.name)} WHERE created_at <= now()"
        newest = f"{rows} ORDER BY created_at DESC LIMIT $1"
        fields = (ID, CREATED_AT, *self.fields)
        order = "ORDER BY l.created_at DESC"
        self.newest_statement = select(table, fields, newest, order)
        self.since_statement = select(table, fields, f"{rows} AND created_at >= $1", order)

    async def newest(self, connection: Connection, limit: int) -> list[Entry]:
        """Return at most so many of the newest rows."""
        return await self._fetch(connection, self.newest_statement, limit)

    async def since(self, connection: Connection, created_at: str) -> list[Entry]:
        """Return all rows of that time and later, also those that were returned before.

        Rows of one instant come by and by.
        """
        return await self._fetch(connection, self.since_statement, created_at)

    async def _fetch(self, connection: Connection, statement: str, value: object) -> list[Entry]:
        async with used(connection):
            rows = await connection.fetch(statement, value)
        return [Entry(row[0], row[1], list(self._read(row[2:]))) for row in rows]

    def _read(self, values: tuple[Any, ...]) -> Iterator[Any]:
        for field, value in zip(self.fields, values, strict=True):
            yield read_labels(value) if field.kind is Kind.LABELS else value


def find_fields(table: Table) -> Iterator[Field]:
    """Yield what is shown of a row: of app_logs first what the user's own query gives."""
    values = [field for field in value_fields(table) if field.kind is not Kind.DESCRIPTION]
    if not is_users(table):
        yield from (CREATED_AT, SOURCE, *label_fields(table), *values)
        return
    by_name = {field.name: field for field in value_fields(table)}
    first = [by_name[name] for name in (OCR, "error_name", "description")]
    yield from (CREATED_AT, SOURCE, *first, *label_fields(table))
    yield from (field for field in values if field not in first and field.name != STATUS)
