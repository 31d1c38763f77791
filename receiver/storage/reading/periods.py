"""Ranges of time that reports are about: days, weeks, months and shifts of the calendar.

The database calculates them, by the time zone in `report_settings`, so that all agree on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple

from receiver.errors import UsageError
from receiver.storage.connection.database import Connection, used

# $1 is day, week or month, $2 a date in it or NULL for today, $3 how many units before that.
_UNIT: Final = """
SELECT bounds.starts AT TIME ZONE s.time_zone AS start,
    (bounds.starts + bounds.step) AT TIME ZONE s.time_zone AS end,
    (bounds.starts - bounds.step) AT TIME ZONE s.time_zone AS before
FROM report_settings s
CROSS JOIN LATERAL (SELECT ('1 ' || $1::text)::interval AS step) AS unit
CROSS JOIN LATERAL (
    SELECT date_trunc($1, COALESCE($2::date::timestamp, now() AT TIME ZONE s.time_zone))
        - $3::int * unit.step AS starts, unit.step AS step
) AS bounds
"""

# The last time that a shift ($1, NULL for any) started: on a day ($2), or up to now; and the time
# before that. Nobody waits longer than a quarter for a shift.
_SHIFT: Final = """
SELECT t.shift, t.started_at, t.ended_at, t.day FROM report_settings s, shift_times(
    COALESCE($2::date::timestamp AT TIME ZONE s.time_zone, now()) - INTERVAL '100 days',
    COALESCE(($2::date + 1)::timestamp AT TIME ZONE s.time_zone, now())
) AS t
WHERE ($1::text IS NULL OR t.shift = $1) AND ($2::date IS NULL OR t.day <= $2)
ORDER BY t.started_at DESC, t.shift LIMIT 100
"""

_ZONE: Final = "SELECT time_zone FROM report_settings"
_SHIFTS: Final = "SELECT array_agg(name ORDER BY starts) FROM report_shifts"

# A time of the clock ($1), by the calendar.
_MOMENT: Final = "SELECT $1::text::timestamp AT TIME ZONE time_zone FROM report_settings"
_SHOW: Final = """
SELECT to_char(time.at AT TIME ZONE time_zone, 'YYYY-MM-DD HH24:MI:SS')
FROM report_settings, unnest($1::text[]::timestamptz[]) WITH ORDINALITY AS time (at, place)
ORDER BY place
"""
_NOW: Final = "SELECT now() - $1::interval"


_SHIFT_TIMES: Final = """
SELECT shift, day, EXTRACT(EPOCH FROM started_at)::double precision,
    EXTRACT(EPOCH FROM ended_at)::double precision
FROM shift_times($1, $2) ORDER BY started_at, shift
"""


class Period(NamedTuple):
    """A range of time."""

    name: str
    """Such as `day` or the name of a shift."""
    start: str
    """As PostgreSQL writes it, in UTC."""
    end: str
    """Not included."""


class Periods(NamedTuple):
    """A period and the one before it."""

    period: Period
    previous: Period


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
        start, end, before = await connection.fetchrow(_UNIT, unit, day, back)
    return Periods(Period(unit, start, end), Period(unit, before, start))


async def find_shift(connection: Connection, name: str | None, day: date | None) -> Periods:
    """Return a shift, and the time before that it took place.

    Args:
        connection: The session.
        name: Its name; None: the one that has started last.
        day: The day on which it started; None: the last one.

    Raises:
        UsageError: there is no such shift, or none on that day.
        ReceiverError: as `translated` does.
    """
    async with used(connection):
        rows = await connection.fetch(_SHIFT, name, day)
        known = await connection.fetchval(_SHIFTS) or []
    if name is not None and name not in known:
        there = f"there is {', '.join(known)}" if known else "none is defined"
        raise UsageError(f"--shift={name}: there is no such shift; {there} (`receiver shifts`)")
    if rows and day is not None and rows[0]["day"] != day:
        raise UsageError(
            f"--day={day}: no shift {name or ''} started on that day".replace("  ", " ")
        )
    times = [Period(*row[:3]) for row in map(tuple, rows)]
    if not times:
        raise UsageError(
            "no shift has started in the last 100 days: `receiver shifts add NAME START END` "
            "defines one"
        )
    first = times[0]
    previous = next((time for time in times[1:] if time.name == first.name), None)
    return Periods(first, previous or Period(first.name, first.start, first.start))


async def find_moment(connection: Connection, when: datetime | timedelta) -> str:
    """Return a time as PostgreSQL writes it, in UTC.

    Args:
        connection: The session.
        when: A time, of the calendar's time zone if it names none; or how long ago.

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
        UsageError: it does not end after it starts.
        ReceiverError: as `translated` does.
    """
    start, end = await find_moment(connection, since), await find_moment(connection, until)
    first, last = datetime.fromisoformat(start), datetime.fromisoformat(end)
    if first >= last:
        raise UsageError(f"--since ({start}) must lie before --until ({end})")
    before = (first - (last - first)).isoformat()
    return Periods(Period("range", start, end), Period("range", before, start))


async def find_zone(connection: Connection) -> str:
    """Return the time zone of the calendar.

    Raises:
        ReceiverError: as `translated` does.
    """
    async with used(connection):
        zone: str = await connection.fetchval(_ZONE)
    return zone


async def show_times(connection: Connection, times: Sequence[str]) -> list[str]:
    """Write times of PostgreSQL by the clock of the calendar.

    Raises:
        ReceiverError: as `translated` does.
    """
    async with used(connection):
        return [text for (text,) in await connection.fetch(_SHOW, times)]


class ShiftTime(NamedTuple):
    """A shift of one day."""

    name: str
    day: date
    """On which it starts."""
    since: datetime
    until: datetime


async def shift_times(connection: Connection, since: datetime, until: datetime) -> list[ShiftTime]:
    """Return each time that a shift takes place within a range, wholly or in part, by time."""
    async with used(connection):
        rows = await connection.fetch(_SHIFT_TIMES, since.isoformat(), until.isoformat())
    return [
        ShiftTime(name, day, datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC))
        for name, day, start, end in rows
    ]
