"""The read-only pages, one handler each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from aiohttp import web

from receiver.config.settings import Settings
from receiver.rows.reasons import Reason
from receiver.storage.reading import arrivals, codes, intervals, logs, rejected, sources
from receiver.storage.reading.connection import Viewer
from receiver.web.answers import View
from receiver.web.display import postgres_text
from receiver.web.editing import remember, token
from receiver.web.parameters import (
    LONG_RANGES,
    MAX_TEXT,
    RANGES,
    read_number,
    read_place,
    read_window,
)
from receiver.web.timeline import draw

MOST_SOURCES: Final = 10
"""Maximum number of sources on a page."""
SOURCE_HOURS: Final = 240
"""Maximum number of source hours of a timeline, which limits the rows that are read."""
MOST_INTERVALS: Final = 100
"""Maximum number of intervals drawn per source."""
ROWS: Final = 50
"""Rows of a table on a page."""
SUGGESTIONS: Final = 100
"""Sources and codes offered by a filter."""


class Pages:
    """Answers requests for pages.

    Args:
        settings: Name the database.
    """

    def __init__(self, settings: Settings) -> None:
        self._viewer = Viewer(settings)

    async def overview(self, view: View) -> web.Response:
        """Answer `GET /`: whether data arrives, the newest row and the states of each source."""
        window = read_window(view.query, RANGES, "1h")
        after = read_number(view.query, "after", lowest=0) or 0
        length = RANGES[window.name]
        until = window.until or datetime.now(UTC)
        since = until - length
        limit = max(1, min(MOST_SOURCES, timedelta(hours=SOURCE_HOURS) // length))
        async with self._viewer.connection() as connection:
            arrived = await arrivals.arrivals(connection)
            shown = await sources.newest(connection, after, limit + 1)
            ids = [source.id for source in shown[:limit]]
            found = await intervals.intervals(connection, since, until, ids, MOST_INTERVALS)
        return await view.render(
            "overview.html",
            arrived=arrived,
            sources=shown[:limit],
            more=len(shown) > limit,
            after=after,
            window=window,
            ranges=RANGES,
            since=postgres_text(since),
            until=postgres_text(until),
            earlier=iso(since),
            later=iso(until + length) if window.until else None,
            lines=draw(found, since, until),
            legend=sorted({i[1]: i for i in found}.items()),
            most=MOST_INTERVALS,
        )

    async def logs(self, view: View) -> web.Response:
        """Answer `GET /logs`: the newest rows, by source, code and range."""
        window = read_window(view.query, LONG_RANGES, "24h")
        place = read_place(view.query, "before")
        length = LONG_RANGES[window.name]
        until = window.until or datetime.now(UTC)
        # By the database's clock, as for all newest rows; "all" includes times in the future.
        now = "infinity" if length is None else "now"
        wanted = logs.Filter(
            since="-infinity" if length is None else (until - length).isoformat(),
            until=window.until.isoformat() if window.until else now,
            source=read_number(view.query, "source", lowest=0),
            code=read_number(view.query, "code"),
        )
        async with self._viewer.connection() as connection:
            page = await logs.page(connection, wanted, place, ROWS)
            known_sources = await sources.first_sources(connection, SUGGESTIONS)
            known_codes = await codes.codes(connection, codes.FIRST, SUGGESTIONS)
        return await view.render(
            "logs.html",
            page=page,
            first=place == logs.NEWEST,
            wanted=wanted,
            window=window,
            ranges=LONG_RANGES,
            looked_at=logs.LOOKED_AT,
            known_sources=known_sources,
            known_codes=known_codes,
        )

    async def rejected(self, view: View) -> web.Response:
        """Answer `GET /rejected`: the rejected samples and the reasons."""
        before = read_number(view.query, "before", lowest=0, highest=rejected.NEWEST)
        start = rejected.NEWEST if before is None else before
        async with self._viewer.connection() as connection:
            found = await rejected.rejected(connection, start, ROWS + 1)
        return await view.render(
            "rejected.html",
            samples=found[:ROWS],
            more=len(found) > ROWS,
            first=before is None,
            # A newer receiver on the same database may have other reasons.
            reasons=set(Reason),
        )

    async def codes(self, view: View) -> web.Response:
        """Answer `GET /codes`: the error codes."""
        start = read_number(view.query, "from")
        saved = read_number(view.query, "saved")
        namesake = read_number(view.query, "namesake")
        async with self._viewer.connection() as connection:
            found = await codes.codes(connection, codes.FIRST if start is None else start, ROWS + 1)
        proof = token(view)
        response = await view.render(
            "codes.html",
            codes=found[:ROWS],
            start=start,
            following=found[ROWS].code if len(found) > ROWS else None,
            saved=saved,
            namesake=namesake,
            token=proof,
            most=MAX_TEXT,
        )
        return remember(response, view, proof)


def iso(time: datetime) -> str:
    """Return a time in the format of the parameter `until`."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
