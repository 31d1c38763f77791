"""List, add or rename error codes, such as UNREGISTERED_<code>; no restart is needed.

The class of a code says what it means in reports: 0 is ok and all others are failures, unless
`receiver codes class` says otherwise.

Examples:
    receiver codes list
    receiver codes add 7 LENS_DIRTY 'the lens needs cleaning'
    receiver codes rename 7 LENS_FOGGED
    receiver codes class 4 planned
    receiver codes list --table machine_states
"""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterable, Mapping
from typing import Final

from rich.console import Console
from rich.table import Table

from receiver.commands.arguments import add_actions, decode_argument, one_line
from receiver.commands.connection import connected_to_calendar
from receiver.commands.terminal import add_row, local_time, new_table, open_console, say
from receiver.config.catalogue import all_code_tables
from receiver.config.flags import add_settings
from receiver.config.sections import Section
from receiver.config.settings import Settings
from receiver.config.suggestions import did_you_mean
from receiver.config.table_names import ERROR_CODES
from receiver.errors import UsageError
from receiver.storage.editing.calendar import CLASSES, classify, find_classes
from receiver.storage.editing.codes import Code, CodeTable
from receiver.storage.reading.tables import require_table
from receiver.web.descriptions import describe, terminal_language

SETTINGS: Final = (Section.DATABASE, Section.METRICS)
ACTIONS: Final = {
    "list": "list all codes",
    "add": "add a code",
    "rename": "rename a code",
    "class": "set whether a code is ok, a failure or planned in reports",
}
LOWEST, HIGHEST = -(2**31), 2**31 - 1


def add_arguments(parser: ArgumentParser) -> None:
    """Add the actions with their arguments."""
    actions = add_actions(parser)
    listing, add, rename, classing = (
        actions.add_parser(name, help=summary) for name, summary in ACTIONS.items()
    )
    add_table(parser, None)
    for action in (listing, add, rename, classing):
        # The flag may follow the action too; if it does not, keep the value before the action.
        add_table(action, SUPPRESS)
    for action in (add, rename, classing):
        action.add_argument("code", metavar="CODE", type=int32, help="value of the metric")
    classing.add_argument("cls", metavar="CLASS", choices=CLASSES, help="ok, failure or planned")
    for action in (add, rename):
        action.add_argument("name", metavar="NAME", type=one_line, help="such as LENS_DIRTY")
        action.add_argument(
            "description",
            metavar="DESCRIPTION",
            type=one_line,
            nargs="?",
            help="one line (default: none; when renaming, the existing one)",
        )
    for action in (listing, add, rename, classing):
        # Settings may follow the action as well as precede it.
        add_settings(action, SETTINGS)


def add_table(parser: ArgumentParser, default: str | None) -> None:
    """Add the flag for another table of codes."""
    parser.add_argument(
        "--table",
        metavar="NAME",
        type=decode_argument,
        default=default,
        help="a table that the tables file names as `codes` (default: error_codes)",
    )


def find_table(settings: Settings, name: str | None) -> CodeTable:
    """Return the table of codes of a name; without a name, error_codes.

    Raises:
        UsageError: no such table of codes is declared.
    """
    known = all_code_tables(settings.catalogue)
    if name is not None and name not in known:
        meant = did_you_mean(name, known)
        raise UsageError(
            f"--table={name}: no such table of codes is declared{meant}; declared: "
            f"{', '.join(known)}"
        )
    return CodeTable(name or ERROR_CODES)


def int32(value: str) -> int:
    """Read a code.

    Raises:
        ArgumentTypeError: it is not a 32-bit integer.
    """
    try:
        code = int(value)
    except ValueError:
        code = HIGHEST + 1
    if not LOWEST <= code <= HIGHEST:
        raise ArgumentTypeError(
            f"must be a whole number from {LOWEST} to {HIGHEST} (PostgreSQL's INT), not {value!r}"
        )
    return code


async def run(settings: Settings, arguments: Namespace) -> int:
    """Run the action.

    Raises:
        UsageError: no such table of codes is declared.
        SchemaError: the table does not exist yet.
        ErrorCodeError: the code exists already, or does not exist.
    """
    table = find_table(settings, arguments.table)
    async with connected_to_calendar(settings) as connection:
        await require_table(connection, table.name)
        if arguments.action == "list":
            codes = await table.all(connection)
            classes = await find_classes(connection, table.name, [code.code for code in codes])
            open_console().print(codes_table(codes, classes))
            return 0
        if arguments.action == "class":
            await table.require(connection, arguments.code)
            await classify(connection, table.name, arguments.code, arguments.cls)
            return 0
        change = table.add if arguments.action == "add" else table.rename
        await change(connection, arguments.code, arguments.name, arguments.description)
        namesake = await table.find_namesake(connection, arguments.code, arguments.name)
    if namesake is not None:
        say(Console(stderr=True), f"note: code {namesake.code} is called {namesake.name} too")
    return 0


def codes_table(codes: Iterable[Code], classes: Mapping[int, str]) -> Table:
    """Return error codes as a table, with their classes."""
    table = new_table(*Code._fields, "class")
    language = terminal_language()
    for code in codes:
        description = describe(code.description, language)
        created_at = local_time(code.created_at or "")
        shown = code._replace(description=description, created_at=created_at)
        add_row(table, *shown, classes[code.code])
    return table
