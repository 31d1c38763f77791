"""Show the newest rows of app_logs with the names of their error codes.

Times are in the local time zone (TZ). To a file or pipe, --follow writes a row per line, with tabs
between the values.

Examples:
    receiver logs -n 50
    receiver logs --follow
"""

from __future__ import annotations

import asyncio
import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.table import Table

from receiver.commands.connection import connected
from receiver.commands.terminal import add_row, local_time, new_table, open_console, print_fields
from receiver.config.sections import Section
from receiver.config.settings import Settings
from receiver.storage.connection.database import Connection
from receiver.storage.reading.tables import BEGINNING, Log, logs_since, newest_logs
from receiver.web.descriptions import describe, terminal_language

SETTINGS: Final = (Section.DATABASE,)
INTERVAL: Final = 1.0
"""Seconds between two queries."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the number of rows, and --follow."""
    parser.add_argument(
        "-n", dest="rows", metavar="N", type=positive, default=10, help="rows to show (default: 10)"
    )
    parser.add_argument("--follow", action="store_true", help="show new rows until Ctrl-C")


def positive(text: str) -> int:
    """Read a number of at least 1.

    Raises:
        ArgumentTypeError: it is not.
    """
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) == 0:
        raise ArgumentTypeError(f"must be a whole number from 1 to 999999999, not {text!r}")
    return int(text)


async def run(settings: Settings, arguments: Namespace) -> int:
    """Show rows once, or continuously with --follow."""
    console = open_console()
    async with connected(settings) as connection:
        if not arguments.follow:
            console.print(logs_table(await newest_logs(connection, arguments.rows)))
        elif console.is_terminal:
            await refresh(console, connection, arguments.rows)
        else:
            await append(console, connection, arguments.rows)
    return 0


def logs_table(logs: Iterable[Log]) -> Table:
    """Return rows as a table."""
    table = new_table(*Log._fields)
    for log in logs:
        add_row(table, *readable(log))
    if not table.rows:
        table.caption = "no rows yet"
    return table


def readable(log: Log) -> Log:
    """Return a row with times in the local time zone and built-in texts in the local language."""
    return log._replace(
        created_at=local_time(log.created_at),
        ocr_value=local_time(log.ocr_value),
        description=describe(log.description, terminal_language()),
    )


async def refresh(console: Console, connection: Connection, rows: int) -> None:
    """Show the newest rows in place, and refresh them."""
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(logs_table(await newest_logs(connection, rows)), refresh=True)
            await asyncio.sleep(INTERVAL)


async def append(console: Console, connection: Connection, rows: int) -> None:
    """Print the newest rows, then each new one, except those followed by `rows` newer ones."""
    logs = await newest_logs(connection, rows)
    printed: set[int] = set()
    while True:
        for log in reversed(logs):
            if log.id not in printed:
                print_fields(console, *readable(log))
        printed = {log.id for log in logs}
        since = logs[:rows][-1].created_at if logs else BEGINNING
        await asyncio.sleep(INTERVAL)
        logs = await logs_since(connection, since)
