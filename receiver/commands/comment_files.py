"""Writes comments on states for other programs: CSV for Excel and pandas, and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

from receiver.commands.report_files import BOM
from receiver.commands.report_text import wall_time
from receiver.printable import cell
from receiver.storage.editing.calendar import Comment

COLUMNS: Final = (*Comment._fields, "started_at_local", "time_zone")


def write_csv(comments: Iterable[Comment], zone: str) -> bytes:
    """Write a line for each comment, with its time in UTC and, for spreadsheets, in the zone."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    for one in comments:
        local = {"started_at_local": wall_time(one.started_at, zone), "time_zone": zone}
        values = {**one._asdict(), "started_at": in_utc(one.started_at), **local}
        writer.writerow({name: cell(value) for name, value in values.items()})
    return (BOM + file.getvalue()).encode()


def write_json(comments: Iterable[Comment], zone: str) -> bytes:
    """Write the comments with the calendar's time zone."""
    found = [{**one._asdict(), "started_at": in_utc(one.started_at)} for one in comments]
    written = {"time_zone": zone, "comments": found}
    return (json.dumps(written, ensure_ascii=False, indent=2) + "\n").encode()


def in_utc(text: str) -> str:
    """Write a time of PostgreSQL as ISO 8601 in UTC, with all six digits of its fraction."""
    return datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="microseconds")


WRITERS: Final[dict[str, Callable[[Iterable[Comment], str], bytes]]] = {
    "csv": write_csv,
    "json": write_json,
}
