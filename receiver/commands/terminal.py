"""How commands show tables: within a terminal's width, or whole where the output is none."""

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
    """Standard output; in a file or pipe nothing wraps."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    return console


def new_table(*columns: str) -> Table:
    """A table without rows; its values wrap rather than being cut short."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def add_row(table: Table, *values: object) -> None:
    """Add a row; what is not there stays empty, and nothing is taken for markup."""
    table.add_row(*(Text(shown(value)) for value in values))


def say(console: Console, text: str, style: str = "") -> None:
    """Print a line as it is, however long: what it quotes is neither markup nor a command."""
    console.print(Text(printable(text), style), soft_wrap=True)


def print_fields(console: Console, *values: object) -> None:
    """Print values as one line, tabs between them."""
    line = "\t".join(shown(value) for value in values)
    # As a segment, for rich makes spaces of the tabs in a text.
    console.print(Segments([Segment(f"{line}\n")]), crop=False)


def shown(value: object) -> str:
    """A value as one line of harmless text; what is not there is empty."""
    return "" if value is None else printable(" ".join(str(value).split()))


def local_time(text: str) -> str:
    """A time that PostgreSQL wrote, in the local time zone if Python's calendar holds it."""
    try:
        time = datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return text
    precision = "microseconds" if time.microsecond % 1000 else "milliseconds"
    # The offset as PostgreSQL shortens it: in 80 columns there is no room to spare.
    return time.isoformat(" ", precision).removesuffix(":00")


def short_labels(labels: Mapping[str, str]) -> str:
    """Write what tells a source from others: its instance if it has one, without its job."""
    instance = labels.get("instance")
    if not instance:
        return " ".join(f"{name}={value}" for name, value in labels.items())
    others = (f"{name}={labels[name]}" for name in labels if name not in {"instance", "job"})
    return " ".join((instance, *others))
