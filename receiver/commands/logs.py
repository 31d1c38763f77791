"""Show the newest rows of a table with the names of their codes.

Times are in the local time zone (TZ). To a file or pipe, --follow writes a row per line, with tabs
between the values.

A source is named by its instance, by its number, or by a label and its value. An error is a code
of the class failure: see `receiver codes`.

Examples:
    receiver logs -n 50
    receiver logs --errors --since 1d --source line-3:9101
    receiver logs --follow
    receiver logs --table press_readings
"""

from __future__ import annotations

import asyncio
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.table import Table

from receiver.commands.arguments import (
    add_table,
    find_table,
    moment,
    one_line,
    past,
    positive,
)
from receiver.commands.connection import connected
from receiver.commands.naming import NAMES, describe_sources
from receiver.commands.terminal import (
    add_row,
    local_time,
    new_table,
    open_console,
    print_fields,
    say,
    short_labels,
)
from receiver.config.sections import Section
from receiver.config.settings import Settings
from receiver.errors import UsageError
from receiver.storage.connection.database import Connection
from receiver.storage.reading.listing import (
    BEGINNING,
    LOOKED_AT,
    Choice,
    Entry,
    Listing,
    find_reach,
)
from receiver.storage.reading.selecting import Field, Kind
from receiver.storage.reading.sources import find_named
from receiver.storage.reading.tables import require_table
from receiver.web.descriptions import describe, terminal_language

SETTINGS: Final = (Section.DATABASE, Section.METRICS)
CLOCK: Final = re.compile(r"\d{4}-\d\d-\d\d (\d\d:\d\d:\d\d)\S*")
"""A time as it is shown; the group is its time of day."""
INTERVAL: Final = 1.0
"""Seconds between two queries."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the table, the number of rows, and --follow."""
    add_table(parser)
    parser.add_argument(
        "-n", dest="rows", metavar="N", type=positive, default=10, help="rows to show (default: 10)"
    )
    parser.add_argument(
        "--source",
        metavar="SOURCE",
        type=one_line,
        help=f"only rows of a source: {NAMES}",
    )
    parser.add_argument(
        "--errors",
        action="store_true",
        help="only rows with an error; without --since among the newest million rows",
    )
    parser.add_argument(
        "--since",
        metavar="TIME",
        type=past,
        help="2026-11-01T00:00:00Z, or a duration before now, such as 1h",
    )
    parser.add_argument("--follow", action="store_true", help="show new rows until Ctrl-C")


async def run(settings: Settings, arguments: Namespace) -> int:
    """Show rows once, or continuously with --follow.

    Raises:
        UsageError: no such table is declared.
        SchemaError: the table does not exist yet.
    """
    table = find_table(settings, arguments.table)
    if arguments.errors and not table.codes:
        raise UsageError(f"--errors: table {table.name} has no column of codes")
    console = open_console()
    async with connected(settings) as connection:
        await require_table(connection, table.name)
        choice = await choose(connection, arguments)
        reach = None
        if choice.errors and choice.since is None:
            reach = await find_reach(connection, table, choice.sources)
        listing = Listing(table, choice._replace(since=choice.since or reach))
        if not arguments.follow:
            entries = await listing.newest(connection, arguments.rows)
            console.print(show(listing, entries))
            if reach is not None and len(entries) < arguments.rows:
                explain_reach(reach)
        elif console.is_terminal:
            await refresh(console, connection, listing, arguments.rows)
        else:
            await append(console, connection, listing, arguments.rows)
    return 0


def explain_reach(reach: str) -> None:
    """Print to standard error how far back errors were searched for."""
    message = (
        f"note: only the newest {LOOKED_AT:,} rows were looked at, back to {local_time(reach)}; "
        "--since looks further back"
    )
    say(Console(stderr=True), message, "dim")


async def choose(connection: Connection, arguments: Namespace) -> Choice:
    """Return the choice of rows that the arguments state.

    Raises:
        UsageError: there is no such source.
    """
    sources = None
    if arguments.source is not None:
        sources = await find_named(connection, arguments.source)
        if not sources:
            raise UsageError(
                f"--source={arguments.source}: there is no such source"
                f"{await describe_sources(connection, arguments.source)}"
            )
    since = None
    if arguments.since is not None:
        since = moment(arguments.since, datetime.now(UTC)).isoformat()
    return Choice(sources, arguments.errors, since)


def show(listing: Listing, entries: Iterable[Entry], *, clock: bool = False) -> Table:
    """Return rows as a table for `rich`; with `clock`, times show only the time of day."""
    table = new_table(*(field.name for field in listing.fields))
    for entry in entries:
        add_row(table, *readable(listing, entry, clock=clock))
    if not table.rows:
        table.caption = "no rows yet"
    return table


def readable(listing: Listing, entry: Entry, *, clock: bool = False) -> Iterator[object]:
    """Yield the values of a row as text or numbers for people."""
    columns = {column.label for column in listing.table.labels}
    for field, value in zip(listing.fields, entry.values, strict=True):
        shown = value if value is None else readable_value(field, value, columns)
        yield CLOCK.sub(r"\1", str(shown)) if clock and field.type == "timestamptz" else shown


def readable_value(field: Field, value: Any, columns: set[str]) -> object:  # noqa: ANN401  of any type
    """Return a value with times in the local time zone and built-in texts in the local language.

    Args:
        field: The field of the value.
        value: The value.
        columns: Labels that have their own column.
    """
    if field.kind is Kind.LABELS:
        return short_labels({name: text for name, text in value.items() if name not in columns})
    if field.kind is Kind.DESCRIPTION:
        return describe(value, terminal_language())
    if field.type == "timestamptz":
        return local_time(value)
    return str(value).lower() if isinstance(value, bool) else value


async def refresh(console: Console, connection: Connection, listing: Listing, rows: int) -> None:
    """Show the newest rows in place, and refresh them."""
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(show(listing, await listing.newest(connection, rows)), refresh=True)
            await asyncio.sleep(INTERVAL)


async def append(console: Console, connection: Connection, listing: Listing, rows: int) -> None:
    """Print the newest rows, then each new one; a late row is left out if `rows` are newer."""
    entries = await listing.newest(connection, rows)
    printed: set[int] = set()
    while True:
        for entry in reversed(entries):
            if entry.id not in printed:
                print_fields(console, *readable(listing, entry))
        printed = {entry.id for entry in entries}
        since = entries[:rows][-1].created_at if entries else BEGINNING
        await asyncio.sleep(INTERVAL)
        entries = await listing.since(connection, since)
