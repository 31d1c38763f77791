"""The page of shifts, holidays and planned stops, and its forms."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, TypeAlias

from aiohttp import web

from receiver.errors import BadRequestError, MissingEntryError, UsageError
from receiver.storage.connection.database import Connection
from receiver.storage.editing import calendar
from receiver.storage.reading import sources
from receiver.storage.reading.connection import Viewer
from receiver.web.answers import View
from receiver.web.forms import Forms, go_to, render_with_forms
from receiver.web.names import by_name, name_sources
from receiver.web.parameters import (
    BadParameterError,
    Values,
    read_choice,
    read_clock,
    read_day,
    read_number,
    read_text,
    read_time,
)
from receiver.web.zones import read_zone

MOST_SOURCES: Final = 1000
"""Maximum number of sources that the form of planned stops offers by name."""
MOST: Final = 200
"""Maximum number of planned stops, and of holidays, that are listed; the latest ones."""
DAY_SECONDS: Final = 86_400

Change: TypeAlias = Callable[[Connection], Awaitable[object]]


class CalendarPages:
    """Answers `/calendar`.

    Args:
        viewer: Opens connections for reading.
        forms: Reads the forms.
        template: The template of source names.
    """

    def __init__(self, viewer: Viewer, forms: Forms, template: str) -> None:
        self._viewer = viewer
        self._forms = forms
        self._template = template

    async def show(self, view: View) -> web.Response:
        """Answer `GET /calendar`."""
        async with self._viewer.connection() as connection:
            rules = await calendar.read_settings(connection)
            shifts = await calendar.list_shifts(connection)
            holidays = await calendar.list_holidays(connection)
            stops = await calendar.list_stops(connection, MOST)
            known = await sources.first_sources(connection, MOST_SOURCES)
        return await render_with_forms(
            view,
            "calendar.html",
            rules=rules,
            shifts=shifts,
            holidays=holidays[-MOST:],
            stops=stops,
            names=by_name(name_sources(known, self._template)),
            saved="saved" in view.query,
        )

    async def change(self, view: View) -> web.Response:
        """Answer `POST /calendar`.

        Raises:
            BadRequestError: a field is malformed, or there is no such entry.
        """
        form = await self._forms.read(view)
        change = READERS[read_choice(form, "action", READERS, "")](form)
        try:
            async with self._forms.connection() as connection:
                await change(connection)
        except (MissingEntryError, UsageError) as error:
            raise BadRequestError(str(error)) from error
        return go_to(view.link("calendar", saved=1))


def read_rules(form: Values) -> Change:
    """Read the form with the zone and the limit of micro-stops.

    Raises:
        BadParameterError: a field is malformed, or there is no such zone.
    """
    zone = read_text(form, "time_zone", needed=True)
    if read_zone(zone) is None:
        raise BadParameterError("bad_zone", name="time_zone")
    micro_stop = timedelta(seconds=needed_number(form, "micro_stop", DAY_SECONDS))

    async def change(connection: Connection) -> None:
        known = await calendar.read_settings(connection)
        changed = known._replace(time_zone=zone, micro_stop=micro_stop)
        await calendar.change_settings(connection, changed)

    return change


def read_shift(form: Values) -> Change:
    """Read the form that adds a shift.

    Raises:
        BadParameterError: a field is malformed, or no day is chosen.
    """
    days = [day for day in range(1, 8) if form.get(f"day{day}")]
    if not days:
        raise BadParameterError("bad_days")
    shift = calendar.Shift(
        read_text(form, "name", needed=True),
        read_clock(form, "starts"),
        read_clock(form, "ends"),
        days,
        bool(form.get("on_holidays")),
    )
    return lambda connection: calendar.add_shift(connection, shift)


def read_removed_shift(form: Values) -> Change:
    """Read the form that removes a shift."""
    name = read_text(form, "name", needed=True)
    return lambda connection: calendar.remove_shift(connection, name)


def read_holiday(form: Values) -> Change:
    """Read the form that adds a holiday.

    Raises:
        BadParameterError: the day is malformed or missing.
    """
    day, name = read_day(form, "day"), read_text(form, "name", needed=False)
    if day is None:
        raise BadParameterError("bad_day", name="day")
    return lambda connection: calendar.add_holiday(connection, day, name)


def read_removed_holiday(form: Values) -> Change:
    """Read the form that removes a holiday.

    Raises:
        BadParameterError: the day is malformed or missing.
    """
    day = read_day(form, "day")
    if day is None:
        raise BadParameterError("bad_day", name="day")
    return lambda connection: calendar.remove_holiday(connection, day)


def read_stop(form: Values) -> Change:
    """Read the form that adds a planned stop.

    Raises:
        BadParameterError: a field is malformed, or the stop does not end after its start.
    """
    zone = read_zone(form.get("zone", ""))
    if zone is None:
        raise BadParameterError("bad_zone", name="zone")
    since, until = read_time(form, "since", zone), read_time(form, "until", zone)
    if since is None or until is None or since >= until:
        raise BadParameterError("bad_stop")
    label, equal, value = read_text(form, "label", needed=False).partition("=")
    if label and not (equal and label.strip()):
        raise BadParameterError("bad_label")
    labels = {label.strip(): value.strip()} if equal else {}
    source, reason = read_number(form, "source", lowest=0), read_text(form, "reason", needed=False)
    times = since.isoformat(), until.isoformat()
    return lambda connection: calendar.add_stop(
        connection, times, reason, source=source, labels=labels
    )


def read_removed_stop(form: Values) -> Change:
    """Read the form that removes a planned stop."""
    id_ = needed_number(form, "id", 2**31 - 1)
    return lambda connection: calendar.remove_stop(connection, id_)


def needed_number(form: Values, name: str, highest: int) -> int:
    """Read a whole number of at least 0.

    Raises:
        BadParameterError: it is malformed or missing.
    """
    number = read_number(form, name, lowest=0, highest=highest)
    if number is None:
        raise BadParameterError("bad_number", name=name, lowest=0, highest=highest)
    return number


READERS: Final[dict[str, Callable[[Values], Change]]] = {
    "rules": read_rules,
    "shift": read_shift,
    "remove_shift": read_removed_shift,
    "holiday": read_holiday,
    "remove_holiday": read_removed_holiday,
    "stop": read_stop,
    "remove_stop": read_removed_stop,
}
"""The readers of the forms, by action."""
