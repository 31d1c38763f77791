"""Makes text harmless to show: on a terminal, in a log line, as JSON in either."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Container
from typing import Final
from unicodedata import category

LINE_BREAKS: Final = frozenset("\n")


def printable(text: str) -> str:
    r"""Escape every character that could do something instead of being seen, such as `\x1b`.

    These are control characters (a terminal obeys them, and a line break begins a line that seems
    to be of someone else), bidirectional controls and other invisible characters (they make text
    read as what it is not), and what is no character at all. Everything else stays as it is.
    """
    return text if text.isprintable() else escape(text, unicode_escape)


def to_json(value: object, *, ascii_only: bool = False, indent: int | None = None) -> str:
    """Write JSON in which no character does anything; what JSON does not know becomes text.

    Args:
        value: What to write.
        ascii_only: Escape all but ASCII, for an output that is not Unicode.
        indent: Spaces of each level; without it, everything is one line.
    """
    text = json.dumps(value, ensure_ascii=ascii_only, default=str, indent=indent)
    # The line breaks are ours: JSON escapes those within a string.
    return escape(text, lambda char: json.dumps(char)[1:-1], keep=LINE_BREAKS)


def escape(text: str, write: Callable[[str], str], keep: Container[str] = frozenset()) -> str:
    """Replace the characters that must not be shown, but for those to keep."""
    return "".join(char if is_harmless(char) or char in keep else write(char) for char in text)


def unicode_escape(char: str) -> str:
    """Write a character as in a string of Python."""
    return char.encode("unicode_escape").decode("ascii")


def is_harmless(char: str) -> bool:
    """Whether a character is seen as it is; blanks of any width (Unicode's Zs) are."""
    return char.isprintable() or category(char) == "Zs"


def is_unicode(stream: object) -> bool:
    """Whether every character can be written to a stream of text."""
    return str(getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")


def replace_what_cannot_be_written() -> None:
    """Let no character fail that the encoding of standard output or standard error lacks."""
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
