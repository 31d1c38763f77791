"""List, add or remove comments on states: what the cause of a stop was, for example.

A comment belongs to the interval of the source's state in which its time lies. Times without an
offset are in the calendar's time zone (`receiver shifts list`).

Examples:
    receiver comments add 7 2026-11-28T09:40 'network switch' 'replaced by Kim'
    receiver comments list
    receiver comments remove 7 2026-11-28T09:40
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Final

from receiver.commands.arguments import (
    add_actions,
    add_table,
    clock_time,
    find_table,
    one_line,
    positive,
)
from receiver.commands.connection import connected_to_calendar
from receiver.commands.terminal import add_row, new_table, open_console
from receiver.config.flags import add_settings
from receiver.config.sections import Section
from receiver.config.settings import Settings
from receiver.errors import UsageError
from receiver.storage.reading import calendar
from receiver.storage.reading.calendar import Comment
from receiver.storage.reading.periods import find_moment, show_times

SETTINGS: Final = (Section.DATABASE, Section.METRICS)


def add_arguments(parser: ArgumentParser) -> None:
    """Add the actions with their arguments."""
    add_table(parser)
    actions = add_actions(parser)
    listing = actions.add_parser("list", help="list comments, the latest first")
    listing.add_argument("-n", dest="rows", metavar="N", type=positive, default=20)
    add = actions.add_parser("add", help="add a comment, or change the one of that time")
    remove = actions.add_parser("remove", help="remove a comment")
    for action in (add, remove):
        action.add_argument(
            "source", metavar="SOURCE", type=positive, help="its number, as in `receiver report`"
        )
        action.add_argument("time", metavar="TIME", type=clock_time, help="within the interval")
    add.add_argument("cause", metavar="CAUSE", type=one_line, help="in a few words")
    add.add_argument("comment", metavar="COMMENT", type=one_line, nargs="?")
    for action in actions.choices.values():
        add_settings(action, SETTINGS)


async def run(settings: Settings, arguments: Namespace) -> int:
    """Run the action.

    Raises:
        UsageError: there is no such table, source or comment.
        SetupError: there is no database, or it has no tables.
    """
    table = find_table(settings, arguments.table).name
    async with connected_to_calendar(settings) as connection:
        if arguments.action == "list":
            shown = new_table("source", "time", "cause", "comment")
            comments = await calendar.list_comments(connection, table, arguments.rows)
            times = await show_times(connection, [one.started_at for one in comments])
            for one, time in zip(comments, times, strict=True):
                add_row(shown, *one._replace(started_at=time))
            open_console().print(shown)
            return 0
        moment = await find_moment(connection, arguments.time)
        if arguments.action == "add":
            written = Comment(arguments.source, moment, arguments.cause, arguments.comment or "")
            await calendar.comment(connection, table, written)
        elif not await calendar.remove_comment(connection, table, arguments.source, moment):
            raise UsageError(f"source {arguments.source} has no comment at {moment}")
    return 0
