"""Runs a command with the settings from flags, environment and files."""

from __future__ import annotations

import logging
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

from pydantic_settings import CliSettingsSource

from receiver.commands.parsing import Parser
from receiver.commands.stdout import writing_output
from receiver.config.settings import SECRETS, SECRETS_DIR, Settings, find_ignored
from receiver.config.value_types import has_password
from receiver.errors import (
    NotAdditiveError,
    ReceiverError,
    SettingsError,
    TablesFileError,
    UsageError,
)
from receiver.printable import printable
from receiver.process.loop import run
from receiver.telemetry.messages import set_up_logging

BETTER: Final = (
    "`ps` shows everybody a secret on the command line; set RECEIVER_{setting} in the environment "
    f"or .env, or write it into a file of that name, in lower case, in {SECRETS_DIR}"
)

Command: TypeAlias = Callable[[Settings, Namespace], Coroutine[Any, Any, int]]
"""A command's function `run`: returns the exit code."""

logger = logging.getLogger(__name__)


def run_command(
    command: Command, parser: Parser, flags: CliSettingsSource[Settings], parsed: Namespace
) -> int:
    """Read the settings, run the command, and return its exit code.

    Args:
        command: The function to run.
        parser: Reports a wrong command line.
        flags: Reads the settings among the arguments.
        parsed: All arguments.

    Raises:
        SystemExit: the command line or a setting is wrong, or the command failed.
    """
    refuse_secrets(parser, parsed)
    refuse_empty(parser, parsed)
    try:
        settings = load_settings(flags, parsed)
        set_up_logging(settings.log_level, settings.log_format)
        warn_of_password(parsed)
        warn_of_ignored(parsed)
        with writing_output():
            return run(command(settings, parsed))
    except UsageError as error:
        parser.fail(str(error))
    except TablesFileError as error:
        sys.exit("\n".join(f"receiver: {printable(fault)}" for fault in error.faults))
    except NotAdditiveError as error:
        messages = [f"receiver: {printable(message)}" for message in error.messages]
        sys.exit("\n".join([*messages, *map(printable, error.statements)]))
    except ReceiverError as error:
        sys.exit(f"receiver: {printable(name_flags(str(error), parsed))}")
    except KeyboardInterrupt:
        sys.exit(130)


def load_settings(flags: CliSettingsSource[Settings], parsed: Namespace) -> Settings:
    """Read the settings.

    Raises:
        UsageError: a flag has a wrong value.
        SettingsError: a value from the environment or a file is wrong.
    """
    try:
        return Settings.load(flags(parsed_args=parsed))
    except SettingsError as error:
        message = name_flags(str(error), parsed)
        raise SettingsError(message) if message == str(error) else UsageError(message) from None


def name_flags(message: str, parsed: Namespace) -> str:
    """Replace settings in a message by their flags, where they were given as flags."""
    given = vars(parsed)

    def flag(found: re.Match[str]) -> str:
        name = found[1].lower()
        return f"--{name.replace('_', '-')}" if name in given else found[0]

    return re.sub(r"\bRECEIVER_([A-Z_]+)(?=[=:])", flag, message)


def refuse_secrets(parser: Parser, parsed: Namespace) -> None:
    """End with a usage error if a flag holds a secret, which `ps` shows to every user."""
    for name in sorted(SECRETS - {"database_url"}):
        if getattr(parsed, name, None):
            parser.fail(f"--{name.replace('_', '-')}: {BETTER.format(setting=name.upper())}")


def refuse_empty(parser: Parser, parsed: Namespace) -> None:
    """End with a usage error if a flag has an empty value, as from an unset variable.

    An empty environment variable is ignored; but an empty --database-url would silently mean the
    embedded database.
    """
    for name in Settings.model_fields:
        if getattr(parsed, name, None) == "":
            parser.error(f"--{name.replace('_', '-')}: needs a value")


def warn_of_password(parsed: Namespace) -> None:
    """Warn of a password in --database-url, which is accepted since many users write it there."""
    url = getattr(parsed, "database_url", None)
    if url and has_password(url):
        logger.warning("--database-url: %s", BETTER.format(setting="DATABASE_PASSWORD"))


def warn_of_ignored(parsed: Namespace) -> None:
    """Log names that look like settings but have no effect; `doctor` reports them itself."""
    if parsed.command != "doctor":
        for ignored in find_ignored():
            logger.warning("%s: %s", *ignored)
