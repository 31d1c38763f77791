"""What several commands take on the command line."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from receiver.errors import SetupError
from receiver.notation import parse_duration


def base_url(text: str) -> str:
    """Check a URL, which may hold a password: the message does not show it.

    Raises:
        ArgumentTypeError: nothing can be asked there.
    """
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ArgumentTypeError("must be a URL such as http://localhost:9090")
    return text


def read_token(file: Path) -> str:
    """Read a file that holds a bearer token.

    Raises:
        SetupError: it cannot be read, or holds something else; nothing of it is shown.
    """
    try:
        token = file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise SetupError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError:
        token = ""
    if not re.fullmatch(r"[!-~]+", token):
        raise SetupError(f"{file}: must hold one token, without spaces")
    return token


def label(text: str) -> tuple[str, str]:
    """Read a label.

    Raises:
        ArgumentTypeError: it is none.
    """
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ArgumentTypeError(f"must be NAME=VALUE, not {text!r}")
    return name, value


def moment(text: str, now: datetime) -> datetime:
    """Read a time, or how long ago it was.

    Raises:
        SetupError: it is neither.
    """
    try:
        return now - cast("timedelta", parse_duration(text))
    except (ValueError, OverflowError):
        pass
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise SetupError(
            f"{text!r} is no time: write 2026-11-01T00:00:00Z, or 7d for seven days ago"
        ) from None
