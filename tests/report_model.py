"""A reference model of reports: the state of each source at every moment, in plain slow Python.

It follows the definitions of docs/reports.md, moment by moment between all times that matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from itertools import groupby, pairwise
from statistics import median_low
from typing import NamedTuple
from zoneinfo import ZoneInfo

NOTHING = timedelta(0)
DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)

Rows = Sequence[tuple[datetime, int]]
"""Time and code, sorted by time."""


class Held(NamedTuple):
    """The time that a row's state holds."""

    start: datetime
    end: datetime
    code: int


class Stop(NamedTuple):
    """A planned stop of some sources."""

    start: datetime
    end: datetime
    sources: frozenset[int]


class Interval(NamedTuple):
    """A period in which a source is in one state with one code."""

    state: str
    code: int | None
    start: datetime
    end: datetime


class Figures(NamedTuple):
    """The figures that a report shows for a source."""

    up: timedelta = NOTHING
    down: timedelta = NOTHING
    planned: timedelta = NOTHING
    unknown: timedelta = NOTHING
    failures: int = 0
    micro_stops: int = 0
    micro_stop_time: timedelta = NOTHING


def usual_interval(rows: Rows, day: datetime) -> timedelta:
    """Return the median interval of a day's first 50 rows, padded with rows of the day before."""
    times = [at for at, _ in rows]
    first = [at for at in times if day <= at < day + DAY][:50]
    before = [at for at in times if day - DAY <= at < day]
    near = [*before[max(0, len(before) - 50 + len(first)) :], *first]
    distances = [later - earlier for earlier, later in pairwise(near)]
    return min(median_low(distances), timedelta(hours=1)) if distances else timedelta(seconds=5)


def held(rows: Rows, max_gap: timedelta | None = None) -> list[Held]:
    """Return how long each row's state holds; all rows must be long past."""
    found = []
    for place, (at, code) in enumerate(rows):
        usual = usual_interval(
            rows, at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        )
        gap = max_gap or 3 * usual
        following = rows[place + 1][0] if place + 1 < len(rows) else None
        if following is not None and following <= at + gap:
            end = following
        else:
            end = min(at + usual, following or at + usual)
        found.append(Held(at, end, code))
    return found


def states(
    source: int,
    rows: Rows,
    since: datetime,
    until: datetime,
    *,
    stops: Iterable[Stop] = (),
    classes: Mapping[int, str] | None = None,
    max_gap: timedelta | None = None,
) -> list[Interval]:
    """Return the states of a source between two times."""
    classes = {0: "ok", **(classes or {})}
    holds = held(rows, max_gap)
    stopped = [stop for stop in stops if source in stop.sources]
    edges = {since, until}
    for start, end, *_ in [*holds, *stopped]:
        edges |= {edge for edge in (start, end) if since < edge < until}
    moments = []
    for start, end in pairwise(sorted(edges)):
        code = next((one.code for one in holds if one.start <= start < one.end), None)
        if any(stop.start <= start < stop.end for stop in stopped):
            moments.append(Interval("planned", None, start, end))
        elif code is None:
            moments.append(Interval("unknown", None, start, end))
        else:
            state = {"ok": "up", "failure": "down", "planned": "planned"}[
                classes.get(code, "failure")
            ]
            moments.append(Interval(state, code, start, end))
    return [
        Interval(state, code, (parts := list(group))[0].start, parts[-1].end)
        for (state, code), group in groupby(moments, key=lambda moment: moment[:2])
    ]


def last_began(intervals: Sequence[Interval]) -> datetime:
    """Return when the last state began, whatever its codes."""
    began = [list(group) for _, group in groupby(intervals, key=lambda interval: interval.state)]
    return began[-1][0].start


def figures(
    everything: Sequence[Interval],
    since: datetime,
    until: datetime,
    micro_stop: timedelta = timedelta(minutes=5),
) -> Figures:
    """Return the figures of a range, given a source's states from well before to well after it."""
    total = dict.fromkeys(("up", "down", "planned", "unknown"), NOTHING)
    for state, _, start, end in everything:
        total[state] += max(NOTHING, min(end, until) - max(start, since))
    failures = []
    for state, group in groupby(everything, key=lambda interval: interval.state):
        parts = list(group)
        if state == "down" and since <= parts[0].start < until:
            failures.append(parts[-1].end - parts[0].start)
    micro = [length for length in failures if length < micro_stop]
    return Figures(
        **total, failures=len(failures), micro_stops=len(micro), micro_stop_time=sum(micro, NOTHING)
    )


def add(one: Figures, other: Figures) -> Figures:
    """Add the figures of two reports."""
    return Figures(*(a + b for a, b in zip(one, other, strict=True)))  # type: ignore[operator]


def shift_times(
    starts: time, ends: time, days: Iterable[int], zone: str, since: datetime, until: datetime
) -> list[tuple[datetime, datetime]]:
    """Return the times of a shift in a range, clipped to the range."""
    local = ZoneInfo(zone)
    day = since.astimezone(local).date() - DAY
    found = []
    while day <= until.astimezone(local).date():
        if day.isoweekday() in days:
            last = day if ends > starts else day + DAY
            start = instant(datetime.combine(day, starts, local))
            end = instant(datetime.combine(last, ends, local))
            if max(start, since) < min(end, until):
                found.append((max(start, since), min(end, until)))
        day += DAY
    return found


def instant(local: datetime) -> datetime:
    """Resolve a local time that is ambiguous or does not exist as standard time."""
    folds = (local.replace(fold=fold) for fold in (0, 1))
    return min(folds, key=lambda time: time.utcoffset() or NOTHING).astimezone(UTC)
