"""The label sets of all sources in memory, so that matchers are evaluated without the database."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import numpy as np

from receiver.protocol.queries import Matcher
from receiver.protocol.series import NAME
from receiver.rows.columns import Flags
from receiver.rows.model import Labels
from receiver.storage.connection.database import Connection
from receiver.storage.reading.observing import LARGEST_LABELS
from receiver.storage.writing.labels import from_json

RELOAD_AFTER: Final = 300.0
"""Seconds after which all sources are read again: somebody may have changed labels by hand."""
SETTLED: Final = "10 minutes"
"""Age of a source above which none with a lower id can appear: ids are taken before the commit."""
FETCHED: Final = 500
"""Number of sources read at once: with more, nothing else would run for tens of milliseconds."""

FIND: Final = f"""
SELECT id, created_at < now() - INTERVAL '{SETTLED}' AS settled,
    CASE WHEN pg_column_size(labels) <= {LARGEST_LABELS} THEN labels::text END AS labels
FROM sources WHERE id > $1 ORDER BY id
"""


class KnownSources:
    """The label sets of the sources, by id.

    Args:
        clock: Tells the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._refreshing = asyncio.Lock()
        self._loaded_at = clock()
        self._settled = 0
        self._places: dict[int, int] = {}
        self.ids: list[int] = []
        self.labels: list[Labels] = []
        self._index: dict[str, dict[str, list[int]]] = {}
        self._pairs: dict[tuple[str, str], tuple[str, str]] = {}

    async def refresh(self, connection: Connection) -> None:
        """Read the sources that are new in the table.

        Args:
            connection: Must be in a transaction.
        """
        async with self._refreshing:
            await self._load(connection)

    @property
    def is_outdated(self) -> bool:
        """Return whether all sources should be read again, into a new object."""
        return self._clock() - self._loaded_at > RELOAD_AFTER

    async def _load(self, connection: Connection) -> None:
        settled = self._settled
        cursor = await connection.cursor(FIND, settled)
        while rows := await cursor.fetch(FETCHED):
            for id_, is_settled, text in rows:
                if id_ not in self._places and text is not None:
                    self._add(id_, read_labels(text))
                if is_settled:
                    settled = max(settled, id_)
        self._settled = settled

    def _add(self, id_: int, labels: Labels) -> None:
        place = len(self.ids)
        self._places[id_] = place
        self.ids.append(id_)
        # Most label pairs are shared by many sources.
        labels = tuple(self._pairs.setdefault(pair, pair) for pair in labels)
        self.labels.append(labels)
        for name, value in labels:
            self._index.setdefault(name, {}).setdefault(value, []).append(place)

    def match(self, matchers: Iterable[Matcher]) -> Iterator[list[int] | None]:
        """Yield None after each piece of work, finally the indexes of sources that match all."""
        found = np.ones(len(self.ids), np.bool_)
        for matcher in matchers:
            yield from self._narrow(found, matcher)
        yield np.flatnonzero(found).tolist()

    def _narrow(self, found: Flags, matcher: Matcher) -> Iterator[None]:
        values = self._index.get(matcher.label, {})
        if matcher.equals:
            values = {matcher.equals: values.get(matcher.equals, [])}
        # A source without the label has the value "".
        matched = np.full(len(found), matcher.matches(""), np.bool_)
        # This runs in a thread, and sources may be added meanwhile.
        for value, places in list(values.items()):
            matched[places[: bisect_left(places, len(found))]] = matcher.matches(value)
            yield None
        found &= matched


def read_labels(text: str) -> Labels:
    """Read labels as the database stores them; an empty label is the same as none."""
    return tuple((name, value) for name, value in from_json(text) if value and name != NAME)
