"""List or change the calendar of reports: shifts, holidays, the time zone and limits.

Days and shifts are in the calendar's time zone. A shift that ends no later than it starts
goes on over midnight, and belongs to the day on which it starts.

Examples:
    receiver shifts set --time-zone Asia/Seoul
    receiver shifts add day 07:00 19:00 --days mon-fri
    receiver shifts add night 19:00 07:00
    receiver shifts holiday 2027-01-01 '신정'
    receiver shifts list
"""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from datetime import time
from typing import Final

from receiver.commands.arguments import (
    add_actions,
    calendar_day,
    decode_argument,
    duration,
    one_line,
)
from receiver.commands.connection import connected_to_calendar
from receiver.commands.terminal import add_row, new_table, open_console, say
from receiver.config.flags import add_settings
from receiver.config.sections import Section
from receiver.config.settings import Settings
from receiver.config.value_types import write_duration
from receiver.errors import MissingEntryError, UsageError
from receiver.storage.connection.database import Connection
from receiver.storage.editing import calendar
from receiver.storage.editing.calendar import ReportSettings, Shift

SETTINGS: Final = (Section.DATABASE,)
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the actions with their arguments."""
    actions = add_actions(parser)
    actions.add_parser("list", help="list shifts, holidays and settings")
    add = actions.add_parser("add", help="add a shift, or change the one with that name")
    add.add_argument("name", metavar="NAME", type=one_line, help="such as night")
    add.add_argument("starts", metavar="START", type=clock, help="such as 22:00")
    add.add_argument("ends", metavar="END", type=clock, help="such as 06:00, on the next day")
    add.add_argument(
        "--days",
        type=weekdays,
        default=list(range(1, 8)),
        metavar="DAYS",
        help="days on which it starts, such as mon-fri or sat,sun (default: all)",
    )
    add.add_argument("--on-holidays", action="store_true", help="it takes place on holidays too")
    remove = actions.add_parser("remove", help="remove a shift")
    remove.add_argument("name", metavar="NAME", type=decode_argument)
    holiday = actions.add_parser("holiday", help="add a day on which no shift starts")
    holiday.add_argument("day", metavar="DATE", type=calendar_day, help="such as 2027-01-01")
    holiday.add_argument("holiday", metavar="NAME", type=one_line, nargs="?")
    workday = actions.add_parser("workday", help="remove a holiday")
    workday.add_argument("day", metavar="DATE", type=calendar_day)
    change = actions.add_parser("set", help="change settings of all reports")
    change.add_argument(
        "--time-zone", metavar="ZONE", type=decode_argument, help="such as Asia/Seoul"
    )
    change.add_argument(
        "--micro-stop",
        metavar="DURATION",
        type=duration,
        help="a failure shorter than this is a micro-stop (default: 5m)",
    )
    change.add_argument(
        "--max-gap",
        metavar="DURATION|auto",
        type=gap,
        help="a row holds until the next one if that comes within this time (default: auto, three "
        "intervals of its source)",
    )
    for action in actions.choices.values():
        add_settings(action, SETTINGS)


def clock(text: str) -> time:
    """Read a time of the day.

    Raises:
        ArgumentTypeError: it is malformed.
    """
    if not re.fullmatch("([01]?[0-9]|2[0-3]):[0-5][0-9]", text):
        raise ArgumentTypeError(f"must be a time such as 07:00, not {text!r}")
    hour, minute = map(int, text.split(":"))
    return time(hour, minute)


def weekdays(text: str) -> list[int]:
    """Read days of the week: 1 is Monday.

    Raises:
        ArgumentTypeError: they are malformed.
    """
    found: set[int] = set()
    for part in text.lower().split(","):
        first, _, last = part.partition("-")
        try:
            start, end = DAYS.index(first), DAYS.index(last or first)
        except ValueError:
            raise ArgumentTypeError(
                f"must be days such as mon-fri or sat,sun, not {text!r}"
            ) from None
        found |= {1 + (start + place) % 7 for place in range((end - start) % 7 + 1)}
    return sorted(found)


def gap(text: str) -> object:
    """Read a duration of up to a day, or `auto`.

    Raises:
        ArgumentTypeError: it is neither.
    """
    if text == "auto":
        return text
    length = duration(text)
    if not 0 < length.total_seconds() <= 86400:
        raise ArgumentTypeError(
            f"must be auto, or a duration of more than 0s up to 1d, not {text!r}"
        )
    return length


async def run(settings: Settings, arguments: Namespace) -> int:
    """Run the action.

    Raises:
        UsageError: there is no such time zone, or nothing to change.
        MissingEntryError: there is no such shift or holiday.
        SetupError: there is no database, or it has no tables.
    """
    async with connected_to_calendar(settings) as connection:
        await ACTIONS[arguments.action](connection, arguments)
    return 0


async def show(connection: Connection, _: Namespace) -> None:
    """Print the calendar."""
    console = open_console()
    known = await calendar.read_settings(connection)
    max_gap = "auto" if known.max_gap is None else write_duration(known.max_gap)
    say(
        console,
        f"time zone {known.time_zone}, micro-stop {write_duration(known.micro_stop)}, "
        f"max gap {max_gap}",
    )
    table = new_table("shift", "starts", "ends", "days", "on holidays")
    for shift in await calendar.list_shifts(connection):
        days = ",".join(DAYS[day - 1] for day in shift.days)
        times = (f"{at:%H:%M}" for at in (shift.starts, shift.ends))
        add_row(table, shift.name, *times, days, "yes" if shift.on_holidays else "no")
    console.print(table)
    for day, name in await calendar.list_holidays(connection):
        say(console, f"holiday {day} {name or ''}".rstrip())


async def add(connection: Connection, arguments: Namespace) -> None:
    """Add a shift."""
    shift = Shift(
        arguments.name, arguments.starts, arguments.ends, arguments.days, arguments.on_holidays
    )
    await calendar.add_shift(connection, shift)


async def remove(connection: Connection, arguments: Namespace) -> None:
    """Remove a shift.

    Raises:
        MissingEntryError: there is no such shift.
    """
    if not await calendar.remove_shift(connection, arguments.name):
        raise MissingEntryError(
            f"there is no shift {arguments.name}; `receiver shifts list` shows them"
        )


async def add_holiday(connection: Connection, arguments: Namespace) -> None:
    """Add a holiday."""
    await calendar.add_holiday(connection, arguments.day, arguments.holiday)


async def remove_holiday(connection: Connection, arguments: Namespace) -> None:
    """Remove a holiday.

    Raises:
        MissingEntryError: the day is not a holiday.
    """
    if not await calendar.remove_holiday(connection, arguments.day):
        raise MissingEntryError(
            f"{arguments.day} is not a holiday; `receiver shifts list` shows them"
        )


async def change(connection: Connection, arguments: Namespace) -> None:
    """Change the settings of all reports.

    Raises:
        UsageError: no setting is given, or there is no such time zone.
    """
    if (arguments.time_zone, arguments.micro_stop, arguments.max_gap) == (None, None, None):
        raise UsageError("give at least one of --time-zone, --micro-stop and --max-gap")
    known = await calendar.read_settings(connection)
    max_gap = known.max_gap if arguments.max_gap is None else arguments.max_gap
    await calendar.change_settings(
        connection,
        ReportSettings(
            arguments.time_zone or known.time_zone,
            known.micro_stop if arguments.micro_stop is None else arguments.micro_stop,
            None if max_gap == "auto" else max_gap,
        ),
    )


ACTIONS: Final = {
    "list": show,
    "add": add,
    "remove": remove,
    "holiday": add_holiday,
    "workday": remove_holiday,
    "set": change,
}
