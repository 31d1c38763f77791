"""Writes reports for other programs: CSV for Excel and pandas, and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from receiver.commands.report_text import Report, iso, wall_time
from receiver.printable import cell
from receiver.storage.reading.reports import Figures

BOM: Final = "\N{BYTE ORDER MARK}"
"""Tells Excel that a file is UTF-8."""

TIMES: Final = ("up", "down", "planned", "unknown", "micro_stop_time", "mttr", "mttf", "mtbf")
"""Durations, which are written in seconds."""
COMPARED: Final = ("availability", "failures", "mttr", "mtbf", "down")
"""Figures of the previous period that are written beside those of the period."""


def write_csv(report: Report, *, codes: bool) -> bytes:
    """Write a line for each source, group or shift, or for each code; times are in seconds."""
    local = {
        f"{name}_local": wall_time(time, report.zone)
        for name, time in zip(("start", "end"), report.periods.period[1:], strict=True)
    }
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, [*(CODE_COLUMNS if codes else FIGURE_COLUMNS), *LOCAL_COLUMNS])
    writer.writeheader()
    for line in code_lines(report) if codes else figure_lines(report):
        values = {**line, **local, "time_zone": report.zone}
        writer.writerow({name: cell(value) for name, value in values.items()})
    return (BOM + file.getvalue()).encode()


def figure_lines(report: Report) -> Iterator[dict[str, Any]]:
    """Yield the figures of each line, by column."""
    start, end = (iso(time) for time in report.periods.period[1:])
    for line in report.lines:
        before = report.before.get((line.name, line.source_id))
        previous = {} if before is None else figures(before)
        yield {
            "start": start,
            "end": end,
            "by": report.by,
            **figures(line),
            **{f"previous_{name}": previous.get(name) for name in map(column, COMPARED)},
        }


def figures(line: Figures) -> dict[str, Any]:
    """Return figures by column."""
    return {
        column(name): seconds(value) if isinstance(value, timedelta) else value
        for name, value in line._asdict().items()
    }


def column(name: str) -> str:
    """Return the column name of a figure; that of a duration ends with its unit."""
    return f"{name}_seconds" if name in TIMES else name


def seconds(time: timedelta | None) -> float | None:
    """Return a duration in seconds."""
    return None if time is None else time.total_seconds()


def code_lines(report: Report) -> Iterator[dict[str, Any]]:
    """Yield the values of each code, by column."""
    start, end = (iso(time) for time in report.periods.period[1:])
    for code in report.codes:
        values = code._asdict()
        values["down_seconds"] = seconds(values.pop("down"))
        yield {"start": start, "end": end, **values}


FIGURE_COLUMNS: Final = [
    *("start", "end", "by"),
    *map(column, Figures._fields),
    *(f"previous_{column(name)}" for name in COMPARED),
]
CODE_COLUMNS: Final = [
    *("start", "end", "code", "name", "times", "share", "cumulative_share", "down_seconds"),
]


LOCAL_COLUMNS: Final = ["start_local", "end_local", "time_zone"]
"""Columns of the period in the calendar's zone, in a format that spreadsheets read as dates."""


def write_json(report: Report) -> bytes:
    """Write the whole report; times are in seconds."""
    period, previous = (
        {"name": name, "start": iso(start), "end": iso(end)}
        for name, start, end in (report.periods.period, report.periods.previous)
    )
    written = {
        "table": report.table,
        "time_zone": report.zone,
        "period": period,
        "previous_period": previous,
        "by": report.by,
        "lines": list(figure_lines(report)),
        "total": None if report.total is None else figures(report.total),
        "previous_total": None if report.total_before is None else figures(report.total_before),
        "codes": list(code_lines(report)),
    }
    return (json.dumps(written, ensure_ascii=False, indent=2) + "\n").encode()
