"""How settings look on the command line: in sections, their values as one writes them."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, HelpFormatter
from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final, cast

from pydantic import ByteSize
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import CliSettingsSource

from receiver.notation import UNITS
from receiver.sections import Section, section_of
from receiver.settings import Settings

PLACEHOLDERS: Final[dict[object, str]] = {
    timedelta: "DURATION",
    timedelta | None: "DURATION|off",
    ByteSize: "SIZE",
    int: "N",
    int | None: "N|off",
}
WIDE: Final = 55
"""Characters of a usage after which settings come in a line of their own."""
SIZES: Final = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10}
MANUAL: Final = """\
Each setting is a flag, an environment variable (--pair-timeout is RECEIVER_PAIR_TIMEOUT), a line in
the file .env of the working directory, or a file of the variable's name in /run/secrets; the first
of these wins. Secrets are no flags, for `ps` would show them: RECEIVER_DATABASE_PASSWORD,
RECEIVER_BEARER_TOKEN. A DURATION is written 250ms, 5s, 1h30m or 7d, a SIZE 64KiB or 16MiB.
"""
MORE: Final = "Settings that are not listed are taken as well: see `receiver serve --help`."
EXIT_CODES: Final = """\
Exit codes: 0, it is done; 1, it failed, and a line on standard error says why; 2, the command line
is wrong; 130, ended by Ctrl-C.
"""


class ManualFormatter(HelpFormatter):
    """Fills paragraphs, but leaves those as they are that have indented lines: examples."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        # The longest command: argparse forgets that commands are indented once more.
        self._action_max_length = len("    completion")

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        return "\n\n".join(
            paragraph if "\n  " in paragraph else fill(paragraph, width, indent)
            for paragraph in text.strip("\n").split("\n\n")
        )


def placeholder(name: str, field: FieldInfo) -> str:
    """What stands for a setting's value in help."""
    if name == "listen":
        return "HOST:PORT"
    return PLACEHOLDERS.get(field.annotation) or name.rpartition("_")[2].upper()


def default_text(field: FieldInfo) -> str:
    """A setting's default as one would write it; empty if there is none to write."""
    default = field.default
    if isinstance(default, timedelta):
        return write_duration(default)
    if isinstance(default, ByteSize):
        return write_size(default)
    if isinstance(default, bool):
        return str(default).lower()
    if default is None and field.annotation in {timedelta | None, int | None}:
        return "off"
    return "" if default in {None, PydanticUndefined} else str(default)


def write_duration(duration: timedelta) -> str:
    """A duration in Prometheus' notation, in the largest unit that makes it a whole number."""
    for unit in ("d", "h", "m", "s") if duration else ("s",):
        if not duration % UNITS[unit]:
            return f"{duration // UNITS[unit]}{unit}"
    return f"{duration // UNITS['ms']}ms"


def write_size(size: int) -> str:
    """A size in the largest unit that makes it a whole number."""
    for unit, factor in SIZES.items():
        if not size % factor:
            return f"{size // factor}{unit}"
    return str(size)


def add_settings(
    parser: ArgumentParser, shown: Collection[Section] = tuple(Section)
) -> CliSettingsSource[Settings]:
    """Let a command take every setting as a flag; its help lists those of some sections.

    Args:
        parser: The command's, with all of its own arguments.
        shown: The sections that its help lists.
    """
    usage = parser.format_usage().removeprefix("usage: ").strip()
    gap = "\n" + " " * len(f"usage: {parser.prog} ") if len(usage) > WIDE else " "
    parser.usage = f"{usage}{gap}[SETTING ...]"
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
