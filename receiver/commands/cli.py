"""The command `receiver` and its subcommands; each is a module of `receiver.commands`."""

from __future__ import annotations

import importlib
import logging
import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from types import ModuleType
from typing import Final

from pydantic_settings import CliSettingsSource

from receiver import __version__
from receiver.commands.parsing import Parser
from receiver.commands.stdout import writing_output
from receiver.config.flags import add_settings
from receiver.config.sections import Section
from receiver.config.settings import SECRETS, SECRETS_DIR, Settings, find_ignored
from receiver.config.value_types import has_password
from receiver.errors import ReceiverError, SettingsError, TablesFileError, UsageError
from receiver.printable import printable, replace_what_cannot_be_written
from receiver.process.loop import run
from receiver.telemetry.log import set_up_logging

COMMANDS: Final = {
    "serve": "receive and store (the default)",
    "migrate": "bring the database schema up to date",
    "tables": "list the declared tables, check a tables file, or show what migrating would do",
    "demo": "show it all on this machine, with two sample applications",
    "capture": "serve, and record the requests",
    "replay": "send recorded requests",
    "backfill": "read the history that a Prometheus still has",
    "export": "write a range of the logs to a CSV or Parquet file",
    "logs": "show the newest logs",
    "codes": "list, add and rename error codes",
    "credential": "make a token or a password for those who send",
    "doctor": "look for what is wrong, and say what to do",
    "health": "ask the running receiver whether it is ready",
    "completion": "print what makes a shell complete these commands",
}
DEFAULT: Final = "serve"
DESCRIPTION: Final = """\
Prometheus remote write into TimescaleDB or PostgreSQL: each scrape of app_status and ocr_value
becomes one row of app_logs. Without a COMMAND it serves, at 127.0.0.1:9201 and, where no database
is named, with an embedded PostgreSQL.
"""
EPILOG: Final = """\
Examples:
    receiver demo                        see it at work; Ctrl-C ends it
    receiver --database-url postgresql://receiver@db.example.com/factory
    receiver logs --follow               what comes in
    receiver doctor                      what is wrong, if something is

`receiver COMMAND --help` tells of a command's arguments, settings and exit codes.
"""

BETTER: Final = (
    "`ps` shows everybody a secret on the command line; set RECEIVER_{setting} in the environment "
    f"or .env, or write it into a file of that name, in lower case, in {SECRETS_DIR}"
)

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with the command's exit code."""
    replace_what_cannot_be_written()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or (words[0].startswith("-") and words[0] not in {"-h", "--help", "--version"}):
        words.insert(0, DEFAULT)
    parser, flags = build_parser(words[0])
    parsed = parser.parse_args(words)
    refuse_secrets(parser, parsed)
    refuse_empty(parser, parsed)
    try:
        settings = load_settings(flags[parsed.command], parsed)
        set_up_logging(settings.log_level, settings.log_format)
        warn_of_password(parsed)
        warn_of_ignored(parsed)
        with writing_output():
            code = run(load_command(parsed.command).run(settings, parsed))
    except UsageError as error:
        parser.fail(str(error))
    except TablesFileError as error:
        sys.exit("\n".join(f"receiver: {printable(fault)}" for fault in error.faults))
    except ReceiverError as error:
        sys.exit(f"receiver: {printable(name_flags(str(error), parsed))}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(code)


def load_settings(flags: CliSettingsSource[Settings], parsed: Namespace) -> Settings:
    """Read the settings.

    Raises:
        UsageError: a flag has a wrong value.
        SettingsError: a value from elsewhere is wrong.
    """
    try:
        return Settings.load(flags(parsed_args=parsed))
    except SettingsError as error:
        message = name_flags(str(error), parsed)
        raise SettingsError(message) if message == str(error) else UsageError(message) from None


def name_flags(message: str, parsed: Namespace) -> str:
    """Have a message be about a flag where a setting was given by its flag."""
    given = vars(parsed)

    def flag(found: re.Match[str]) -> str:
        name = found[1].lower()
        return f"--{name.replace('_', '-')}" if name in given else found[0]

    return re.sub(r"\bRECEIVER_([A-Z_]+)(?=[=:])", flag, message)


def build_parser(*loaded: str) -> tuple[Parser, dict[str, CliSettingsSource[Settings]]]:
    """The parser, and what reads the flags of each loaded command into settings.

    A command that is not loaded is known by name only: a health check every few seconds must not
    cost what bringing up a server costs.
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
            command = load_command(name)
            subparser.description = command.__doc__
            command.add_arguments(subparser)
            flags[name] = add_settings(subparser, getattr(command, "SETTINGS", tuple(Section)))
    return parser, flags


def refuse_secrets(parser: Parser, parsed: Namespace) -> None:
    """End with a usage error if a flag holds nothing but a secret: `ps` shows it to everybody."""
    for name in sorted(SECRETS - {"database_url"}):
        if getattr(parsed, name, None):
            parser.fail(f"--{name.replace('_', '-')}: {BETTER.format(setting=name.upper())}")


def refuse_empty(parser: Parser, parsed: Namespace) -> None:
    """End with a usage error if a flag has an empty value, as from a variable that is not set.

    An empty variable is an unset one; but who writes a flag wants something, and no database URL
    would be the embedded database.
    """
    for name in Settings.model_fields:
        if getattr(parsed, name, None) == "":
            parser.error(f"--{name.replace('_', '-')}: needs a value")


def warn_of_password(parsed: Namespace) -> None:
    """Tell whoever writes a password into the flag that holds the URL; many do, so it works."""
    url = getattr(parsed, "database_url", None)
    if url and has_password(url):
        logger.warning("--database-url: %s", BETTER.format(setting="DATABASE_PASSWORD"))


def warn_of_ignored(parsed: Namespace) -> None:
    """Log what looks like a setting and has no effect; `receiver doctor` reports it anyway."""
    if parsed.command != "doctor":
        for ignored in find_ignored():
            logger.warning("%s: %s", *ignored)


def load_command(name: str) -> ModuleType:
    """The module of a command.

    It has `add_arguments(parser)` and `async run(settings, arguments) -> exit code`, its docstring
    is the head of its help, and `SETTINGS`, if it is there, names the sections shown below.
    """
    return importlib.import_module(f"receiver.commands.{name}")
