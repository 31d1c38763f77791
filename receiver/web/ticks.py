"""Chooses the ticks of a time axis: round times in the reader's zone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

MINUTES: Final = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720)
DAYS: Final = (1, 2, 7, 14, 28, 91, 182, 364)
MOST: Final = 8


class Tick(NamedTuple):
    """A mark on the axis."""

    place: float
    """Position in per cent of the axis."""
    text: str


def ticks(since: datetime, until: datetime, zone: ZoneInfo, most: int = MOST) -> list[Tick]:
    """Return at most `most` ticks of a range of time.

    They are at round times of the zone's wall clock, also on days of 23 or 25 hours.
    """
    length = (until - since) / timedelta(minutes=1)
    for step in MINUTES:
        if length / step <= most:
            return place(minutes(since, until, zone, step), since, until, "%H:%M")
    for days in DAYS:
        if length / 1440 / days <= most:
            return place(dates(since, until, zone, days), since, until, "%m-%d")
    return []


def minutes(since: datetime, until: datetime, zone: ZoneInfo, step: int) -> Iterator[datetime]:
    """Yield the times at which the minutes of the day are a multiple of the step."""
    # Zones differ from UTC by whole minutes, not all by whole hours.
    time = since.astimezone(UTC).replace(second=0, microsecond=0)
    unit = timedelta(minutes=min(step, 15))
    while step > 1 and (time.astimezone(zone).minute % min(step, 15)):
        time -= timedelta(minutes=1)
    while time <= until:
        local = time.astimezone(zone)
        if (local.hour * 60 + local.minute) % step == 0 and time >= since:
            yield local
        time += unit


def dates(since: datetime, until: datetime, zone: ZoneInfo, step: int) -> Iterator[datetime]:
    """Yield midnights that are `step` days apart; for whole weeks, those of Mondays."""
    day = since.astimezone(zone).date() + timedelta(days=1)
    while True:
        time = datetime(day.year, day.month, day.day, tzinfo=zone)
        if time > until:
            return
        # The ordinal of a Monday is 1 modulo 7.
        if time >= since and (day.toordinal() - 1) % step == 0:
            yield time
        day += timedelta(days=1)


def place(times: Iterator[datetime], since: datetime, until: datetime, form: str) -> list[Tick]:
    """Return the ticks at these times."""
    found, shown = [], None
    for time in times:
        text = time.strftime(form)
        if form == "%H:%M" and text == "00:00" and shown is not None:
            text = time.strftime("%m-%d")
        shown = text
        found.append(Tick(round(100 * ((time - since) / (until - since)), 3), text))
    return found
