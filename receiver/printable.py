"""Writes text that is safe to show on a terminal, in a log line and in a spreadsheet."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Container
from typing import Final
from unicodedata import category

LINE_BREAKS: Final = frozenset("\n")
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""Prefixes that a spreadsheet takes for the beginning of a formula."""


def printable(text: str) -> str:
    r"""Escape every character that is not shown as itself, such as `\x1b`.

    These are control characters (a terminal obeys them, and a line break forges another line of a
    log), bidirectional controls and other invisible characters (they disguise text), and unassigned
    code points. All others are kept.
    """
    return text if text.isprintable() else escape(text, unicode_escape)


def to_json(value: object, *, ascii_only: bool = False, indent: int | None = None) -> str:
    """Write JSON that is safe to show; values of other types become strings.

    Args:
        value: The value to write.
        ascii_only: Whether to escape all but ASCII, for an output that is not Unicode.
        indent: Spaces per level; None: one line.
    """
    text = json.dumps(value, ensure_ascii=ascii_only, default=str, indent=indent)
    # The line breaks belong to the layout: JSON escapes those within strings.
    return escape(text, lambda char: json.dumps(char)[1:-1], keep=LINE_BREAKS)


def escape(text: str, write: Callable[[str], str], keep: Container[str] = frozenset()) -> str:
    """Replace the characters that are not safe to show, except for those to keep."""
    return "".join(char if is_harmless(char) or char in keep else write(char) for char in text)


def cell(value: object) -> object:
    """Return a value that no spreadsheet runs: a text that looks like a formula gets a quote."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def counted(number: float, noun: str) -> str:
    """Write a whole number with its noun, such as 1 row or 2 rows."""
    return f"{number:.0f} {noun}{'' if round(number) == 1 else 's'}"


def unicode_escape(char: str) -> str:
    """Write a character as a Python escape sequence."""
    return char.encode("unicode_escape").decode("ascii")


def is_harmless(char: str) -> bool:
    """Return whether a character is shown as itself, as spaces of any width (Unicode's Zs) are."""
    return char.isprintable() or category(char) == "Zs"


def is_unicode(stream: object) -> bool:
    """Return whether every character can be written to a text stream."""
    return str(getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")


def replace_what_cannot_be_written() -> None:
    """Replace characters that the encoding of standard output or standard error lacks."""
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
