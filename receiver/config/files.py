"""Reads the files with settings: `.env` and secrets.

Text is UTF-8, with or without a byte order mark, or UTF-16 with one; line ends may be of any kind.
Errors name file and line; no message shows a value, since it may be a secret.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from dotenv.parser import Binding, parse_stream

from receiver.config.suggestions import closest
from receiver.config.value_types import is_unicode_text
from receiver.errors import SettingsError
from receiver.printable import printable

PREFIX: Final = "RECEIVER_"
KUBERNETES: Final = re.compile(rf"{PREFIX}(\w+_)?(SERVICE_HOST|SERVICE_PORT\w*|PORT(_\d+_\w+)?)")
"""Variables that Kubernetes sets in every pod if a service is called receiver or receiver-…"""
LIKENESS: Final = 0.85
"""Minimum similarity to a setting's name at which a name with a misspelt prefix is reported."""
BEHIND_PREFIX: Final = 0.75
"""Minimum similarity at which a setting is suggested for a name with the right prefix."""
LARGEST: Final = 2**20
"""Maximum size of a file in bytes."""
OURS: Final = re.compile(rf"\s*(?:export\s+)?['\"]?({PREFIX}\w*)", re.IGNORECASE)
SINGLE_QUOTED: Final = re.compile(r"[^=]*=\s*'")


class Line(NamedTuple):
    """A line NAME=VALUE in a `.env` file."""

    name: str
    """The name in capitals."""
    value: str
    place: str
    """File and line."""


class Ignored(NamedTuple):
    """Something in a `.env` file that has no effect."""

    found: str
    advice: str


class EnvFile(NamedTuple):
    """The content of a `.env` file."""

    lines: list[Line]
    """All lines `NAME=VALUE`, including other programs'; the last one if a name is repeated."""
    ignored: list[Ignored]


def read_env_file(file: Path) -> EnvFile:
    """Read a `.env` file; a missing one is empty.

    Raises:
        SettingsError: the file cannot be read, or a setting in it has no value, or a value that
        other programs would read differently.
    """
    lines: dict[str, Line] = {}
    ignored: list[Ignored] = []
    for place, binding in numbered(read_if_there(file), file):
        if binding.key is None or binding.value is None:
            ignored += unreadable(binding, place)
            continue
        line = Line(binding.key.upper(), binding.value, place)
        if line.name.startswith(PREFIX):
            check_line(line, binding)
            if before := lines.get(line.name):
                found = f"{line.name} is set in {before.place} and in {place}"
                ignored.append(Ignored(found, "the last one wins; remove the other"))
        lines[line.name] = line
    return EnvFile(list(lines.values()), ignored)


def read_if_there(file: Path) -> str:
    """Return the content of a file; empty if it is missing.

    Raises:
        SettingsError: as `read_text` does, unless the file is missing.
    """
    try:
        return read_text(file)
    except SettingsError as error:
        missing = isinstance(error.__cause__, FileNotFoundError)
        # Python virtual environments are often called .env, too.
        if missing or (file.is_dir() and (file / "pyvenv.cfg").exists()):
            return ""
        raise


def numbered(text: str, file: Path) -> Iterator[tuple[str, Binding]]:
    """Yield the entries of a `.env` file, each with its file and line."""
    for binding in parse_stream(io.StringIO(text)):
        written = binding.original.string
        # The parser counts empty lines before an entry as part of it.
        above = written[: len(written) - len(written.lstrip())]
        yield f"{file} line {binding.original.line + len(above.splitlines())}", binding


def unreadable(binding: Binding, place: str) -> list[Ignored]:
    """Report an entry that is not `NAME=VALUE`.

    Raises:
        SettingsError: the entry names a setting, which somebody meant to set.
    """
    written = binding.original.string.strip()
    if named := OURS.match(written):
        raise SettingsError(
            f"{place}: {named[1].upper()} has no = after its name, or a quote that is not closed; "
            f"write {named[1].upper()}=VALUE"
        )
    if not binding.error:  # a comment, or the bare name of another program's variable
        return []
    return [Ignored(f"{place} is not NAME=VALUE", "it is ignored; a comment begins with #")]


def check_line(line: Line, binding: Binding) -> None:
    """Check that other programs read the same value of a setting.

    Raises:
        SettingsError: the value is not text, or docker compose would substitute a variable in it.
    """
    check_encoding(line.value, f"{line.place}: {line.name}")
    if "${" in line.value and not SINGLE_QUOTED.match(binding.original.string):
        raise SettingsError(
            f"{line.place}: {line.name} has a ${{…}}, which is not replaced here: write the value "
            "itself, or put it in single quotes if the ${ is part of it"
        )


def judge_names(names: Iterable[tuple[str, str]], known: Collection[str]) -> list[Ignored]:
    """Find the names that look like settings but are not.

    Args:
        names: Each name in capitals, with the text that follows it in messages to say where it is.
        known: The names of all settings, in capitals.
    """
    ignored = []
    for name, place in names:
        if name in known or KUBERNETES.fullmatch(name):
            continue
        ours = name.startswith(PREFIX)
        # The common prefix alone makes names similar, so the default threshold would be too low.
        likeness = BEHIND_PREFIX if ours else LIKENESS
        if (meant := closest(name, known, likeness)) or ours:
            advice = f"did you mean {meant}?" if meant else "`receiver serve --help` lists all"
            ignored.append(Ignored(f"{name}{place} is not a setting", advice))
    return ignored


def read_secret(directory: Path, name: str) -> tuple[str, Path] | None:
    """Read a setting's file in a directory of secrets; the case of its name does not matter.

    Returns:
        The text and the file; None if there is none.

    Raises:
        SettingsError: the file cannot be read, or is not text.
    """
    for file in secret_files(directory):
        if file.name.upper() == f"{PREFIX}{name.upper()}":
            text = read_text(file)
            check_encoding(text, str(file))
            return text, file
    return None


def secret_files(directory: Path) -> list[Path]:
    """List the files in a directory of secrets whose names begin with the prefix of settings.

    Raises:
        SettingsError: the directory cannot be read.
    """
    try:
        files = sorted(directory.iterdir()) if directory.is_dir() else []
    except OSError as error:
        raise SettingsError(f"cannot read {directory}: {error.strerror}") from error
    return [file for file in files if file.name.upper().startswith(PREFIX)]


def read_text(file: Path) -> str:
    """Read a whole file; bytes that are not UTF-8 become lone surrogates.

    Raises:
        SettingsError: the file cannot be read, is too large, or is not text.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(LARGEST + 1)
    except OSError as error:
        raise SettingsError(f"cannot read {printable(str(file))}: {error.strerror}") from error
    if len(data) > LARGEST:
        raise SettingsError(f"{file} is larger than 1 MiB")
    try:
        text = decode(data)
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is malformed UTF-16; save it as UTF-8") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise SettingsError(
            f"{file} line {line}: has a NUL byte, as UTF-16 without a byte order mark does; "
            "save it as UTF-8"
        )
    return text


def decode(data: bytes) -> str:
    """Decode UTF-8, or UTF-16 if the data begin with its byte order mark.

    Raises:
        UnicodeDecodeError: the data are malformed UTF-16.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    # Comments and other programs' lines need not be UTF-8.
    return data.decode("utf-8-sig", "surrogateescape")


def check_encoding(value: str, place: str) -> None:
    """Check that a value was decoded from valid UTF-8.

    Raises:
        SettingsError: it was not.
    """
    if not is_unicode_text(value):
        raise SettingsError(f"{place} is not UTF-8 text; save the file as UTF-8")
