"""The reports: availability, failures and down time of a period and of the one before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple

from aiohttp import web

from receiver.rows.tables import Table
from receiver.storage.connection.database import Connection
from receiver.storage.editing import calendar
from receiver.storage.reading import periods as reported
from receiver.storage.reading import reports, sources
from receiver.storage.reading.periods import find_range, find_shift, find_unit
from receiver.storage.reading.reports import CodeTime, Figures
from receiver.web.answers import View
from receiver.web.display import iso, percent
from receiver.web.listing import MOST_GROUPS, usual_label
from receiver.web.names import name_sources, natural
from receiver.web.parameters import BadParameterError, read_choice, read_day, read_text, read_time
from receiver.web.pareto import draw_pareto
from receiver.web.periods import KINDS, Shown
from receiver.web.sums import Sum
from receiver.web.zones import DEFAULT, read_zone

LONGEST: Final = timedelta(days=366)
MOST_SOURCES: Final = 20_000
RESERVED: Final = (reports.SOURCE, reports.SHIFT, reports.TOTAL)
"""Names of labels that cannot be grouped by."""


class Line(NamedTuple):
    """A source or a group, in a period and the one before."""

    name: str
    source_id: int | None
    sources: int
    figures: Sum
    previous: Sum | None


class Report(NamedTuple):
    """A report, ready to be shown."""

    kind: str
    period: Shown
    zone: str
    by: str
    shift: str
    filter: tuple[str, str] | None
    lines: list[Line]
    group: str
    """The label by which the lines of a report by source are also grouped; "": none."""
    groups: list[Line]
    total: Line
    codes: list[CodeTime]
    labels: list[str]
    micro_stop: float
    shifts: list[str]


class ReportReader:
    """Reads the report that a request asks for.

    Args:
        view: The request.
        table: A table with codes.
        template: The template of source names.

    Raises:
        BadParameterError: a parameter is wrong.
    """

    def __init__(self, view: View, table: Table, template: str) -> None:
        self._view = view
        self._labels: dict[int, dict[str, str]] = {}
        self._table = table
        self._template = template
        if view.query.get("range"):
            raise BadParameterError("bad_report_parameter")
        kind = read_choice(view.query, "kind", {"": None, **dict.fromkeys(KINDS)}, "")
        # A form that asks for another period may still have the times of the one before.
        bounds = view.query.get("since") or view.query.get("until")
        self._kind = kind or ("custom" if bounds else "")
        self._day = read_day(view.query, "day")
        self._by = read_text(view.query, "by", needed=False) or "source"
        self._shift = read_text(view.query, "shift", needed=False)
        label, equal, value = read_text(view.query, "only", needed=False).partition("=")
        self._filter = (label, value) if equal else None

    async def read(self, connection: Connection) -> Report:
        """Read the report.

        Raises:
            BadParameterError: the period is wrong.
        """
        rules = await calendar.read_settings(connection)
        shifts = [shift.name for shift in await calendar.list_shifts(connection)]
        kind = self._kind or ("shift" if shifts else "day")
        period, kind, shift = await self._period(connection, kind, rules.time_zone)
        self._labels = await sources.first_sources(connection, MOST_SOURCES)
        now = self._view.now
        window = (period.since, min(period.until, now))
        current = await self._figures(connection, window)
        previous = await self._figures(connection, period.previous) if period.previous else None
        ids = None if self._filter is None else [one.source_id or 0 for one in current]
        codes = []
        if window[0] < window[1]:
            span = as_period(window)
            codes = await reports.read_codes(connection, self._table, span, ids)
        if self._by == reports.SHIFT:
            lines = await self._shift_lines(connection, (window, period.previous), shifts)
        else:
            lines = self._lines(current, previous, self._by)
        labels = [self._labels.get(one.source_id or 0, {}) for one in current]
        known = group_labels(labels)
        group, groups = "", []
        if self._by == reports.SOURCE and self._filter is None:
            group = usual_label(name for name, number in known.items() if number > 1)
            groups = self._lines(current, previous, group) if group else []
        total = Line(
            *("", None, len(current), Sum.of(current)),
            None if previous is None else Sum.of(previous),
        )
        return Report(
            *(kind, period, rules.time_zone, self._by, shift, self._filter),
            *(lines, group, groups, total, codes, list(known)),
            *(rules.micro_stop.total_seconds(), shifts),
        )

    async def _period(
        self, connection: Connection, kind: str, zone_name: str
    ) -> tuple[Shown, str, str]:
        zone = read_zone(zone_name) or DEFAULT
        since, until = (read_time(self._view.query, name, zone) for name in ("since", "until"))
        if kind == "custom":
            if since is None or until is None or not timedelta(0) < until - since <= LONGEST:
                raise BadParameterError("bad_report_range")
            return Shown.of(await find_range(connection, since, until)), kind, ""
        if kind == "shift":
            found = await find_shift(connection, self._shift or None, self._day)
            if found is not None:
                return Shown.of(found), kind, found.period.name
            kind = "day"
        return Shown.of(await find_unit(connection, kind, self._day)), kind, ""

    async def _figures(
        self, connection: Connection, window: tuple[datetime, datetime]
    ) -> list[Figures]:
        if window[0] >= window[1]:
            return []
        span = as_period(window)
        found = await reports.read_figures(connection, self._table, span, reports.SOURCE)
        return [one for one in found if self._is_wanted(one.source_id or 0)]

    async def _shift_lines(
        self,
        connection: Connection,
        windows: Sequence[tuple[datetime, datetime] | None],
        shifts: Iterable[str],
    ) -> list[Line]:
        """Return a line for each shift of the calendar; time outside of all shifts is left out."""
        wanted = [id_ for id_ in self._labels if self._is_wanted(id_)]
        ids = None if self._filter is None else wanted
        found, before = [
            await reports.read_figures(
                connection, self._table, as_period(window), reports.SHIFT, ids
            )
            if window is not None and window[0] < window[1]
            else []
            for window in windows
        ]
        earlier = {one.name: Sum.of([one]) for one in before}
        lines = {
            one.name: Line(one.name, None, one.sources, Sum.of([one]), earlier.get(one.name))
            for one in found
        }
        return [lines[shift] for shift in shifts if shift in lines]

    def _is_wanted(self, id_: int) -> bool:
        if self._filter is None:
            return True
        label, value = self._filter
        return self._labels.get(id_, {}).get(label, "") == value

    def _lines(self, current: list[Figures], previous: list[Figures] | None, by: str) -> list[Line]:
        now, earlier = self._groups(current, by), self._groups(previous or [], by)
        ids = {one.source_id or 0 for one in current}
        names: dict[int, str] = {}
        if by == reports.SOURCE:
            names = name_sources({id_: self._labels.get(id_, {}) for id_ in ids}, self._template)
        lines = []
        for group, members in now.items():
            before = Sum.of(earlier[group]) if group in earlier else None
            name, id_ = (names[group], group) if isinstance(group, int) else (group, None)
            lines.append(Line(name, id_, len(members), Sum.of(members), before))
        return sorted(lines, key=lambda line: (-line.figures.down, natural(line.name)))

    def _groups(self, found: Iterable[Figures], by: str) -> dict[int | str, list[Figures]]:
        """Return figures grouped by the id of their source, or by the value of a label."""
        groups: dict[int | str, list[Figures]] = defaultdict(list)
        for one in found:
            id_ = one.source_id or 0
            label = self._labels.get(id_, {}).get(by, "")
            groups[id_ if by == reports.SOURCE else label].append(one)
        return groups


def as_period(window: tuple[datetime, datetime]) -> reported.Period:
    """Return a range of time as the period that the functions of reports take."""
    return reported.Period("", window[0].isoformat(), window[1].isoformat())


def group_labels(found: Iterable[dict[str, str]]) -> dict[str, int]:
    """Return the labels by which figures can be grouped, with the number of their values.

    Args:
        found: The labels of each source.
    """
    values: dict[str, set[str]] = defaultdict(set)
    for labels in found:
        for name, value in labels.items():
            values[name].add(value)
    return {
        name: len(values[name])
        for name in sorted(values)
        if len(values[name]) <= MOST_GROUPS and name not in RESERVED
    }


async def answer_report(report: Report, view: View, common: dict[str, Any]) -> web.Response:
    """Answer `GET /reports` with a page."""
    zone = read_zone(report.zone) or DEFAULT
    before = report.total.previous
    return await view.render(
        "reports.html",
        **common,
        report=report,
        kinds=KINDS,
        since=report.period.since.astimezone(zone),
        until=report.period.until.astimezone(zone),
        running=report.period.until > view.now,
        pareto=draw_pareto(report.codes, partial(view.length, brief=True)),
        compare=comparing(view),
        percent=percent,
        iso=iso,
        total=report.total.figures,
        before=before if before and (before.up or before.down or before.planned) else None,
    )


def comparing(view: View) -> Callable[[float | None, float | None, str], str]:
    """Return a function that says by how much a figure differs from the one before."""

    def compare(value: float | None, before: float | None, unit: str) -> str:
        if value is None or before is None:
            return ""
        change = value - before
        arrow = "▲" if change > 0 else "▼" if change < 0 else "＝"
        if unit == "share":
            return f"{arrow} {abs(change) * 100:.1f}%p"
        return f"{arrow} {view.length(abs(change)) if unit == 'time' else f'{abs(change):g}'}"

    return compare
