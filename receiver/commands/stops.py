"""List, add or remove planned stops: times that count neither as up nor as down.

Times without an offset are in the calendar's time zone (`receiver shifts list`).

Examples:
    receiver stops add 2026-11-28T12:00 2026-11-28T13:00 'lunch'
    receiver stops add 2026-12-01T22:00 2026-12-02T06:00 repair --match line=A
    receiver stops list
    receiver stops remove 3
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from datetime import datetime, timedelta
from typing import Final

from receiver.commands.arguments import (
    add_actions,
    add_match,
    clock_time,
    one_line,
    positive,
    wanted_labels,
)
from receiver.commands.connection import connected_to_calendar
from receiver.commands.naming import NAMES, find_one
from receiver.commands.terminal import add_row, new_table, open_console, say
from receiver.config.flags import add_settings
from receiver.config.sections import Section
from receiver.config.settings import Settings
from receiver.errors import MissingEntryError, UsageError
from receiver.storage.connection.database import Connection
from receiver.storage.editing import calendar
from receiver.storage.reading.periods import find_moment, show_times

SETTINGS: Final = (Section.DATABASE,)


def add_arguments(parser: ArgumentParser) -> None:
    """Add the actions with their arguments."""
    actions = add_actions(parser)
    listing = actions.add_parser("list", help="list planned stops, the latest first")
    listing.add_argument("-n", dest="rows", metavar="N", type=positive, default=20)
    add = actions.add_parser("add", help="add a planned stop; its number is printed")
    add.add_argument("start", metavar="START", type=clock_time, help="such as 2026-11-28T12:00")
    add.add_argument("end", metavar="END", type=clock_time, help="exclusive")
    add.add_argument("reason", metavar="REASON", type=one_line, nargs="?")
    add_match(add)
    add.add_argument("--source", metavar="SOURCE", type=one_line, help=f"only a source: {NAMES}")
    remove = actions.add_parser("remove", help="remove a planned stop")
    remove.add_argument("id", metavar="NUMBER", type=positive)
    for action in actions.choices.values():
        add_settings(action, SETTINGS)


async def run(settings: Settings, arguments: Namespace) -> int:
    """Run the action.

    Raises:
        UsageError: the stop does not end after its start, or several sources have the name.
        MissingEntryError: there is no such stop or source.
        SetupError: there is no database, or it has no tables.
    """
    async with connected_to_calendar(settings) as connection:
        await ACTIONS[arguments.action](connection, arguments)
    return 0


async def show(connection: Connection, arguments: Namespace) -> None:
    """Print the planned stops."""
    table = new_table("number", "starts", "ends", "sources", "reason")
    stops = await calendar.list_stops(connection, arguments.rows)
    shown = await show_times(
        connection, [time for stop in stops for time in (stop.started_at, stop.ended_at)]
    )
    for stop, *times in zip(stops, shown[::2], shown[1::2], strict=True):
        who = [] if stop.source_id is None else [f"#{stop.source_id}"]
        who += [f"{name}={value}" for name, value in stop.labels.items()]
        add_row(table, stop.id, *times, " ".join(who) or "all", stop.reason)
    open_console().print(table)


async def add(connection: Connection, arguments: Namespace) -> None:
    """Add a planned stop.

    Raises:
        UsageError: it does not end after its start, or several sources have the name.
        MissingEntryError: there is no such source.
    """
    start = await find_moment(connection, arguments.start)
    end = await find_moment(connection, arguments.end)
    if datetime.fromisoformat(end) - datetime.fromisoformat(start) <= timedelta(0):
        start, end = await show_times(connection, [start, end])
        raise UsageError(f"START ({start}) must lie before END ({end})")
    source = None if arguments.source is None else await find_one(connection, arguments.source)
    number = await calendar.add_stop(
        connection,
        (start, end),
        arguments.reason or "",
        source=source,
        labels=wanted_labels(arguments),
    )
    say(open_console(), str(number))


async def remove(connection: Connection, arguments: Namespace) -> None:
    """Remove a planned stop.

    Raises:
        MissingEntryError: there is no such stop.
    """
    if not await calendar.remove_stop(connection, arguments.id):
        raise MissingEntryError(
            f"there is no planned stop {arguments.id}; `receiver stops list` shows them"
        )


ACTIONS: Final = {"list": show, "add": add, "remove": remove}
