"""List the tables that are filled and the metrics that fill them; this needs no database.

`check FILE` says everything that is wrong with a tables file, a line for each fault, or shows the
tables that it declares. `plan` shows the SQL that `receiver migrate` would run on the database, and
runs nothing.

Examples:
    receiver tables check tables.yaml
    receiver tables --tables-file tables.yaml
    receiver tables plan --tables-file tables.yaml
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.console import Console

from receiver.commands.terminal import add_row, new_table, open_console, say
from receiver.config.catalogue import unit_of
from receiver.config.flags import add_settings
from receiver.config.sections import Section
from receiver.config.settings import Settings
from receiver.config.tables_reader import read_catalogue
from receiver.config.value_types import write_duration
from receiver.rows.tables import Catalogue, Column, Table

SETTINGS: Final = (Section.DATABASE, Section.METRICS)
ACTIONS: Final = {
    "check": "say what is wrong with a tables file; needs no database",
    "plan": "show the SQL that `receiver migrate` would run",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Add the actions, which replace the listing."""
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", help="what to do (default: list the tables)"
    )
    check, plan = (actions.add_parser(name, help=summary) for name, summary in ACTIONS.items())
    check.add_argument("file", metavar="FILE", type=Path, help="the tables file")
    for action in (check, plan):
        # Settings may follow the action as well as precede it.
        add_settings(action, SETTINGS)


async def run(settings: Settings, arguments: Namespace) -> int:
    """Run the action, or list the tables.

    Raises:
        SettingsError: the tables file cannot be read, or is wrong.
    """
    if arguments.action == "plan":
        print_plan(await find_plan(settings))
        return 0
    checked = arguments.file if arguments.action == "check" else None
    catalogue = (
        settings.catalogue if checked is None else read_catalogue(checked, settings.durations)
    )
    print_tables(open_console(), catalogue)
    return 0


async def find_plan(settings: Settings) -> list[str]:
    """Return the SQL that a migration would run; see `receiver.storage.schema.revisions.plan`.

    Raises:
        SettingsError: the tables file cannot be read, or is wrong.
        SetupError: there is no database, or it cannot be migrated to the declared tables.
        DatabaseUnavailableError: the database cannot be reached.
    """
    # Imported here, since no other action needs a database driver.
    from receiver.embedded.running import shared_database  # noqa: PLC0415
    from receiver.storage.schema.revisions import plan  # noqa: PLC0415

    # Reads the tables file, so that an error in it is reported before a database is started.
    _ = settings.catalogue
    async with shared_database(settings) as reachable:
        return await plan(reachable)


def print_plan(statements: list[str]) -> None:
    """Print SQL that can be run as it is, comments included, or a note that there is none."""
    for statement in statements:
        end = "" if statement.startswith("--") else ";"
        print(statement.rstrip().removesuffix(";") + end)  # noqa: T201  the command's result
    if not statements:
        say(Console(stderr=True), "nothing to do: the database has all of these tables")


def print_tables(console: Console, catalogue: Catalogue) -> None:
    """Print the rows that each table holds, and the content of their columns."""
    for number, table in enumerate(catalogue.tables):
        if number:
            console.print()
        say(console, f"{table.name}: {'; '.join(describe_rows(table))}", "bold")
        columns = new_table("column", "type", "holds")
        for column in table.columns:
            add_row(columns, column.name, column.type.sql, describe_column(column))
        for label in table.labels:
            add_row(columns, label.name, label.type, f"label {label.label}")
        console.print(columns)


def describe_rows(table: Table) -> Iterator[str]:
    """Describe what identifies the rows of a table, and how long they are kept."""
    less = f" without {', '.join(sorted(table.ignoring))}" if table.ignoring else ""
    yield f"one row for each timestamp and label set{less}"
    if table.match:
        matchers = (f"{label}=~{value!r}" for label, value in sorted(table.match.items()))
        yield f"series with {', '.join(matchers)}"
    if table.required > 1 or table.optional:
        yield f"incomplete rows wait {write_duration(table.pair_timeout)}"
    if table.retention is not None:
        yield f"rows are deleted after {write_duration(table.retention)}"


def describe_column(column: Column) -> str:
    """Describe the content of a column."""
    parts = [column.metric]
    if column.codes:
        parts.append(f"explained by {column.codes}")
    if column.type.name == "timestamp":
        parts.append(f"in {unit_of(column)}")
    if column.special:
        parts.append("NaN and infinities included")
    if not column.required:
        parts.append("NULL without a sample")
    return ", ".join(parts)
