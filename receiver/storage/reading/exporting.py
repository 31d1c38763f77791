"""Streams a range of a table, with the meaning of its codes and the labels of its sources."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, NamedTuple

import asyncpg

from receiver.errors import ReceiverError
from receiver.rows.tables import Table
from receiver.storage.connection.database import Connection, used
from receiver.storage.reading.exported import (
    COUNT_MATCHING,
    for_tables,
    select_as_numbers,
    select_as_text,
)

AT_ONCE: Final = 20_000
"""Maximum number of rows in memory; fewer if their labels are large."""
FETCHED: Final = 1_000
QUIET: Final = "SET LOCAL client_min_messages = error; SET LOCAL extra_float_digits = 1"
"""Suppresses notices, and sends all digits of numbers."""
LABELS_AT_ONCE: Final = 32 * 1024**2
"""Characters of labels in memory after which rows are passed on; one more fetch may exceed it."""

_CALENDAR_IS_READABLE: Final = """
SELECT has_table_privilege(to_regclass('report_settings'), 'SELECT')
"""
_ZONE: Final = "SELECT time_zone FROM report_settings"


class IncompleteExportError(ReceiverError):
    """Rows that the database sent are not in the file."""


class Selection(NamedTuple):
    """The rows to export."""

    table: Table
    start: datetime
    end: datetime
    """Exclusive."""
    labels: Mapping[str, str]
    """The labels that a source must have."""

    def arguments(self) -> tuple[str, str, str]:
        """Return the arguments of the statements."""
        return self.start.isoformat(), self.end.isoformat(), json.dumps(dict(self.labels))


class Sources(NamedTuple):
    """Counts of the sources that a selection names."""

    matching: int
    large: int
    """How many sources have labels larger than `observing.LARGEST_LABELS`, which are neither
    written nor compared."""


class RecordCounter:
    """Counts the records of a CSV stream of PostgreSQL, however it is split into pieces."""

    def __init__(self) -> None:
        self.records = 0
        self._quoted = 0

    def count(self, data: bytes) -> None:
        """Count the record ends in the next piece; a line break within quotes does not count."""
        parts = data.split(b'"')
        # A quote within quotes is doubled, so every second part is still outside of quotes.
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
    """Pass the rows to `output` as CSV with a header; return how many there were.

    Args:
        connection: The session.
        selection: The rows to export.
        output: Takes each piece of the file. An exception that it raises ends the export and the
            session.

    Raises:
        IncompleteExportError: the file does not have as many rows as the server sent.
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
            # Otherwise the driver may wait forever for the end of a COPY that has already ended.
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
    """Return the time zone of the calendar; UTC if there is no calendar, or it may not be read."""
    readable = await connection.fetchval(_CALENDAR_IS_READABLE)
    return str(await connection.fetchval(_ZONE)) if readable else "UTC"


def require_whole(written: int, sent: int) -> None:
    """Check that as many rows were written as the server sent.

    Raises:
        IncompleteExportError: the numbers differ.
    """
    if written != sent:
        raise IncompleteExportError(
            f"the export is incomplete: {max(written, 0)} of the {sent} rows that the database "
            "sent were written; a function that raises messages while rows are read displaces "
            "some: remove its RAISE INFO, or export to Parquet"
        )


@asynccontextmanager
async def undisturbed(connection: Connection) -> AsyncIterator[None]:
    """Open a read-only transaction in which the server sends no notices.

    When a notice arrives during a COPY, the driver drops the rows that it has buffered (asyncpg
    #1264).

    Raises:
        ReceiverError: as `translated` does.
    """
    async with used(connection), connection.transaction(readonly=True):
        await connection.execute(QUIET)
        yield


async def read_batches(
    connection: Connection, selection: Selection
) -> AsyncGenerator[list[tuple[object, ...]], None]:
    """Yield rows in lists, times in microseconds since the Unix epoch.

    Times that are infinite or after the year 294246 are None.

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
