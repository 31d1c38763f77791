"""The pages about the states of sources."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import partial
from typing import Any, Final

from aiohttp import web

from receiver.storage.connection.database import Connection
from receiver.storage.reading.began import LOOKED_BACK
from receiver.storage.reading.newest import NewestRows
from receiver.storage.reading.states import State
from receiver.storage.reading.stretches import Stretch, read_stretches
from receiver.web import overview
from receiver.web.answers import View
from receiver.web.board import lay_out, usual_group
from receiver.web.display import clock, iso, percent
from receiver.web.floor import MOST_CODES, Floor
from receiver.web.listing import ORDERS, Item, Wanted, choose, counts, group_labels
from receiver.web.looks import look_of, looks_of
from receiver.web.parameters import (
    RANGES,
    Window,
    read_choice,
    read_number,
    read_text,
)
from receiver.web.recent import Recent
from receiver.web.ticks import ticks
from receiver.web.zones import midnight

PER_PAGE: Final = 25
"""Number of sources per page of the list."""
STATES: Final = (State.FAILURE, State.SILENT, State.PLANNED, State.OK)
"""States with a card; the share of the last one is of all sources, even those without a row."""


def read_wanted(view: View) -> Wanted:
    """Read the filter and the order of the sources.

    Raises:
        BadParameterError: a parameter is wrong.
    """
    state = read_choice(view.query, "state", {"": None, **dict.fromkeys(State)}, "")
    return Wanted(
        read_text(view.query, "q", needed=False),
        State(state) if state else None,
        read_number(view.query, "code"),
        read_choice(view.query, "sort", ORDERS, "problems"),
        read_text(view.query, "group", needed=False),
    )


def read_page(view: View) -> int:
    """Read the number of the requested page of the list.

    Raises:
        BadParameterError: it is not a number of at least 1.
    """
    return read_number(view.query, "page", lowest=1) or 1


class Overview:
    """Answers `GET /`.

    Args:
        floor: All sources.
        view: The request.
        window: The range of the strips.
        recent: Caches the states that the strips show.
    """

    def __init__(self, floor: Floor, view: View, window: Window, recent: Recent) -> None:
        self.floor = floor
        self._recent = recent
        self.view = view
        self.wanted = read_wanted(view)
        self.window = window
        self.since, self.until = window.ends(view.now)
        self.newest = NewestRows(floor.table)
        self.found = choose(floor.items, self.wanted)
        self.pages = max(1, -(-len(self.found) // PER_PAGE))
        self.page = min(read_page(view), self.pages)
        first = (self.page - 1) * PER_PAGE
        self.shown = self.found[first : first + PER_PAGE]

    async def answer(self, connection: Connection, common: dict[str, Any]) -> web.Response:
        """Read the other data of the page, and render it."""
        ids = [item.source.id for item in self.shown]
        cells = await self.newest.cells(connection, ids)
        lines = await self._lines(connection, ids)
        began = midnight(self.view.now, self.view.zone)
        today = lines
        if self.window.until or self.since > began:
            today = await self._recently(connection, ("today", began), began, ids)
        drawing = make_drawing(self.floor, self.view, (self.since, self.until))
        rows = []
        for heading, item in overview.headed(self.shown, self.wanted):
            id_ = item.source.id
            line = lines.get(id_, [])
            since, at_least = self._since(item, line)
            failures, availability = overview.figures(today.get(id_, []), began.timestamp())
            rows.append(
                overview.Row(
                    heading,
                    item,
                    cells.get(id_, []),
                    overview.draw(line, drawing),
                    since,
                    at_least,
                    "" if since is None else self.view.day_and_time(since),
                    str(failures),
                    "–" if availability is None else percent(availability),
                )
            )
        return await self.view.render("overview.html", **common, **self._values(rows))

    async def _lines(self, connection: Connection, ids: list[int]) -> dict[int, list[Stretch]]:
        """Return the states of the sources in the range of the strips."""
        table = self.floor.table
        if self.window.until:
            return await read_stretches(connection, table, (self.since, self.until), ids)

        return await self._recently(connection, (self.window.name,), self.since, ids)

    async def _recently(
        self, connection: Connection, range_: tuple[object, ...], since: datetime, ids: list[int]
    ) -> dict[int, list[Stretch]]:
        """Return the states of the sources from a time until now, from the cache if possible."""
        table = self.floor.table

        async def read(
            ends: tuple[datetime, datetime], sources: Collection[int]
        ) -> dict[int, list[Stretch]]:
            return await read_stretches(connection, table, ends, sources)

        key = (table.name, *range_, *sorted(self.floor.classes.items()))
        return await self._recent.read(key, since, self.view.now, ids, read)

    def _since(self, item: Item, line: list[Stretch]) -> tuple[float | None, bool]:
        """Return when a source's state began, and whether it may have begun earlier."""
        if item.since is not None:
            return item.since, lasts_long(item, self.view.now)
        if self.window.until or item.state is State.NONE:
            return None, False
        begun = None
        for stretch in reversed(line):
            if stretch.state is not item.state or (begun is not None and stretch.end < begun):
                break
            begun = stretch.start
        return begun, begun is not None and begun <= self.since.timestamp() + item.source.gap

    def _values(self, rows: list[overview.Row]) -> dict[str, Any]:
        floor, window, now = self.floor, self.window, self.view.now
        length = self.until - self.since
        tally = counts(floor.items)
        first = (self.page - 1) * PER_PAGE
        lines = [row.line for row in rows if row.line]
        return {
            "counts": tally,
            "total": len(floor.items),
            "cards": [(state, self._note(state, tally)) for state in STATES],
            "shares": list(overview.starts(tally)),
            "looks": {state: look_of(state) for state in State},
            "look": looks_of(floor.codes, floor.classes),
            "hour": self.view.hour,
            "flow": floor.flow,
            "newest_at": floor.newest_at,
            "arrived": floor.arrived,
            "wanted": self.wanted,
            "states": State,
            "orders": ORDERS,
            "groups": group_labels(floor.items),
            "codes": list(floor.codes.values())[:MOST_CODES],
            "columns": self.newest.columns,
            "window": window,
            "ranges": window.choices(RANGES),
            "earlier": iso(self.since),
            "later": iso(min(self.until + length, now)),
            "ticks": ticks(self.since, self.until, self.view.zone, 5),
            "legend": overview.legend(lines),
            "rows": rows,
            "found": len(self.found),
            "page": self.page,
            "pages": self.pages,
            "numbers": overview.numbers(self.page, self.pages),
            "first": first + 1,
            "last": first + len(rows),
        }

    def _note(self, state: State, tally: dict[State, int]) -> str:
        """Return the text below the number of sources in a state."""
        view, items = self.view, [item for item in self.floor.items if item.state is state]
        if state is State.OK:
            return percent(tally[state] / len(self.floor.items)) if self.floor.items else ""
        if state is State.SILENT and items:
            newest = max(item.source.at or 0.0 for item in items)
            return view.say("last_silent", age=view.length(view.now.timestamp() - newest))
        if state is State.PLANNED and items:
            ends = max(item.source.stop_ends or 0.0 for item in items)
            if ends:
                return view.say("planned_until", time=view.hour(ends))
        begun = [item.since for item in items if item.since is not None]
        if begun:
            return view.say("longest", age=view.length(view.now.timestamp() - min(begun)))
        return ""


def make_drawing(floor: Floor, view: View, ends: tuple[datetime, datetime]) -> overview.Drawing:
    """Return the parameters for drawing the strips of a range of time."""
    words = {**state_words(view), State.NONE: view.say("unknown")}
    since, until = (moment.timestamp() for moment in ends)
    return overview.Drawing(since, until, floor.codes, floor.places, words)


async def answer_board(floor: Floor, view: View, group: str) -> web.Response:
    """Answer `GET /board`."""
    label = group or usual_group(floor.items)
    return await view.render(
        "board.html",
        board=lay_out(floor.items, label, view.now.timestamp(), state_words(view)),
        counts=counts(floor.items),
        total=len(floor.items),
        states=STATES,
        flow=floor.flow,
        newest_at=floor.newest_at,
        clock=clock,
        hour=view.hour,
        long=partial(lasts_long, now=view.now),
    )


def lasts_long(item: Item, now: datetime) -> bool:
    """Return whether a state may have begun before the rows in which its start was looked up."""
    if item.since is None or item.state not in {State.FAILURE, State.PLANNED}:
        return False
    return now.timestamp() - item.since > LOOKED_BACK.total_seconds() - 2 * item.source.gap


def state_words(view: View) -> dict[State, str]:
    """Return the names of the states in the reader's language."""
    return {state: view.say(f"state_{state}") for state in State}
