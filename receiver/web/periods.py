"""The periods of reports, as the page shows them; the database calculates them."""

from __future__ import annotations

from datetime import date, datetime
from typing import Final, NamedTuple

from receiver.storage.reading.periods import Period, Periods

KINDS: Final = ("shift", "day", "week", "month", "custom")


class Shown(NamedTuple):
    """A range of time, and the range that it is compared with."""

    since: datetime
    until: datetime
    previous: tuple[datetime, datetime] | None
    day: date
    """The day on which it begins, for links to its neighbours."""
    before: date
    """The day on which the previous period begins."""
    after: date
    """The day on which the next period begins."""

    @classmethod
    def of(cls, periods: Periods) -> Shown:
        """Return the periods that the database has found."""
        since, until = bounds(periods.period)
        previous = bounds(periods.previous)
        earlier = previous if previous[0] < previous[1] else None
        return cls(since, until, earlier, periods.day, periods.before, periods.after)


def bounds(period: Period) -> tuple[datetime, datetime]:
    """Return the start and the end of a period as `datetime`."""
    return datetime.fromisoformat(period.start), datetime.fromisoformat(period.end)
