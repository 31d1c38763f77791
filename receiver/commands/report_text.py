"""The content of a report, as text and tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table

from receiver.commands.terminal import add_row, new_table, say
from receiver.storage.reading.periods import Periods
from receiver.storage.reading.reports import CodeTime, Figures
from receiver.web.languages import Language
from receiver.web.zones import DEFAULT, read_zone

Key = tuple[str, "int | None"]
SHOWN: Final = (
    *("availability", "previous", "failures", "previous", "mttr", "mtbf", "micro_stops"),
    *("down", "planned", "unknown"),
)
"""Columns of each line, as keys of `WORDS`."""

WORDS: Final[dict[str, tuple[str, str]]] = {
    "report": ("Report", "보고서"),
    "from_to": ("{start} to {end}", "{start} – {end}"),
    "before": ("before: {start} to {end}", "이전 기간: {start} – {end}"),
    "source": ("source", "소스"),
    "shift": ("shift", "근무조"),
    "total": ("all", "전체"),
    "availability": ("availability", "가동률"),
    "previous": ("before", "이전"),
    "failures": ("failures", "고장"),
    "micro_stops": ("micro-stops", "순간 정지"),
    "mttr": ("MTTR", "MTTR"),
    "mttf": ("MTTF", "MTTF"),
    "mtbf": ("MTBF", "MTBF"),
    "up": ("up", "가동 시간"),
    "down": ("down", "고장 시간"),
    "planned": ("planned", "계획 정지"),
    "unknown": ("unknown", "알 수 없음"),
    "code": ("code", "코드"),
    "name": ("name", "이름"),
    "times": ("times", "횟수"),
    "share": ("share", "비율"),
    "cumulative": ("cumulative", "누적"),
    "definitions": (
        "availability = up / (up + down); planned and unknown time is in neither. MTTR = down / "
        "failures, MTTF = up / failures, MTBF = MTTF + MTTR. Micro-stops are failures, too.",
        "가동률 = 가동 시간 / (가동 시간 + 고장 시간)이며 계획 정지와 알 수 없는 시간은 "
        "제외합니다. MTTR = 고장 시간 / 고장 횟수, MTTF = 가동 시간 / 고장 횟수, "
        "MTBF = MTTF + MTTR. "
        "순간 정지도 고장에 포함됩니다.",
    ),
}


class Report(NamedTuple):
    """The content of a report."""

    table: str
    by: str
    zone: str
    """The time zone of the calendar."""
    periods: Periods
    times: Sequence[str]
    """Start and end of both periods, in the calendar's time zone."""
    lines: Sequence[Figures]
    before: Mapping[Key, Figures]
    """Lines of the previous period, by name and source."""
    total: Figures | None
    total_before: Figures | None
    codes: Sequence[CodeTime]
    language: Language

    def say(self, word: str, **values: str) -> str:
        """Return a text in the language of the report."""
        return WORDS[word][self.language is Language.KOREAN].format(**values)

    @property
    def by_word(self) -> str:
        """Heading of the lines: source, shift, or a label."""
        return self.say(self.by) if self.by in {"source", "shift"} else self.by

    def title(self) -> str:
        """Return the range of the report."""
        start, end, *_ = self.times
        return self.say("from_to", start=start, end=end)

    def subtitle(self) -> str:
        """Return the range of the previous period."""
        *_, start, end = self.times
        return self.say("before", start=start, end=end)


def print_report(console: Console, report: Report) -> None:
    """Print a report."""
    say(console, f"{report.table}: {report.title()}", "bold")
    say(console, f"{report.subtitle()}; {report.zone}", "dim")
    console.print(figures_table(report))
    if report.codes:
        console.print(codes_table(report))
    say(console, report.say("definitions"), "dim")


def figures_table(report: Report) -> Table:
    """Return the figures as a table, the total last."""
    table = new_table(report.by_word, *(report.say(word) for word in SHOWN))
    for name, line, before in listed(report):
        add_row(table, name, *cells(line, before))
    return table


def listed(report: Report) -> Iterator[tuple[str, Figures, Figures | None]]:
    """Yield the lines with their names, and the total last; each with that of the period before."""
    for line in report.lines:
        number = "" if line.source_id is None else f" #{line.source_id}"
        yield f"{line.name}{number}", line, report.before.get((line.name, line.source_id))
    if report.total is not None:
        yield report.say("total"), report.total, report.total_before


def cells(line: Figures, before: Figures | None) -> Iterator[str]:
    """Yield the cells of a line."""
    yield percent(line.availability)
    yield percent(before and before.availability)
    yield str(line.failures)
    yield "–" if before is None else str(before.failures)
    yield length(line.mttr)
    yield length(line.mtbf)
    yield f"{line.micro_stops} ({length(line.micro_stop_time)})"
    yield from (length(time) for time in (line.down, line.planned, line.unknown))


def codes_table(report: Report) -> Table:
    """Return the Pareto of codes as a table."""
    words = ("code", "name", "times", "down", "share", "cumulative")
    table = new_table(*(report.say(word) for word in words))
    for code in report.codes:
        shares = (percent(code.share), percent(code.cumulative_share))
        add_row(table, code.code, code.name, code.times, length(code.down), *shares)
    return table


def percent(share: float | None) -> str:
    """Format a share; never as 100 % if it is less."""
    if share is None:
        return "–"
    text = f"{100 * share:.2f}"
    return f"{'99.99' if text == '100.00' and share < 1 else text} %"


def length(time: timedelta | None) -> str:
    """Format a duration, as 1:23:45."""
    if time is None:
        return "–"
    minutes, seconds = divmod(round(time.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def wall_time(text: str, zone: str) -> str:
    """Format a time of PostgreSQL in a zone, as spreadsheets read dates."""
    return (
        f"{datetime.fromisoformat(text).astimezone(read_zone(zone) or DEFAULT):%Y-%m-%d %H:%M:%S}"
    )


def iso(text: str) -> str:
    """Format a time of PostgreSQL as ISO 8601."""
    return datetime.fromisoformat(text).isoformat()
