"""Prints tables: within a terminal's width, or at full width to files and pipes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from rich import box
from rich.console import Console
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from receiver.printable import printable

WIDE: Final = 10_000


def open_console() -> Console:
    """Open standard output; lines do not wrap in a file or pipe."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    return console


def new_table(*columns: str) -> Table:
    """Make a table without rows; its values wrap rather than being truncated."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def add_row(table: Table, *values: object) -> None:
    """Add a row; None is empty, and values are not read as markup."""
    table.add_row(*(Text(shown(value)) for value in values))


def say(console: Console, text: str, style: str = "") -> None:
    """Print a line without wrapping; its text is not read as markup, and is safe to show."""
    console.print(Text(printable(text), style), soft_wrap=True)


def print_fields(console: Console, *values: object) -> None:
    """Print values as one line, separated by tabs."""
    line = "\t".join(shown(value) for value in values)
    # As a segment, since rich replaces tabs in a text by spaces.
    console.print(Segments([Segment(f"{line}\n")]), crop=False)


def shown(value: object) -> str:
    """Return a value as one line that is safe to show; None is empty."""
    return "" if value is None else printable(" ".join(str(value).split()))


def local_time(text: str) -> str:
    """Return a time of PostgreSQL in the local time zone, if it is in the range of `datetime`."""
    try:
        time = datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return text
    precision = "microseconds" if time.microsecond % 1000 else "milliseconds"
    # Shorten the offset as PostgreSQL does, to fit into 80 columns.
    return time.isoformat(" ", precision).removesuffix(":00")


def short_labels(labels: Mapping[str, str]) -> str:
    """Return a source's labels as text: its instance first and no job, if it has an instance."""
    instance = labels.get("instance")
    if not instance:
        return " ".join(f"{name}={value}" for name, value in labels.items())
    others = (f"{name}={labels[name]}" for name in labels if name not in {"instance", "job"})
    return " ".join((instance, *others))
