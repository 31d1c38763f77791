"""List, add or remove comments on states: what the cause of a stop was, for example.

A comment belongs to the interval of the source's state in which its time lies. Times without an
offset are in the calendar's time zone (`receiver shifts list`). The author is who wrote the comment
last: the operating system's user, unless --author names somebody.

Examples:
    receiver comments add line-3:9101 2026-11-28T09:40 'network switch'
    receiver comments add 7 2026-11-28T09:40 'network switch' --author Kim
    receiver comments list
    receiver comments list -n 1000 --format csv >comments.csv
    receiver comments remove 7 2026-11-28T09:40
"""

from __future__ import annotations

import getpass
from argparse import SUPPRESS, ArgumentParser, Namespace
from typing import Final

from receiver.commands.arguments import (
    add_actions,
    add_table,
    clock_time,
    find_table,
    one_line,
    positive,
)
from receiver.commands.comment_files import WRITERS
from receiver.commands.connection import connected_to_calendar
from receiver.commands.naming import NAMES, find_one
from receiver.commands.output import STANDARD_OUTPUT, opened
from receiver.commands.terminal import add_row, new_table, open_console, short_labels
from receiver.config.flags import add_settings
from receiver.config.sections import Section
from receiver.config.settings import Settings
from receiver.errors import MissingEntryError
from receiver.storage.connection.database import Connection
from receiver.storage.editing import calendar
from receiver.storage.editing.calendar import Comment
from receiver.storage.reading.periods import find_moment, show_times
from receiver.storage.reading.sources import labels_of

SETTINGS: Final = (Section.DATABASE, Section.METRICS)


def add_arguments(parser: ArgumentParser) -> None:
    """Add the actions with their arguments."""
    add_table(parser, with_codes=True)
    actions = add_actions(parser)
    listing = actions.add_parser("list", help="list comments, the latest first")
    listing.add_argument("-n", dest="rows", metavar="N", type=positive, default=20)
    listing.add_argument(
        "--format", choices=("table", *WRITERS), default="table", help="default: table"
    )
    add = actions.add_parser("add", help="add a comment, or change the one at that time")
    remove = actions.add_parser("remove", help="remove a comment")
    for action in (add, remove):
        action.add_argument("source", metavar="SOURCE", type=one_line, help=NAMES)
        action.add_argument("time", metavar="TIME", type=clock_time, help="within the interval")
    add.add_argument("cause", metavar="CAUSE", type=one_line, help="in a few words")
    add.add_argument("comment", metavar="COMMENT", type=one_line, nargs="?")
    add.add_argument("--author", metavar="NAME", type=one_line, help="default: the user's name")
    for action in actions.choices.values():
        # The flag may follow the action too; if it does not, the value before the action stays.
        add_table(action, with_codes=True, default=SUPPRESS)
        add_settings(action, SETTINGS)


async def run(settings: Settings, arguments: Namespace) -> int:
    """Run the action.

    Raises:
        UsageError: no such table is declared, or several sources have the name.
        MissingEntryError: there is no such source or comment.
        SetupError: there is no database, or it has no tables.
    """
    table = find_table(settings, arguments.table, with_codes=True).name
    async with connected_to_calendar(settings) as connection:
        if arguments.action == "list":
            comments = await calendar.list_comments(connection, table, arguments.rows)
            if arguments.format == "table":
                await print_comments(connection, comments)
            else:
                zone = (await calendar.read_settings(connection)).time_zone
                with opened(STANDARD_OUTPUT) as output:
                    output.write(WRITERS[arguments.format](comments, zone))
            return 0
        source = await find_one(connection, arguments.source, table)
        moment = await find_moment(connection, arguments.time)
        if arguments.action == "add":
            words = (arguments.cause, arguments.comment or "", arguments.author or find_user())
            await calendar.comment(connection, table, Comment(source, moment, *words))
        elif not await calendar.remove_comment(connection, table, source, moment):
            (shown,) = await show_times(connection, [moment])
            raise MissingEntryError(
                f"source {arguments.source} has no comment at {shown}; `receiver comments list` "
                "shows them"
            )
    return 0


async def print_comments(connection: Connection, comments: list[Comment]) -> None:
    """Print comments as a table, with times by the clock of the calendar."""
    shown = new_table("source", "time", "cause", "comment", "author")
    times = await show_times(connection, [one.started_at for one in comments])
    labels = await labels_of(connection, {one.source_id for one in comments})
    for one, time in zip(comments, times, strict=True):
        name = short_labels(labels.get(one.source_id, {}))
        add_row(shown, f"{name} #{one.source_id}".lstrip(), time, *one[2:])
    open_console().print(shown)


def find_user() -> str | None:
    """Return the name of the operating system's user; None if it has none that can be shown."""
    try:
        name = getpass.getuser()
    # KeyError before Python 3.13.
    except (KeyError, OSError):
        return None
    return name if name.isprintable() else None
