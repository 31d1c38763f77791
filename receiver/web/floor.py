"""Reads the state, name and look of each source, for all pages about states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from receiver.config.settings import Settings
from receiver.rows.tables import Table
from receiver.storage.connection.database import Connection
from receiver.storage.editing import codes
from receiver.storage.editing.codes import Code
from receiver.storage.reading import arrivals, states
from receiver.storage.reading.arrivals import Arrivals
from receiver.storage.reading.began import read_began
from receiver.storage.reading.states import State
from receiver.web.listing import Item, make_items
from receiver.web.looks import places
from receiver.web.names import name_sources

MOST_CODES: Final = 500
"""Maximum number of codes that a filter offers."""
LATE: Final = 2
"""Data is late after this many intervals of the most frequent source without any row."""


class Floor(NamedTuple):
    """All sources of a table, and their current states."""

    table: Table
    items: list[Item]
    codes: dict[int, Code]
    places: dict[int, int]
    classes: Mapping[int, State]
    arrived: Arrivals

    @property
    def newest_at(self) -> float | None:
        """Time of the newest row, in seconds since the Unix epoch; None without rows."""
        return max((item.source.at for item in self.items if item.source.at), default=None)

    @property
    def flow(self) -> str:
        """Whether rows arrive: `yes`, `late`, `none` or `never`."""
        found = [item.source for item in self.items if item.source.age is not None]
        if not found:
            return "never"
        if all(source.state is State.SILENT for source in found):
            return "none"
        youngest = min(source.age for source in found if source.age is not None)
        steps = min(source.gap for source in found) / states.HELD
        return "late" if youngest > LATE * steps else "yes"


class FloorReader:
    """Reads the sources of a table.

    Args:
        settings: The receiver's settings, with the tables and the names of sources.
    """

    def __init__(self, settings: Settings) -> None:
        self._catalogue = settings.catalogue
        self._template = settings.source_name or ""

    async def read(self, connection: Connection, table: Table) -> Floor:
        """Read all sources with their states."""
        arrived = await arrivals.arrivals(connection, self._catalogue)
        listed = await codes.of_table(connection, table, 10 * MOST_CODES)
        known = {code.code: code for code in listed}
        classes = await states.read_classes(connection, table)
        others = [other for other in self._catalogue.tables if other.name != table.name]
        sources = await states.read_states(connection, table, classes, others)
        began = await read_began(connection, table, sources, classes)
        names = name_sources({source.id: source.labels for source in sources}, self._template)
        looks = places(known)
        items = make_items(sources, names, known, looks, began)
        return Floor(table, items, known, looks, classes, arrived)
