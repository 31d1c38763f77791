"""The periods that reports are about, as the page shows them; the database calculates them."""

from __future__ import annotations

from datetime import date, datetime
from typing import Final, NamedTuple

from receiver.storage.reading.periods import Period, Periods

KINDS: Final = ("shift", "day", "week", "month", "custom")


class Shown(NamedTuple):
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

    @classmethod
    def of(cls, periods: Periods) -> Shown:
        """Return the periods that the database has found."""
        since, until = bounds(periods.period)
        previous = bounds(periods.previous)
        earlier = previous if previous[0] < previous[1] else None
        return cls(since, until, earlier, periods.day, periods.before, periods.after)


def bounds(period: Period) -> tuple[datetime, datetime]:
    """Return when a period starts and ends, as times of Python."""
    return datetime.fromisoformat(period.start), datetime.fromisoformat(period.end)
