"""The page of one source: its states over time, and what people wrote about them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from aiohttp import web

from receiver.errors import NotFoundError
from receiver.rows.tables import Table
from receiver.storage.connection.database import Connection
from receiver.storage.editing import calendar
from receiver.storage.editing.calendar import Comment
from receiver.storage.reading.stretches import Stretch, read_stretches
from receiver.web import overview, strips
from receiver.web.answers import View
from receiver.web.display import iso, percent, postgres_text
from receiver.web.floor import Floor
from receiver.web.floor_pages import make_drawing
from receiver.web.forms import Forms, go_to, render_with_forms
from receiver.web.looks import Look, look_of
from receiver.web.parameters import (
    CUSTOM,
    RANGES,
    BadParameterError,
    PageError,
    Window,
    read_number,
    read_text,
    read_time,
)
from receiver.web.ticks import ticks

BUCKETS: Final = 960
MOST_STATES: Final = 200
"""Maximum number of states that are listed, the newest first."""


class MissingSourceError(PageError, NotFoundError):
    """There is no such source."""


class Listed(NamedTuple):
    """A state in the list."""

    look: Look
    text: str
    start: float
    end: float
    since: str
    """In the format of PostgreSQL, like `until`."""
    until: str
    ongoing: bool
    at: str
    """The time that identifies the state in a form."""
    comments: list[Comment]


def read_source(view: View) -> int:
    """Read the id of the requested source.

    Raises:
        MissingSourceError: the query has no id.
    """
    id_ = read_number(view.query, "id", lowest=0)
    if id_ is None:
        raise MissingSourceError("no_source")
    return id_


async def answer_source(
    floor: Floor, view: View, window: Window, connection: Connection, common: dict[str, Any]
) -> web.Response:
    """Answer `GET /source`.

    Raises:
        MissingSourceError: the query has no id, or there is no such source.
    """
    id_ = read_source(view)
    item = next((one for one in floor.items if one.source.id == id_), None)
    if item is None:
        raise MissingSourceError("no_source")
    since, until = window.ends(view.now)
    found = (await read_stretches(connection, floor.table, (since, until), [id_])).get(id_, [])
    comments = await calendar.comments_on(
        connection, floor.table.name, id_, since.isoformat(), until.isoformat()
    )
    drawing = make_drawing(floor, view, (since, until))
    line = overview.draw(found, drawing, BUCKETS)
    failures, availability = overview.figures(found, since.timestamp())
    return await render_with_forms(
        view,
        "source.html",
        **common,
        id=id_,
        item=item,
        name=item.name,
        labels=item.source.labels,
        window=window,
        ranges=window.choices(RANGES),
        earlier=iso(since),
        earlier_since=iso(since - (until - since)) if window.since else None,
        iso=iso,
        span=spanned(window, since, until),
        line=line,
        ticks=ticks(since, until, view.zone),
        legend=overview.legend([line]),
        failures=failures,
        availability="–" if availability is None else percent(availability),
        states=list_states(found, comments, drawing, view.now),
        more=len(found) > MOST_STATES,
        saved="saved" in view.query,
    )


def spanned(window: Window, since: datetime, until: datetime) -> dict[str, str]:
    """Return the query parameters of a link to the rows of a range."""
    if window.until is None:
        return {} if window.name == CUSTOM else {"range": window.name}
    return {"range": CUSTOM, "since": iso(since), "until": iso(until)}


def list_states(
    found: Sequence[Stretch],
    comments: Sequence[Comment],
    drawing: overview.Drawing,
    now: datetime,
) -> list[Listed]:
    """Return the states for the list, the newest first, each with the comments within it."""
    listed = []
    for stretch in reversed(found[-MOST_STATES:]):
        state, code, start, end = stretch
        since, until = (datetime.fromtimestamp(moment, UTC) for moment in (start, end))
        listed.append(
            Listed(
                look_of(state, drawing.places.get(code or 0, 0)),
                overview.word(strips.Key(state, code), drawing),
                *(start, end, postgres_text(since), postgres_text(until)),
                end >= now.timestamp() - 1,
                since.isoformat(),
                [
                    one
                    for one in comments
                    if since <= datetime.fromisoformat(one.started_at) < until
                ],
            )
        )
    return listed


async def change_comment(view: View, forms: Forms, table: Table) -> web.Response:
    """Answer `POST /source`: save the comment on a state, or remove it if the form is empty.

    Raises:
        BadParameterError: a field is malformed.
        MissingSourceError: the query has no id.
    """
    form = await forms.read(view)
    id_ = read_source(view)
    at = read_time(form, "at", view.zone)
    if at is None:
        raise BadParameterError("bad_time", name="at", zone=view.zone)
    cause = read_text(form, "cause", needed=False)
    comment = read_text(form, "comment", needed=False)
    async with forms.connection() as connection:
        if cause or comment:
            written = Comment(id_, at.isoformat(), cause, comment, view.identity)
            await calendar.comment(connection, table.name, written)
        else:
            await calendar.remove_comment(connection, table.name, id_, at.isoformat())
    return go_to(view.same(saved=1))
