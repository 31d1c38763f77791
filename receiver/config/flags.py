"""Adds settings to the command line as flags, in sections."""

from __future__ import annotations

import shutil
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final, cast

from pydantic import ByteSize
from pydantic.fields import FieldInfo
from pydantic_settings import CliSettingsSource

from receiver.config.explaining import default_text
from receiver.config.sections import Section, section_of
from receiver.config.settings import Settings

PLACEHOLDERS: Final[dict[object, str]] = {
    timedelta: "DURATION",
    timedelta | None: "DURATION|off",
    ByteSize: "SIZE",
    int: "N",
    int | None: "N|off",
}
SETTING: Final = "[SETTING ...]"
"""Stands for all settings in a usage line."""
MANUAL: Final = """\
A setting can be a flag, an environment variable (--pair-timeout is RECEIVER_PAIR_TIMEOUT), a line
in the file .env of the working directory, or a file in /run/secrets named after the variable; the
first of these wins. Secrets have no flags, because `ps` would show them:
RECEIVER_DATABASE_PASSWORD, RECEIVER_BEARER_TOKEN. A DURATION is written 250ms, 5s, 1h30m or 7d, a
SIZE 64KiB or 16MiB.
"""
MORE: Final = "Other settings are accepted, too: see `receiver serve --help`."
EXIT_CODES: Final = """\
Exit codes: 0, success; 1, failure, with a line on standard error that says why; 2, wrong command
line; 130, ended by Ctrl-C.
"""


def placeholder(name: str, field: FieldInfo) -> str:
    """Return the placeholder of a setting's value in the help."""
    if name == "listen":
        return "HOST:PORT"
    return PLACEHOLDERS.get(field.annotation) or name.rpartition("_")[2].upper()


def write_usage(parser: ArgumentParser) -> str:
    """Return a command's usage line with the settings at its end."""
    usage = parser.format_usage().strip()
    last = usage.rpartition("\n")[2]
    # argparse leaves two columns free at the right.
    full = len(f"{last} {SETTING}") > shutil.get_terminal_size().columns - 2
    gap = "\n" + " " * len(f"usage: {parser.prog} ") if full else " "
    return f"{usage.removeprefix('usage: ')}{gap}{SETTING}"


def add_settings(
    parser: ArgumentParser, shown: Collection[Section] = tuple(Section)
) -> CliSettingsSource[Settings]:
    """Add every setting to a command as a flag; the help lists only some sections.

    Args:
        parser: The command's parser, with all of its own arguments.
        shown: The sections whose settings the help lists.
    """
    parser.usage = write_usage(parser)
    more = [] if len(shown) == len(Section) else [MORE]
    parser.epilog = "\n\n".join([MANUAL, *more, EXIT_CODES])
    groups = {section: parser.add_argument_group(f"{section} (settings)") for section in shown}

    def add(_: object, *flags: str, **options: Any) -> None:  # noqa: ANN401  argparse's
        name = options["dest"]
        field = Settings.model_fields[name]
        if options.get("metavar") and not options["metavar"].startswith("{"):
            options["metavar"] = placeholder(name, field)
        default = default_text(field)
        text = f"{field.description} (default: {default})" if default else field.description
        group = groups.get(section_of(name))
        if options["help"] != SUPPRESS:
            options["help"] = SUPPRESS if group is None else cast("str", text).replace("%", "%%")
        (group or parser).add_argument(*flags, **options)

    return CliSettingsSource(Settings, root_parser=parser, add_argument_method=add)
