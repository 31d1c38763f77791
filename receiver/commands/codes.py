"""List, add or rename error codes, such as UNREGISTERED_<code>; no restart is needed.

Examples:
    receiver codes list
    receiver codes add 7 LENS_DIRTY 'the lens needs cleaning'
    receiver codes rename 7 LENS_FOGGED
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.table import Table

from receiver.commands.arguments import decode_argument
from receiver.commands.connection import connected
from receiver.commands.terminal import add_row, local_time, new_table, open_console, say
from receiver.config.flags import add_settings
from receiver.config.sections import Section
from receiver.config.settings import Settings
from receiver.config.value_types import BLANKS
from receiver.storage.reading.tables import Code, add_code, find_namesake, list_codes, rename_code
from receiver.web.descriptions import describe, terminal_language

SETTINGS: Final = (Section.DATABASE,)
ACTIONS: Final = {
    "list": "list all codes",
    "add": "add a code",
    "rename": "give a code another name",
}
LOWEST, HIGHEST = -(2**31), 2**31 - 1


def add_arguments(parser: ArgumentParser) -> None:
    """Add the actions with their arguments."""
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="ACTION", help="what to do"
    )
    listing, add, rename = (
        actions.add_parser(name, help=summary) for name, summary in ACTIONS.items()
    )
    for action in (add, rename):
        action.add_argument("code", metavar="CODE", type=int32, help="value of app_status")
        action.add_argument("name", metavar="NAME", type=text, help="such as LENS_DIRTY")
        action.add_argument(
            "description",
            metavar="DESCRIPTION",
            type=text,
            nargs="?",
            help="one line (default: none; when renaming, the existing one)",
        )
    for action in (listing, add, rename):
        # A setting may stand behind the action as well as before it.
        add_settings(action, SETTINGS)


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


def text(value: str) -> str:
    """Read a name or a description.

    Raises:
        ArgumentTypeError: it is empty, or not in the terminal's encoding.
    """
    value = decode_argument(value).strip(BLANKS)
    if not value:
        raise ArgumentTypeError("must not be empty")
    if not value.isprintable():
        raise ArgumentTypeError(f"must be one line of printable text, not {value!r}")
    return value


async def run(settings: Settings, arguments: Namespace) -> int:
    """Run the action."""
    async with connected(settings) as connection:
        if arguments.action == "list":
            open_console().print(codes_table(await list_codes(connection)))
            return 0
        change = add_code if arguments.action == "add" else rename_code
        await change(connection, arguments.code, arguments.name, arguments.description)
        namesake = await find_namesake(connection, arguments.code, arguments.name)
    if namesake is not None:
        say(Console(stderr=True), f"note: code {namesake.code} is called {namesake.name} too")
    return 0


def codes_table(codes: Iterable[Code]) -> Table:
    """Return error codes as a table."""
    table = new_table(*Code._fields)
    language = terminal_language()
    for code in codes:
        description = describe(code.description, language)
        created_at = local_time(code.created_at or "")
        add_row(table, *code._replace(description=description, created_at=created_at))
    return table
