"""Arguments that several commands share."""

from __future__ import annotations

import os
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast
from urllib.parse import urlsplit

from receiver.config.files import read_text
from receiver.config.settings import Settings
from receiver.config.suggestions import did_you_mean
from receiver.config.value_types import BLANKS, is_unicode_text, parse_duration
from receiver.errors import SetupError, UsageError
from receiver.rows.tables import Table
from receiver.storage.reading.selecting import default_states, default_table

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    Actions: TypeAlias = _SubParsersAction[ArgumentParser]


def base_url(text: str, example: str = "http://localhost:9090") -> str:
    """Check a URL, which may hold a password: the error message does not show it.

    Args:
        text: The URL.
        example: A valid one, for the error message.

    Raises:
        ArgumentTypeError: it is not an HTTP URL.
    """
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ArgumentTypeError(f"must be a URL such as {example}")
    return text


def duration(text: str) -> timedelta:
    """Read a duration in Prometheus' format.

    Raises:
        ArgumentTypeError: it is malformed.
    """
    try:
        return cast("timedelta", parse_duration(text))
    except ValueError as error:
        raise ArgumentTypeError(f"{error}, not {text!r}") from None


def read_token(file: Path) -> str:
    """Read a file that holds a bearer token.

    Raises:
        SetupError: it cannot be read, or holds something else; the message shows no content.
    """
    token = read_text(file).strip(BLANKS)
    if not re.fullmatch(r"[!-~]+", token):
        raise SetupError(f"{file}: must hold one token, without spaces")
    return token


def add_table(
    parser: ArgumentParser, *, with_codes: bool = False, default: str | None = None
) -> None:
    """Add the flag that selects one of the declared tables, by default one with codes if needed."""
    first = "the first with codes" if with_codes else "the first"
    parser.add_argument(
        "--table",
        metavar="NAME",
        type=decode_argument,
        default=default,
        help=f"the table; `receiver tables` lists them (default: app_logs, else {first})",
    )


def find_table(settings: Settings, name: str | None, *, with_codes: bool = False) -> Table:
    """Return the declared table of a name, or the default one.

    Args:
        settings: The settings, with the tables.
        name: The name; None: app_logs, else the first table.
        with_codes: Whether the default is the first table with codes, if any has.

    Raises:
        UsageError: no such table is declared.
        SettingsError: the tables file cannot be read, or is wrong.
    """
    catalogue = settings.catalogue
    if name is None:
        return default_states(catalogue) if with_codes else default_table(catalogue)
    if name not in catalogue.by_name:
        tables = ", ".join(catalogue.by_name)
        meant = did_you_mean(name, catalogue.by_name)
        raise UsageError(f"--table={name}: no such table is declared{meant}; declared: {tables}")
    return catalogue.by_name[name]


def label(text: str) -> tuple[str, str]:
    """Read a label, NAME=VALUE.

    Raises:
        ArgumentTypeError: it is malformed.
    """
    name, equals, value = decode_argument(text).partition("=")
    if not (name and equals):
        raise ArgumentTypeError(f"must be NAME=VALUE, such as job=camera, not {text!r}")
    return name, value


def add_match(parser: ArgumentParser) -> None:
    """Add the flag that selects sources by labels; `wanted_labels` reads it."""
    parser.add_argument(
        "--match",
        metavar="NAME=VALUE",
        type=label,
        action="append",
        default=[],
        help="only sources with this label; repeat it for sources with several labels",
    )


def wanted_labels(arguments: Namespace) -> dict[str, str]:
    """Return the labels that sources must have, as `add_match` takes them.

    Raises:
        UsageError: a label is matched twice; a source has one value of it.
    """
    labels: dict[str, str] = {}
    for name, value in arguments.match:
        if name in labels:
            raise UsageError(f"--match={name}={value}: {name} is matched twice")
        labels[name] = value
    return labels


def add_actions(parser: ArgumentParser) -> Actions:
    """Add the subparsers of actions, one of which is required."""
    return parser.add_subparsers(dest="action", required=True, metavar="ACTION", help="what to do")


def positive(text: str) -> int:
    """Read a number of at least 1.

    Raises:
        ArgumentTypeError: it is malformed or out of range.
    """
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) == 0:
        raise ArgumentTypeError(f"must be a whole number from 1 to 999999999, not {text!r}")
    return int(text)


def decode_argument(value: str) -> str:
    """Decode an argument as UTF-8 even if the locale has another encoding.

    In a locale such as C or Latin-1 with a terminal in UTF-8, Korean text would be stored wrongly.
    Text of another encoding is hardly ever valid UTF-8 by chance.

    Raises:
        ArgumentTypeError: it is not text in UTF-8 or in the locale's encoding.
    """
    encoding = sys.getfilesystemencoding().lower()
    if not (value.isascii() or encoding.startswith("utf")):
        with suppress(UnicodeError):
            return os.fsencode(value).decode()
    if not is_unicode_text(value):
        raise ArgumentTypeError(f"must be text in UTF-8, not {value!r}")
    return value


def past(text: str) -> str:
    """Check a time, or a duration before now; `moment` converts it later.

    Raises:
        ArgumentTypeError: it is neither.
    """
    try:
        moment(text, datetime.now(UTC))
    except SetupError as error:
        raise ArgumentTypeError(str(error)) from None
    return text


def moment(text: str, now: datetime) -> datetime:
    """Convert a time, or a duration before `now`.

    Raises:
        SetupError: it is neither.
    """
    try:
        return now - cast("timedelta", parse_duration(text))
    except (ValueError, OverflowError):
        pass
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise SetupError(
            f"must be a time such as 2026-11-01T00:00:00Z, or 7d for seven days ago, not {text!r}"
        ) from None


def clock_time(text: str) -> datetime | timedelta:
    """Read a time, in the calendar's time zone if it names none, or a duration before now.

    Raises:
        ArgumentTypeError: it is neither.
    """
    try:
        return cast("timedelta", parse_duration(text))
    except (ValueError, OverflowError):
        pass
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(
            f"must be a time such as 2026-11-01T06:00, or 7d for seven days ago, not {text!r}"
        ) from None


def one_line(value: str) -> str:
    """Read a text of one line.

    Raises:
        ArgumentTypeError: it is empty, or not one line of printable text.
    """
    value = decode_argument(value).strip(BLANKS)
    if not value:
        raise ArgumentTypeError("must not be empty")
    if not value.isprintable():
        raise ArgumentTypeError(f"must be one line of printable text, not {value!r}")
    return value


def calendar_day(text: str) -> date:
    """Read a date.

    Raises:
        ArgumentTypeError: it is not a date.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"must be a date such as 2026-11-28, not {text!r}") from None
