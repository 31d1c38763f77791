"""What reports go by: shifts, holidays, planned stops, comments, for listing and editing them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Final, NamedTuple

from receiver.rows.tables import Table
from receiver.storage.connection.database import Connection, used

MOST: Final = 200
"""Planned stops and holidays that are listed, the latest first."""


class Shift(NamedTuple):
    """A shift, by the wall clock of the calendar's zone."""

    name: str
    starts: time
    ends: time
    """No later than `starts`: on the next day."""
    days: list[int]
    """On which it starts: 1 is Monday."""
    on_holidays: bool


class Stop(NamedTuple):
    """A time that was planned not to be worked."""

    id: int
    started_at: str
    ended_at: str
    source_id: int | None
    labels: str
    """JSON; `{}` without any."""
    reason: str


class ShiftTime(NamedTuple):
    """A shift of one day."""

    name: str
    day: date
    since: datetime
    until: datetime


class Comment(NamedTuple):
    """What a person wrote about a state."""

    at: float
    """A time within the state, in seconds since the Unix epoch."""
    cause: str
    comment: str


class Rules(NamedTuple):
    """What all reports go by."""

    time_zone: str
    micro_stop: float
    """Seconds below which a failure is a micro-stop."""


async def read_rules(connection: Connection) -> Rules:
    """Return the zone and the limit of micro-stops."""
    async with used(connection):
        row = await connection.fetchrow(
            "SELECT time_zone, EXTRACT(EPOCH FROM micro_stop)::double precision "
            "FROM report_settings"
        )
    return Rules(*row) if row else Rules("UTC", 300.0)


async def write_rules(connection: Connection, rules: Rules) -> None:
    """Change the zone and the limit of micro-stops."""
    async with used(connection):
        await connection.execute(
            "UPDATE report_settings SET time_zone = $1, "
            "micro_stop = make_interval(secs => $2::double precision)",
            *rules,
        )


async def read_shifts(connection: Connection) -> list[Shift]:
    """Return the shifts, by the time at which they start."""
    async with used(connection):
        rows = await connection.fetch(
            "SELECT name, starts, ends, days, on_holidays FROM report_shifts ORDER BY starts, name"
        )
    return [Shift(*row) for row in rows]


async def write_shift(connection: Connection, shift: Shift) -> None:
    """Add a shift, or change the one of the same name."""
    async with used(connection):
        await connection.execute(
            "INSERT INTO report_shifts (name, starts, ends, days, on_holidays) "
            "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name) DO UPDATE SET "
            "starts = excluded.starts, ends = excluded.ends, days = excluded.days, "
            "on_holidays = excluded.on_holidays",
            *shift,
        )


async def remove_shift(connection: Connection, name: str) -> None:
    """Remove a shift, if it is there."""
    async with used(connection):
        await connection.execute("DELETE FROM report_shifts WHERE name = $1", name)


async def read_shift_times(
    connection: Connection, since: datetime, until: datetime
) -> list[ShiftTime]:
    """Return each shift that takes place within a range of time, wholly or in part."""
    async with used(connection):
        rows = await connection.fetch(
            "SELECT shift, day, EXTRACT(EPOCH FROM started_at)::double precision, "
            "EXTRACT(EPOCH FROM ended_at)::double precision FROM shift_times($1, $2)",
            since.isoformat(),
            until.isoformat(),
        )
    zone = since.tzinfo
    return [
        ShiftTime(name, day, datetime.fromtimestamp(start, zone), datetime.fromtimestamp(end, zone))
        for name, day, start, end in rows
    ]


async def read_holidays(connection: Connection) -> list[tuple[date, str]]:
    """Return the latest holidays."""
    async with used(connection):
        rows = await connection.fetch(
            "SELECT day, COALESCE(name, '') FROM report_holidays ORDER BY day DESC LIMIT $1", MOST
        )
    return [(day, name) for day, name in rows]


async def write_holiday(connection: Connection, day: date, name: str) -> None:
    """Add a holiday, or name the one of that day."""
    async with used(connection):
        await connection.execute(
            "INSERT INTO report_holidays (day, name) VALUES ($1, $2) "
            "ON CONFLICT (day) DO UPDATE SET name = excluded.name",
            day,
            name,
        )


async def remove_holiday(connection: Connection, day: date) -> None:
    """Remove a holiday, if it is there."""
    async with used(connection):
        await connection.execute("DELETE FROM report_holidays WHERE day = $1", day)


async def read_stops(connection: Connection) -> list[Stop]:
    """Return the latest planned stops."""
    async with used(connection):
        rows = await connection.fetch(
            "SELECT id, started_at, ended_at, source_id, left(labels::text, 500), "
            "left(reason, 500) FROM planned_stops ORDER BY started_at DESC, id DESC LIMIT $1",
            MOST,
        )
    return [Stop(*row) for row in rows]


async def add_stop(connection: Connection, stop: Stop) -> None:
    """Add a planned stop; its id is not used."""
    async with used(connection):
        await connection.execute(
            "INSERT INTO planned_stops (started_at, ended_at, source_id, labels, reason) "
            "VALUES ($1, $2, $3, $4, $5)",
            *stop[1:],
        )


async def remove_stop(connection: Connection, id_: int) -> None:
    """Remove a planned stop, if it is there."""
    async with used(connection):
        await connection.execute("DELETE FROM planned_stops WHERE id = $1", id_)


async def write_class(
    connection: Connection, code_table: str, code: int, class_: str | None
) -> None:
    """Say what a code means for reports; None: what it means by itself."""
    async with used(connection):
        if class_ is None:
            await connection.execute(
                "DELETE FROM code_classes WHERE code_table = $1 AND code = $2", code_table, code
            )
            return
        await connection.execute(
            "INSERT INTO code_classes (code_table, code, class) VALUES ($1, $2, $3) "
            "ON CONFLICT (code_table, code) DO UPDATE SET class = excluded.class",
            code_table,
            code,
            class_,
        )


async def read_comments(
    connection: Connection, table: Table, source: int, window: tuple[datetime, datetime]
) -> list[Comment]:
    """Return what people wrote about the states of a source, by time."""
    since, until = (moment.isoformat() for moment in window)
    async with used(connection):
        rows = await connection.fetch(
            "SELECT EXTRACT(EPOCH FROM started_at)::double precision, left(cause, 500), "
            "left(comment, 500) FROM state_comments WHERE table_name = $1 AND source_id = $2 "
            "AND started_at >= $3 AND started_at < $4 ORDER BY started_at",
            table.name,
            source,
            since,
            until,
        )
    return [Comment(*row) for row in rows]


async def write_comment(
    connection: Connection, table: Table, source: int, comment: Comment
) -> None:
    """Write about the state of a source at a time; without any text, remove what is written."""
    moment = datetime.fromtimestamp(comment.at, UTC).isoformat()
    async with used(connection):
        if not (comment.cause or comment.comment):
            await connection.execute(
                "DELETE FROM state_comments WHERE table_name = $1 AND source_id = $2 "
                "AND started_at = $3",
                table.name,
                source,
                moment,
            )
            return
        await connection.execute(
            "INSERT INTO state_comments (table_name, source_id, started_at, cause, comment) "
            "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (table_name, source_id, started_at) "
            "DO UPDATE SET cause = excluded.cause, comment = excluded.comment, "
            "changed_at = now()",
            table.name,
            source,
            moment,
            comment.cause,
            comment.comment,
        )
