"""The periods that reports are about, and the ones before them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from receiver.storage.reading.periods import ShiftTime

KINDS: Final = ("shift", "day", "week", "month", "custom")


class Period(NamedTuple):
    """A range of time, and the one that it is compared with."""

    since: datetime
    until: datetime
    previous: tuple[datetime, datetime] | None
    day: date
    """In which it begins, for links to neighbours."""
    before: date
    """In which the period before begins."""
    after: date
    """In which the next one begins."""


def of_day(kind: str, day: date, zone: ZoneInfo) -> Period:
    """Return the day, week or month in which a day is, in a zone."""
    first = first_of(kind, day)
    after = next_of(kind, first)
    before = first_of(kind, first - timedelta(days=1))
    starts = [start_of(one, zone) for one in (before, first, after)]
    return Period(starts[1], starts[2], (starts[0], starts[1]), first, before, after)


def first_of(kind: str, day: date) -> date:
    """Return the first day of the day, week or month in which a day is; weeks begin on Mondays."""
    if kind == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if kind == "month" else day


def next_of(kind: str, first: date) -> date:
    """Return the first day of the period after the one with this first day."""
    if kind == "month":
        return (first + timedelta(days=31)).replace(day=1)
    return first + timedelta(days=7 if kind == "week" else 1)


def start_of(day: date, zone: ZoneInfo) -> datetime:
    """Return when a day begins."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def of_range(since: datetime, until: datetime, zone: ZoneInfo) -> Period:
    """Return a range of any length, compared with as much time before it."""
    day = since.astimezone(zone).date()
    return Period(since, until, (since - (until - since), since), day, day, day)


def of_shift(
    times: Sequence[ShiftTime], name: str, day: date | None, now: datetime
) -> Period | None:
    """Return a shift.

    Args:
        times: The shifts around that day, by time.
        name: The name; "": any.
        day: The day on which it starts; None: the newest one that has begun.
        now: The present.
    """
    own = [one for one in times if not name or one.name == name]
    if day is None:
        begun = [one for one in own if one.since <= now]
        chosen = begun[-1] if begun else None
    else:
        chosen = next((one for one in own if one.day == day), None)
    if chosen is None:
        return None
    same = [one for one in times if one.name == chosen.name]
    place = same.index(chosen)
    before = same[place - 1] if place else None
    after = same[place + 1] if place + 1 < len(same) else None
    return Period(
        chosen.since,
        chosen.until,
        (before.since, before.until) if before else None,
        chosen.day,
        before.day if before else chosen.day - timedelta(days=1),
        after.day if after else chosen.day + timedelta(days=1),
    )
