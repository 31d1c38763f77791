"""Lists and edits what reports use: shifts, holidays, planned stops, classes of codes, comments.

Everything here raises what `translated` does.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import date, time, timedelta
from typing import Final, NamedTuple

from receiver.errors import MissingEntryError, MissingReferenceError, UsageError
from receiver.storage.connection.database import Connection, used
from receiver.storage.reading.states import class_of, classes_of

CLASSES: Final = ("ok", "failure", "planned")

_SETTINGS: Final = "SELECT time_zone, micro_stop, max_gap FROM report_settings"
_SET: Final = "UPDATE report_settings SET time_zone = $1, micro_stop = $2, max_gap = $3"
_IS_ZONE: Final = "SELECT EXISTS (SELECT FROM pg_timezone_names WHERE name = $1)"
_SHIFTS: Final = (
    "SELECT name, starts, ends, days, on_holidays FROM report_shifts ORDER BY starts, name"
)
_ADD_SHIFT: Final = """
INSERT INTO report_shifts (name, starts, ends, days, on_holidays) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name) DO UPDATE SET starts = EXCLUDED.starts, ends = EXCLUDED.ends,
    days = EXCLUDED.days, on_holidays = EXCLUDED.on_holidays
"""
_HOLIDAYS: Final = "SELECT day, name FROM report_holidays ORDER BY day"
_ADD_HOLIDAY: Final = """
INSERT INTO report_holidays VALUES ($1, $2) ON CONFLICT (day) DO UPDATE SET name = EXCLUDED.name
"""
_STOPS: Final = """
SELECT id, started_at, ended_at, source_id, labels::text AS labels, reason FROM planned_stops
ORDER BY started_at DESC, id DESC LIMIT $1
"""
_ADD_STOP: Final = """
INSERT INTO planned_stops (started_at, ended_at, source_id, labels, reason)
VALUES ($1, $2, $3, $4::text::jsonb, $5) RETURNING id
"""
_CLASSIFY: Final = """
INSERT INTO code_classes VALUES ($1, $2, $3)
ON CONFLICT (code_table, code) DO UPDATE SET class = EXCLUDED.class
"""
_COMMENTS: Final = """
SELECT source_id, started_at, cause, comment, author FROM state_comments WHERE table_name = $1
ORDER BY started_at DESC, source_id LIMIT $2
"""
_COMMENTS_ON: Final = """
SELECT source_id, started_at, left(cause, 500), left(comment, 500), left(author, 500)
FROM state_comments
WHERE table_name = $1 AND source_id = $2 AND started_at >= $3 AND started_at < $4
ORDER BY started_at LIMIT 1000
"""
_COMMENT: Final = """
INSERT INTO state_comments (table_name, source_id, started_at, cause, comment, author)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (table_name, source_id, started_at) DO UPDATE
SET cause = EXCLUDED.cause, comment = EXCLUDED.comment, author = EXCLUDED.author,
    changed_at = EXCLUDED.changed_at
"""


class ReportSettings(NamedTuple):
    """Settings of all reports."""

    time_zone: str
    micro_stop: timedelta
    max_gap: timedelta | None
    """None: three intervals of the source."""


class Shift(NamedTuple):
    """A shift of the calendar."""

    name: str
    starts: time
    ends: time
    """On the next day if no later than `starts`."""
    days: list[int]
    """Weekdays on which it starts; 1 is Monday."""
    on_holidays: bool


class PlannedStop(NamedTuple):
    """A period in which sources are planned not to work."""

    id: int
    started_at: str
    ended_at: str
    source_id: int | None
    """None: all sources with the labels."""
    labels: dict[str, str]
    reason: str


class Comment(NamedTuple):
    """A comment on an interval of a state."""

    source_id: int
    started_at: str
    """A time within the interval."""
    cause: str
    comment: str
    author: str | None
    """Who wrote it last; None: not known."""


async def read_settings(connection: Connection) -> ReportSettings:
    """Return the settings of all reports."""
    async with used(connection):
        return ReportSettings(*await connection.fetchrow(_SETTINGS))


async def change_settings(connection: Connection, settings: ReportSettings) -> None:
    """Change the settings of all reports.

    Raises:
        UsageError: PostgreSQL does not know the time zone.
    """
    async with used(connection):
        if not await connection.fetchval(_IS_ZONE, settings.time_zone):
            raise UsageError(
                f"PostgreSQL knows no time zone {settings.time_zone!r}: name one such as Asia/Seoul"
            )
        await connection.execute(_SET, *settings)


async def list_shifts(connection: Connection) -> list[Shift]:
    """Return all shifts, the earliest of a day first."""
    async with used(connection):
        return [Shift(*row) for row in await connection.fetch(_SHIFTS)]


async def add_shift(connection: Connection, shift: Shift) -> None:
    """Add a shift, or change the one of this name."""
    async with used(connection):
        await connection.execute(_ADD_SHIFT, *shift)


async def remove_shift(connection: Connection, name: str) -> bool:
    """Remove a shift; return whether it existed."""
    return await remove(connection, "DELETE FROM report_shifts WHERE name = $1", name)


async def list_holidays(connection: Connection) -> list[tuple[date, str | None]]:
    """Return all holidays with their names."""
    async with used(connection):
        return [(day, name) for day, name in await connection.fetch(_HOLIDAYS)]


async def add_holiday(connection: Connection, day: date, name: str | None) -> None:
    """Add a holiday, or change its name."""
    async with used(connection):
        await connection.execute(_ADD_HOLIDAY, day, name)


async def remove_holiday(connection: Connection, day: date) -> bool:
    """Remove a holiday; return whether it existed."""
    return await remove(connection, "DELETE FROM report_holidays WHERE day = $1", day)


async def list_stops(connection: Connection, limit: int) -> list[PlannedStop]:
    """Return at most `limit` planned stops, the latest first."""
    async with used(connection):
        rows = await connection.fetch(_STOPS, limit)
    return [PlannedStop(**{**row, "labels": json.loads(row["labels"])}) for row in rows]


async def add_stop(
    connection: Connection,
    times: tuple[str, str],
    reason: str,
    *,
    source: int | None = None,
    labels: Mapping[str, str] | None = None,
) -> int:
    """Add a planned stop; return its id.

    Args:
        connection: The session.
        times: When it starts and ends, as PostgreSQL reads times.
        reason: Why the sources stop.
        source: Which source stops; None: all with the labels.
        labels: The labels that a source must have.

    Raises:
        MissingEntryError: there is no such source.
    """
    written = json.dumps(dict(labels or {}))
    try:
        async with used(connection):
            id_: int = await connection.fetchval(_ADD_STOP, *times, source, written, reason)
    except MissingReferenceError:
        raise no_source(source) from None
    return id_


async def remove_stop(connection: Connection, id_: int) -> bool:
    """Remove a planned stop; return whether it existed."""
    return await remove(connection, "DELETE FROM planned_stops WHERE id = $1", id_)


async def classify(connection: Connection, code_table: str, code: int, class_: str) -> None:
    """Set what a code means for reports: `ok`, `failure` or `planned`."""
    async with used(connection):
        await connection.execute(_CLASSIFY, code_table, code, class_)


async def declassify(connection: Connection, code_table: str, code: int) -> None:
    """Reset what a code means for reports to the default: 0 is ok, others are failures."""
    statement = "DELETE FROM code_classes WHERE code_table = $1 AND code = $2"
    await remove(connection, statement, code_table, code)


async def find_classes(
    connection: Connection, code_table: str, codes: Collection[int]
) -> dict[int, str]:
    """Return what codes mean for reports: 0 is ok and others are failures, unless classified."""
    async with used(connection):
        classes = await classes_of(connection, code_table)
    return {code: class_of(code, classes) for code in codes}


async def list_comments(connection: Connection, table: str, limit: int) -> list[Comment]:
    """Return at most `limit` comments on states of a table, the latest first."""
    async with used(connection):
        return [Comment(*row) for row in await connection.fetch(_COMMENTS, table, limit)]


async def comments_on(
    connection: Connection, table: str, source: int, since: str, until: str
) -> list[Comment]:
    """Return the comments on the states of a source in a range of time, the earliest first."""
    async with used(connection):
        rows = await connection.fetch(_COMMENTS_ON, table, source, since, until)
    return [Comment(*row) for row in rows]


async def comment(connection: Connection, table: str, comment: Comment) -> None:
    """Comment on an interval, or change the comment of that time.

    Raises:
        MissingEntryError: there is no such source.
    """
    try:
        async with used(connection):
            await connection.execute(_COMMENT, table, *comment)
    except MissingReferenceError:
        raise no_source(comment.source_id) from None


async def remove_comment(connection: Connection, table: str, source: int, started_at: str) -> bool:
    """Remove a comment; return whether it existed."""
    statement = (
        "DELETE FROM state_comments WHERE table_name = $1 AND source_id = $2 AND started_at = $3"
    )
    return await remove(connection, statement, table, source, started_at)


async def remove(connection: Connection, statement: str, *arguments: object) -> bool:
    """Delete rows; return whether there were any."""
    async with used(connection):
        status: str = await connection.execute(statement, *arguments)
    return not status.endswith(" 0")


def no_source(source: int | None) -> MissingEntryError:
    """Return the error for a source that does not exist."""
    return MissingEntryError(f"there is no source {source}; `receiver report` shows their numbers")
