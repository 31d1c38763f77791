"""Time ranges of reports: days, weeks, months and shifts of the calendar.

The database calculates them in the time zone of `report_settings`, so that all reports agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple

from receiver.errors import UsageError
from receiver.storage.connection.database import Connection, used

# $1 is day, week or month, $2 a date in it or NULL for today, $3 how many units before that.
_UNIT: Final = """
SELECT bounds.starts AT TIME ZONE s.time_zone AS start,
    (bounds.starts + bounds.step) AT TIME ZONE s.time_zone AS end,
    (bounds.starts - bounds.step) AT TIME ZONE s.time_zone AS before,
    bounds.starts::date AS day, (bounds.starts - bounds.step)::date AS day_before,
    (bounds.starts + bounds.step)::date AS day_after
FROM report_settings s
CROSS JOIN LATERAL (SELECT ('1 ' || $1::text)::interval AS step) AS unit
CROSS JOIN LATERAL (
    SELECT date_trunc($1, COALESCE($2::date::timestamp, now() AT TIME ZONE s.time_zone))
        - $3::int * unit.step AS starts, unit.step AS step
) AS bounds
"""

# The last occurrence of a shift ($1, NULL for any) that has started or, if a day ($2) is given, the
# one on that day, even if yet to start; and the occurrences before and after it. A shift is
# expected to recur within 100 days.
_SHIFT: Final = """
WITH around AS MATERIALIZED (
    SELECT t.* FROM report_settings s
    CROSS JOIN LATERAL (
        SELECT COALESCE($2::date::timestamp AT TIME ZONE s.time_zone, now()) AS at
    ) AS middle
    CROSS JOIN LATERAL shift_times(
        middle.at - INTERVAL '100 days', middle.at + INTERVAL '100 days') AS t
), chosen AS (
    SELECT a.* FROM around a
    WHERE ($1::text IS NULL OR a.shift = $1)
      AND CASE WHEN $2::date IS NULL THEN a.started_at <= now() ELSE a.day = $2 END
    ORDER BY a.started_at <= now() DESC,
        CASE WHEN a.started_at <= now() THEN a.started_at END DESC, a.started_at, a.shift
    LIMIT 1
)
SELECT c.shift, c.started_at, c.ended_at, earlier.started_at, earlier.ended_at, c.day,
    COALESCE(earlier.day, c.day - 1), COALESCE(later.day, c.day + 1)
FROM chosen c
LEFT JOIN LATERAL (
    SELECT * FROM around a WHERE a.shift = c.shift AND a.started_at < c.started_at
    ORDER BY a.started_at DESC LIMIT 1
) AS earlier ON true
LEFT JOIN LATERAL (
    SELECT * FROM around a WHERE a.shift = c.shift AND a.started_at > c.started_at
    ORDER BY a.started_at LIMIT 1
) AS later ON true
"""

_ZONE: Final = "SELECT time_zone FROM report_settings"

# A local time ($1) in the time zone of the calendar.
_MOMENT: Final = "SELECT $1::text::timestamp AT TIME ZONE time_zone FROM report_settings"
_SHOW: Final = """
SELECT to_char(time.at AT TIME ZONE time_zone, 'YYYY-MM-DD HH24:MI:SS')
FROM report_settings, unnest($1::text[]::timestamptz[]) WITH ORDINALITY AS time (at, place)
ORDER BY place
"""
_NOW: Final = "SELECT now() - $1::interval"
_DAY: Final = "SELECT ($1::timestamptz AT TIME ZONE time_zone)::date FROM report_settings"


class Period(NamedTuple):
    """A range of time."""

    name: str
    """Such as `day` or the name of a shift."""
    start: str
    """As PostgreSQL writes it, in UTC."""
    end: str
    """Exclusive."""


class Periods(NamedTuple):
    """A period and the one before it."""

    period: Period
    previous: Period
    """Empty, at the start of `period`, if there is none."""
    day: date
    """The day on which the period begins, in the calendar's time zone."""
    before: date
    """The day on which the previous period begins."""
    after: date
    """The day on which the next period begins."""


async def find_unit(connection: Connection, unit: str, day: date | None, back: int = 0) -> Periods:
    """Return a day, week (from Monday) or month.

    Args:
        connection: The session.
        unit: `day`, `week` or `month`.
        day: A day in it; None: today.
        back: How many units before that.

    Raises:
        ReceiverError: as `translated` does.
    """
    async with used(connection):
        start, end, before, *days = await connection.fetchrow(_UNIT, unit, day, back)
    return Periods(Period(unit, start, end), Period(unit, before, start), *days)


async def find_shift(connection: Connection, name: str | None, day: date | None) -> Periods | None:
    """Return a shift, and its previous occurrence; None if there is none within 100 days.

    Args:
        connection: The session.
        name: Its name; None: the shift that has started last.
        day: The day on which it starts; None: the last one.

    Raises:
        ReceiverError: as `translated` does.
    """
    async with used(connection):
        found = await connection.fetchrow(_SHIFT, name, day)
    if found is None:
        return None
    shift, start, end, before, before_end, *days = found
    period = Period(shift, start, end)
    return Periods(period, Period(shift, before or start, before_end or start), *days)


async def find_moment(connection: Connection, when: datetime | timedelta) -> str:
    """Return a time as PostgreSQL writes it, in UTC.

    Args:
        connection: The session.
        when: A time, in the calendar's time zone if it names none; or how long ago.

    Raises:
        ReceiverError: as `translated` does.
    """
    async with used(connection):
        if isinstance(when, timedelta):
            return str(await connection.fetchval(_NOW, when))
        if when.tzinfo is None:
            return str(await connection.fetchval(_MOMENT, when.isoformat()))
        return when.isoformat()


async def find_range(
    connection: Connection, since: datetime | timedelta, until: datetime | timedelta
) -> Periods:
    """Return a range, and the one of the same length before it.

    Raises:
        UsageError: the range does not end after it starts.
        ReceiverError: as `translated` does.
    """
    start, end = await find_moment(connection, since), await find_moment(connection, until)
    first, last = datetime.fromisoformat(start), datetime.fromisoformat(end)
    if first >= last:
        start, end = await show_times(connection, [start, end])
        raise UsageError(f"--since ({start}) must lie before --until ({end})")
    before = (first - (last - first)).isoformat()
    async with used(connection):
        day = await connection.fetchval(_DAY, start)
    period, previous = Period("range", start, end), Period("range", before, start)
    return Periods(period, previous, day, day, day)


async def find_zone(connection: Connection) -> str:
    """Return the time zone of the calendar.

    Raises:
        ReceiverError: as `translated` does.
    """
    async with used(connection):
        zone: str = await connection.fetchval(_ZONE)
    return zone


async def show_times(connection: Connection, times: Sequence[str]) -> list[str]:
    """Format times of PostgreSQL in the calendar's time zone.

    Raises:
        ReceiverError: as `translated` does.
    """
    async with used(connection):
        return [text for (text,) in await connection.fetch(_SHOW, times)]
