"""Reads a range of a table, with what its codes and sources mean, as a stream."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, NamedTuple

import asyncpg

from receiver.errors import ReceiverError
from receiver.rows.tables import Table
from receiver.storage.connection.connecting import is_distributed
from receiver.storage.connection.database import Connection, used
from receiver.storage.connection.places import quote
from receiver.storage.reading.observing import LARGEST_LABELS
from receiver.storage.reading.selecting import (
    CREATED_AT,
    ID,
    SOURCE_ID,
    Field,
    Kind,
    declared,
    label_fields,
    select,
    value_fields,
)
from receiver.storage.schema.naming import unused

AT_ONCE: Final = 20_000
"""Rows that are in memory, unless their labels are large."""
FETCHED: Final = 1_000
QUIET: Final = "SET LOCAL client_min_messages = error; SET LOCAL extra_float_digits = 1"
"""Nothing but rows, and all digits of their numbers."""
LABELS_AT_ONCE: Final = 32 * 1024**2
"""Characters of labels that are in memory, but for one fetch more."""

# Not what is too large to be read. What somebody inserted may be no object, and contains not even
# the empty one.
_MATCHES: Final = f"""
CASE WHEN {{0}} = '{{{{}}}}' THEN true
    WHEN pg_column_size(s.labels) <= {LARGEST_LABELS} THEN s.labels @> {{0}}::text::jsonb
    ELSE false END
"""

# Without what would take long to be read, and then is too large to be written all the same.
_TEXT: Final = f"""
CASE WHEN pg_column_size(s.labels) <= {LARGEST_LABELS} THEN s.labels::text END
"""

# Labels of 30 MiB in each of a million rows would be no file that anybody reads.
LABELS: Final = f"""
CASE WHEN octet_length(known.labels) <= {LARGEST_LABELS} THEN known.labels
    ELSE '{{"…": "too large"}}' END
"""

_CALENDAR_IS_READABLE: Final = """
SELECT has_table_privilege(to_regclass('report_settings'), 'SELECT')
"""
_ZONE: Final = "SELECT time_zone FROM report_settings"

_KNOWN: Final = f"CROSS JOIN LATERAL (SELECT {_TEXT} AS labels OFFSET 0) AS known"
_KNOWN_DISTRIBUTED: Final = f"""
JOIN (SELECT s.id, {_TEXT} AS labels FROM sources s) AS known ON known.id = l.source_id
"""

# In the order of an index, so that the first rows come at once.
_REST: Final = f"""
{_KNOWN}
WHERE {_MATCHES.format("$3")}
ORDER BY l.created_at, l.source_id
"""

_RANGE: Final = """
SELECT * FROM {} WHERE created_at >= $1::text::timestamptz AND created_at < $2::text::timestamptz
"""

# Microseconds since the Unix epoch; 64 bits end thirty years before TIMESTAMPTZ does.
_MICROSECONDS: Final = """
CASE WHEN {0} < '294247-01-01 00:00Z' THEN (EXTRACT(EPOCH FROM {0}) * 1000000)::bigint END
"""

COUNT_MATCHING: Final = f"""
SELECT count(*) FILTER (WHERE {_MATCHES.format("$1")}) AS matching,
    count(*) FILTER (WHERE (octet_length({_TEXT}) <= {LARGEST_LABELS}) IS NOT TRUE) AS large
FROM sources s
"""


# With all six digits of the fraction, as some programs go by those of the first row. Other years,
# which ISO 8601 does not have, are as PostgreSQL writes them.
_ISO: Final = """
CASE WHEN {0} >= '0001-01-01 00:00Z' AND {0} < '10000-01-01 00:00Z'
    THEN to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
    ELSE ({0})::text END
"""

# What spreadsheets take for a date; nothing in years that they do not know.
_LOCAL: Final = """
CASE WHEN l.created_at >= '0001-01-03 00:00Z' AND l.created_at < '9999-12-30 00:00Z'
    THEN to_char(l.created_at AT TIME ZONE $4::text, 'YYYY-MM-DD HH24:MI:SS') END
"""


def exported_fields(table: Table) -> list[Field]:
    """Return the columns of a file."""
    labels = Field(unused(declared(table), "labels"), "text", LABELS, Kind.LABELS)
    return [ID, CREATED_AT, *label_fields(table), *value_fields(table), SOURCE_ID, labels]


def select_as_text(table: Table) -> str:
    """Write the statement that reads a range ($1, $2) of sources with labels ($3) for CSV.

    Times are ISO 8601 in UTC, and at the end by the clock of a time zone ($4) as well.
    """
    fields = with_times(table, _ISO)
    taken = {field.name for field in fields}
    local = Field(unused(taken, "created_at_local"), "text", _LOCAL)
    zone = Field(unused(taken, "time_zone"), "text", "$4::text")
    return select(table, [*fields, local, zone], _RANGE.format(quote(table.name)), _REST)


def select_as_numbers(table: Table) -> str:
    """Write the same statement, with times in microseconds since the Unix epoch only."""
    fields = with_times(table, _MICROSECONDS)
    return select(table, fields, _RANGE.format(quote(table.name)), _REST)


def with_times(table: Table, written: str) -> list[Field]:
    """Return the columns of a file, with an expression for each time."""
    return [
        field._replace(expression=written.format(field.expression))
        if field.type == "timestamptz"
        else field
        for field in exported_fields(table)
    ]


async def for_tables(connection: Connection, statement: str) -> str:
    """Return the statement for the tables as they are: Citus may distribute them."""
    distributed = await is_distributed(connection)
    return statement.replace(_KNOWN, _KNOWN_DISTRIBUTED) if distributed else statement


class IncompleteExportError(ReceiverError):
    """Rows that the database sent are not in the file."""


class Selection(NamedTuple):
    """Which rows."""

    table: Table
    start: datetime
    end: datetime
    """Not included."""
    labels: Mapping[str, str]
    """What a source must have."""

    def arguments(self) -> tuple[str, str, str]:
        """For the statements."""
        return self.start.isoformat(), self.end.isoformat(), json.dumps(dict(self.labels))


class Sources(NamedTuple):
    """What is to be said of the sources that a selection names."""

    matching: int
    large: int
    """How many sources have labels larger than `LARGEST_LABELS`, which are neither written nor
    compared."""


class RecordCounter:
    """Counts the records of a CSV stream as PostgreSQL writes it, whichever way it is cut."""

    def __init__(self) -> None:
        self.records = 0
        self._quoted = 0

    def count(self, data: bytes) -> None:
        """Count the ends of records in the next piece; a line's end within quotes is none."""
        parts = data.split(b'"')
        # A quote within quotes is doubled, so that each second part is outside all the same.
        self.records += sum(part.count(b"\n") for part in parts[self._quoted :: 2])
        self._quoted = (self._quoted + len(parts) - 1) % 2


async def find_sources(connection: Connection, selection: Selection) -> Sources:
    """Count the sources that have the labels of a selection.

    Raises:
        ReceiverError: as `translated` does.
    """
    async with used(connection):
        _, _, labels = selection.arguments()
        return Sources(*await connection.fetchrow(COUNT_MATCHING, labels))


async def copy_csv(
    connection: Connection, selection: Selection, output: Callable[[bytes], object]
) -> int:
    """Hand over the rows as CSV with a header; returns how many there were.

    Args:
        connection: The session.
        selection: Which rows.
        output: Takes each piece of the file. What it raises ends the export and the session.

    Raises:
        IncompleteExportError: what was handed over is not what the server sent.
        ReceiverError: as `translated` does; whatever `output` raises.
    """
    counter = RecordCounter()
    failures: list[Exception] = []

    async def write(data: bytes) -> None:
        counter.count(data)
        try:
            output(data)
        except Exception as error:
            failures.append(error)
            # Else the driver may wait for ever: for the end of a COPY that has ended already.
            connection.terminate()
            raise

    try:
        async with undisturbed(connection):
            zone = await find_zone(connection)
            status = await connection.copy_from_query(
                await for_tables(connection, select_as_text(selection.table)),
                *(*selection.arguments(), zone),
                output=write,
                format="csv",
                header=True,
            )
    except Exception:
        if failures:
            raise failures[0] from None
        raise
    rows = int(status.removeprefix("COPY "))
    require_whole(counter.records - 1, rows)
    return rows


async def find_zone(connection: Connection) -> str:
    """Return the time zone of the calendar; UTC where there is none, or it may not be read."""
    readable = await connection.fetchval(_CALENDAR_IS_READABLE)
    return str(await connection.fetchval(_ZONE)) if readable else "UTC"


def require_whole(written: int, sent: int) -> None:
    """Check that as many rows were written as the server sent.

    Raises:
        IncompleteExportError: they were not.
    """
    if written != sent:
        raise IncompleteExportError(
            f"the export is not whole: of {sent} rows that the database sent {max(written, 0)} "
            "were written; a function that raises messages while rows are read displaces some: "
            "remove its RAISE INFO, or export to Parquet"
        )


@asynccontextmanager
async def undisturbed(connection: Connection) -> AsyncIterator[None]:
    """A transaction that changes nothing and in which the server sends nothing but what is asked.

    The driver drops rows of a COPY that it holds when a notice comes between them (asyncpg #1264).

    Raises:
        ReceiverError: as `translated` does.
    """
    async with used(connection), connection.transaction(readonly=True):
        await connection.execute(QUIET)
        yield


async def read_batches(
    connection: Connection, selection: Selection
) -> AsyncGenerator[list[tuple[object, ...]], None]:
    """The rows in lists, times in microseconds since the Unix epoch; None after the year 294246.

    Raises:
        ReceiverError: as `translated` does.
    """
    batch: list[asyncpg.Record] = []
    size = 0
    async with undisturbed(connection):
        statement = await for_tables(connection, select_as_numbers(selection.table))
        cursor = await connection.cursor(statement, *selection.arguments())
        while rows := await cursor.fetch(min(FETCHED, AT_ONCE)):
            batch += rows
            size += sum(len(row[-1]) for row in rows)
            if len(batch) >= AT_ONCE or size >= LABELS_AT_ONCE:
                yield list(map(tuple, batch))
                batch, size = [], 0
    if batch:
        yield list(map(tuple, batch))
