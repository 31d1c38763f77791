"""Lists the newest rows of a table, as `receiver logs` and the demo show them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from receiver.rows.tables import Table
from receiver.storage.connection.connecting import is_distributed
from receiver.storage.connection.database import Connection, used
from receiver.storage.connection.places import literal, quote
from receiver.storage.reading.selecting import (
    CREATED_AT,
    ID,
    OCR,
    STATUS,
    Field,
    Kind,
    chosen_sources,
    is_users,
    label_fields,
    select,
    value_fields,
)
from receiver.storage.reading.sources import LABELS, read_labels

BEGINNING: Final = "-infinity"
SOURCE: Final = Field("source", "jsonb", LABELS, Kind.LABELS)


LOOKED_AT: Final = 1_000_000
"""Rows that are searched for errors if no start is given, which takes about a second."""

# The time of the row that $1 rows are newer than; NULL if there are not that many.
_REACH: Final = """
SELECT created_at FROM {table} WHERE created_at <= now()
ORDER BY created_at DESC OFFSET $1 LIMIT 1
"""
# The same for chosen sources ($2), each with its share of the rows.
_REACH_OF_CHOSEN: Final = """
SELECT max(of_one.created_at) FROM {chosen} JOIN LATERAL (
    SELECT source_id, created_at FROM {table}
    WHERE created_at <= now() AND source_id >= chosen.id AND source_id <= chosen.id
    ORDER BY source_id DESC, created_at DESC
    OFFSET $1::bigint / cardinality($2::int[]) LIMIT 1
) AS of_one ON of_one.source_id = chosen.id
"""


class Entry(NamedTuple):
    """A row, with the values that are shown."""

    id: int
    created_at: str
    values: list[Any]
    """One for each field; labels as a mapping."""


class Choice(NamedTuple):
    """Which rows to list."""

    sources: Sequence[int] | None = None
    """None: those of all sources."""
    errors: bool = False
    """Only those whose first code is of the class `failure`."""
    since: str | None = None
    """None: however old."""


class Listing:
    """Reads the newest rows of a table, newest first.

    Times are as PostgreSQL writes them, in UTC: TIMESTAMPTZ holds years that datetime does not.
    Rows in the future are left out: one that a wrong clock has dated years ahead would come first
    for years.

    Args:
        table: The table.
        choice: Which rows; by default all.
        short: Whether to leave out ids and descriptions.
    """

    def __init__(self, table: Table, choice: Choice | None = None, *, short: bool = False) -> None:
        self.table = table
        self._choice = choice or Choice()
        self.fields = list(find_fields(table))
        if short:
            left_out = (ID.name, "description")
            self.fields = [field for field in self.fields if field.name not in left_out]
        fields = (ID, CREATED_AT, *self.fields)
        order = "ORDER BY l.created_at DESC"
        # For chosen sources, the inner query returns up to $1 rows of each.
        limited = order if self._choice.sources is None else f"{order} LIMIT $1"
        newest, since = choose_rows(table, self._choice)
        self.newest_statement = select(table, fields, newest, limited)
        self.since_statement = select(table, fields, since, order)
        newest, since = choose_rows(table, self._choice, distributed=True)
        self._distributed = {
            self.newest_statement: select(table, fields, newest, limited),
            self.since_statement: select(table, fields, since, order),
        }

    async def newest(self, connection: Connection, limit: int) -> list[Entry]:
        """Return at most `limit` of the newest rows."""
        return await self._fetch(connection, self.newest_statement, limit)

    async def since(self, connection: Connection, created_at: str) -> list[Entry]:
        """Return all rows of that time and later, including rows that were returned before.

        Rows with the same time may be stored one after the other.
        """
        return await self._fetch(connection, self.since_statement, created_at)

    async def _fetch(self, connection: Connection, statement: str, value: object) -> list[Entry]:
        async with used(connection):
            sources = [] if self._choice.sources is None else [self._choice.sources]
            if await is_distributed(connection):
                statement = self._distributed[statement]
            rows = await connection.fetch(statement, value, *sources)
        return [Entry(row[0], row[1], list(self._read(row[2:]))) for row in rows]

    def _read(self, values: tuple[Any, ...]) -> Iterator[Any]:
        for field, value in zip(self.fields, values, strict=True):
            yield read_labels(value) if field.kind is Kind.LABELS else value


async def find_reach(
    connection: Connection, table: Table, sources: Sequence[int] | None
) -> str | None:
    """Return from which time on there are `LOOKED_AT` rows, of these sources or of all.

    Returns:
        A time as PostgreSQL writes it; None if there are not that many.

    Raises:
        ReceiverError: as `translated` does.
    """
    statement = _REACH if sources is None else _REACH_OF_CHOSEN
    chosen = [] if sources is None else [sources]
    async with used(connection):
        of = chosen_sources("$2", distributed=await is_distributed(connection))
        found: str | None = await connection.fetchval(
            statement.format(table=quote(table.name), chosen=of), LOOKED_AT, *chosen
        )
    return found


# Rows of each chosen source ($2), by the primary key; `newest_view.OWN` says why not `=`.
EACH: Final = """
SELECT of_one.* FROM {chosen} JOIN LATERAL (
    {rows} AND source_id >= chosen.id AND source_id <= chosen.id {rest}
) AS of_one ON of_one.source_id = chosen.id
"""


def choose_rows(table: Table, choice: Choice, *, distributed: bool = False) -> tuple[str, str]:
    """Write the queries for the newest $1 rows, and for those since $1; $2 are the sources."""
    conditions = ["created_at <= now()"]
    if choice.since is not None:
        conditions.append(f"created_at >= {literal(choice.since)}::timestamptz")
    if choice.errors:
        conditions.append(fails(table))
    rows = f"SELECT * FROM {quote(table.name)} WHERE {' AND '.join(conditions)}"
    if choice.sources is None:
        return f"{rows} ORDER BY created_at DESC LIMIT $1", f"{rows} AND created_at >= $1"
    order = "ORDER BY source_id DESC, created_at DESC LIMIT $1"
    chosen = chosen_sources("$2", distributed=distributed)
    newest = EACH.format(chosen=chosen, rows=rows, rest=order)
    return newest, EACH.format(chosen=chosen, rows=rows, rest="AND created_at >= $1")


def fails(table: Table) -> str:
    """Write the condition that the first code of a row is of the class `failure`."""
    column = table.codes[0]
    return f"""{quote(column.name)} <> ALL (ARRAY(
    SELECT e.code FROM {quote(column.codes)} e
    WHERE COALESCE((
        SELECT c.class FROM code_classes c
        WHERE c.code_table = {literal(column.codes)} AND c.code = e.code
    ), CASE e.code WHEN 0 THEN 'ok' ELSE 'failure' END) <> 'failure'
))"""


def find_fields(table: Table) -> Iterator[Field]:
    """Yield the fields shown of a row; of app_logs, those of the user's own query come first."""
    values = [field for field in value_fields(table) if field.kind is not Kind.DESCRIPTION]
    if not is_users(table):
        yield from (CREATED_AT, SOURCE, *label_fields(table), *values)
        return
    by_name = {field.name: field for field in value_fields(table)}
    first = [by_name[name] for name in (OCR, "error_name", "description")]
    yield from (ID, CREATED_AT, SOURCE, *first, *label_fields(table))
    yield from (field for field in values if field not in first and field.name != STATUS)
