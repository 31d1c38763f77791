"""Report availability, failures, MTTR, MTTF, MTBF and micro-stops of a shift, day or any range.

availability = up / (up + down); planned and unknown time is in neither, and shown. A failure is a
stretch of down time that begins in the range; one shorter than 5 minutes, or what `receiver shifts`
sets, is a micro-stop as well. MTTR = down / failures, MTTF = up / failures, MTBF = MTTF + MTTR. The
codes are those of the down time. Days are those of the calendar's time zone: see `receiver shifts`.

Examples:
    receiver report
    receiver report --shift night
    receiver report --month last --by line --format csv -o last-month.csv
    receiver report --week --format html -o week.html

With --format csv there is a line for each source, group or shift, and --codes has the codes in
their place. The exit code is 3 if no source has had rows in the range or in the 30 days before it.
"""

from __future__ import annotations

import io
import json
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final, NoReturn

from rich.console import Console

from receiver.commands.arguments import (
    add_match,
    add_table,
    clock_time,
    decode_argument,
    find_table,
    wanted_labels,
)
from receiver.commands.connection import connected_to_calendar
from receiver.commands.output import STANDARD_OUTPUT, opened
from receiver.commands.report_files import write_csv, write_json
from receiver.commands.report_html import write_html
from receiver.commands.report_text import Report, print_report
from receiver.commands.terminal import open_console, say
from receiver.config.sections import Section
from receiver.config.settings import Settings
from receiver.errors import UsageError
from receiver.rows.tables import Table
from receiver.storage.connection.database import Connection
from receiver.storage.editing.calendar import Shift, list_shifts
from receiver.storage.reading import reports
from receiver.storage.reading.periods import (
    Periods,
    find_range,
    find_shift,
    find_unit,
    find_zone,
    show_times,
)
from receiver.storage.reading.tables import require_table
from receiver.web.descriptions import terminal_language
from receiver.web.names import natural

SETTINGS: Final = (Section.DATABASE, Section.METRICS)
FORMATS: Final = ("table", "csv", "json", "html")
NOTHING: Final = 3
"""Exit code if there is nothing to report on."""
UNITS: Final = {
    "--day": "a day: a date, or last for yesterday (default: today)",
    "--week": "the week, from Monday, that contains a date, or last (default: this week)",
    "--month": "the month that contains a date, such as 2026-11, or last (default: this month)",
}
"""Flags that name a range by a date in it, with their help."""
ANY: Final = ""
"""Value of --shift if the flag is given without one."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the table, the range, the groups, the filter and the output."""
    add_table(parser, with_codes=True)
    for flag, help_ in UNITS.items():
        parser.add_argument(flag, metavar="DATE", nargs="?", const="this", type=unit, help=help_)
    parser.add_argument(
        "--shift",
        metavar="NAME",
        nargs="?",
        const=ANY,
        type=decode_argument,
        help="the last shift that has started, of this name if one is given; with --day, the one "
        "that started on that day",
    )
    parser.add_argument(
        "--since",
        metavar="TIME",
        type=clock_time,
        help="2026-11-01T06:00, or a duration before now, such as 7d",
    )
    parser.add_argument(
        "--until", metavar="TIME", type=clock_time, help="the same, exclusive (default: now)"
    )
    parser.add_argument(
        "--by",
        metavar="source|shift|LABEL",
        type=decode_argument,
        default=reports.SOURCE,
        help="a line for each source, each shift, or each value of a label (default: source)",
    )
    add_match(parser)
    parser.add_argument("--format", choices=FORMATS, default="table", help="default: table")
    parser.add_argument("--codes", action="store_true", help="with --format csv, write the codes")
    parser.add_argument(
        "-o", "--output", metavar="FILE", default=STANDARD_OUTPUT, help="default: standard output"
    )


def unit(text: str) -> date | str:
    """Read a date, a month, `this` or `last`.

    Raises:
        ArgumentTypeError: it is none of them.
    """
    if text in {"this", "last"}:
        return text
    try:
        return date.fromisoformat(f"{text}-01" if len(text) == len("2026-11") else text)
    except ValueError:
        raise ArgumentTypeError(
            f"must be a date such as 2026-11-28, or last, not {text!r}"
        ) from None


async def run(settings: Settings, arguments: Namespace) -> int:
    """Write the report.

    Raises:
        UsageError: there is no such table or shift, or flags exclude each other.
        SetupError: there is no database, it has no tables, or the file cannot be written.
    """
    require_one_range(arguments)
    table = find_table(settings, arguments.table, with_codes=True)
    if not table.codes:
        raise UsageError(f"table {table.name} has no column of codes, and so no states to report")
    async with connected_to_calendar(settings) as connection:
        await require_table(connection, table.name)
        report = await read(connection, table, arguments)
    write(report, arguments)
    if not report.lines:
        say(Console(stderr=True), "note: no source had rows in this range", "dim")
        return NOTHING
    if arguments.by not in {"source", "shift"} and not any(line.name for line in report.lines):
        say(Console(stderr=True), f"note: no source has the label {arguments.by}", "dim")
    return 0


def require_one_range(arguments: Namespace) -> None:
    """Check that the flags name one range.

    Raises:
        UsageError: they name several.
    """
    ranges = {
        "--shift": arguments.shift,
        "--day": arguments.day,
        "--week": arguments.week,
        "--month": arguments.month,
        "--since": arguments.since,
    }
    named = [flag for flag, value in ranges.items() if value is not None]
    if len(named) > 1 and named != ["--shift", "--day"]:
        raise UsageError(f"{' and '.join(named)} exclude each other: name one range")
    if arguments.until is not None and arguments.since is None:
        raise UsageError("--until needs --since")


async def find_periods(connection: Connection, arguments: Namespace) -> Periods:
    """Return the range that the flags name, and the one before it."""
    if arguments.since is not None:
        until = timedelta(0) if arguments.until is None else arguments.until
        return await find_range(connection, arguments.since, until)
    if arguments.shift is not None:
        day = arguments.day
        if isinstance(day, str):
            day = (await find_unit(connection, "day", None, int(day == "last"))).day
        found = await find_shift(connection, arguments.shift or None, day)
        return found or refuse_shift(await list_shifts(connection), arguments.shift, day)
    for name in ("week", "month", "day"):
        value = getattr(arguments, name)
        if value is not None:
            day = None if isinstance(value, str) else value
            return await find_unit(connection, name, day, int(value == "last"))
    return await find_unit(connection, "day", None)


def refuse_shift(shifts: Sequence[Shift], name: str, day: date | None) -> NoReturn:
    """Explain why no such shift was found.

    Raises:
        UsageError: always.
    """
    known = [shift.name for shift in shifts]
    if name and name not in known:
        there = f"defined: {', '.join(known)}" if known else "none is defined"
        raise UsageError(f"--shift={name}: there is no such shift; {there}")
    if known and day is not None:
        raise UsageError(f"--day={day}: no shift {name} started on that day".replace("  ", " "))
    raise UsageError(
        "no shift has started in the last 100 days: `receiver shifts add NAME START END` defines "
        "one"
    )


async def read(connection: Connection, table: Table, arguments: Namespace) -> Report:
    """Read everything that the report shows."""
    periods = await find_periods(connection, arguments)
    sources = None
    if arguments.match:
        labels = json.dumps(wanted_labels(arguments))
        sources = await reports.find_matching(connection, labels)
    both = periods.period, periods.previous
    lines, before = [
        await reports.read_figures(connection, table, period, arguments.by, sources)
        for period in both
    ]
    total, total_before = [
        await reports.read_figures(connection, table, period, reports.TOTAL, sources)
        for period in both
    ]
    return Report(
        table.name,
        arguments.by,
        await find_zone(connection),
        periods,
        await show_times(connection, [time for period in both for time in period[1:]]),
        sorted(lines, key=lambda line: natural(line.name)),
        {(line.name, line.source_id): line for line in before},
        next(iter(total), None),
        next(iter(total_before), None),
        await reports.read_codes(connection, table, periods.period, sources),
        terminal_language(),
    )


def write(report: Report, arguments: Namespace) -> None:
    """Write the report in the requested format."""
    if arguments.format == "table" and arguments.output == STANDARD_OUTPUT:
        print_report(open_console(), report)
        return
    with opened(arguments.output) as output:
        if arguments.format == "csv":
            output.write(write_csv(report, codes=arguments.codes))
        elif arguments.format == "json":
            output.write(write_json(report))
        elif arguments.format == "html":
            output.write(write_html(report))
        else:
            text = io.StringIO()
            print_report(Console(file=text, color_system=None, highlight=False, width=200), report)
            output.write(text.getvalue().encode())
