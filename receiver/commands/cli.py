"""The command line of `receiver`; each command is a module of `receiver.commands`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Final

from receiver import __version__
from receiver.commands.parsing import Parser
from receiver.printable import replace_what_cannot_be_written

if TYPE_CHECKING:
    from pydantic_settings import CliSettingsSource

    from receiver.config.settings import Settings

COMMANDS: Final = {
    "serve": "receive and store (the default)",
    "migrate": "bring the database schema up to date",
    "tables": "list the declared tables, check a tables file, or show what migrating would do",
    "demo": "run everything on this machine, with two sample applications",
    "capture": "serve, and record the requests",
    "replay": "send recorded requests again",
    "backfill": "copy the history of a Prometheus server",
    "export": "write a range of the logs to a CSV or Parquet file",
    "logs": "show the newest logs",
    "report": "availability, failures and repairs of a shift, a day or any range",
    "codes": "list, add, rename and classify error codes",
    "shifts": "the calendar of reports: shifts, holidays, time zone",
    "stops": "list, add and remove planned stops",
    "comments": "list, add and remove comments on states",
    "credential": "make a token or password for senders",
    "doctor": "look for problems, and report what to do",
    "health": "ask the running receiver whether it is ready",
    "completion": "print a completion script for a shell",
}
DEFAULT: Final = "serve"
DESCRIPTION: Final = """\
Prometheus remote write into TimescaleDB or PostgreSQL: each scrape of app_status and ocr_value
becomes one row of app_logs. Without a COMMAND it serves, at 127.0.0.1:9201 and, where no database
is named, with an embedded PostgreSQL.
"""
EPILOG: Final = """\
Examples:
    receiver demo                        try it; Ctrl-C ends it
    receiver --database-url postgresql://receiver@db.example.com/factory
    receiver logs --follow               show new rows
    receiver doctor                      look for problems

`receiver COMMAND --help` shows the arguments, settings and exit codes of a command.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, and end the process with the command's exit code."""
    replace_what_cannot_be_written()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or (words[0].startswith("-") and words[0] not in {"-h", "--help", "--version"}):
        words.insert(0, DEFAULT)
    parser, flags = build_parser(words[0])
    parsed = parser.parse_args(words)
    # Imports pydantic, which takes 0.1 s and which `receiver --help` does not need.
    from receiver.commands.running import run_command  # noqa: PLC0415

    command = load_command(parsed.command).run
    sys.exit(run_command(command, parser, flags[parsed.command], parsed))


def build_parser(*loaded: str) -> tuple[Parser, dict[str, CliSettingsSource[Settings]]]:
    """Build the parser, and for each loaded command the source that reads settings from its flags.

    Commands that are not loaded have a name only: a frequent health check must not import the
    server.
    """
    parser = Parser("receiver", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument(
        "--version", action="version", version=f"receiver {__version__}", help="show the version"
    )
    subparsers = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND"
    )
    flags = {}
    for name, summary in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary)
        if name in loaded:
            from receiver.config.flags import add_settings  # noqa: PLC0415  as in `main`
            from receiver.config.sections import Section  # noqa: PLC0415

            command = load_command(name)
            subparser.description = command.__doc__
            command.add_arguments(subparser)
            flags[name] = add_settings(subparser, getattr(command, "SETTINGS", tuple(Section)))
    return parser, flags


def load_command(name: str) -> ModuleType:
    """Import the module of a command.

    It has `add_arguments(parser)` and `async run(settings, arguments) -> exit code`; its docstring
    is the first part of its help, and `SETTINGS`, if defined, names the sections of settings in it.
    """
    return importlib.import_module(f"receiver.commands.{name}")
