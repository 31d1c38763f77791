"""Reads the rows of a table page by page, newest first."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from receiver.rows.tables import Table
from receiver.storage.connection.database import Connection, translated
from receiver.storage.connection.places import quote
from receiver.storage.reading.selecting import CREATED_AT, SOURCE_ID, Field, Kind, select
from receiver.storage.reading.shown import Cell, Columns
from receiver.storage.reading.sources import LABELS, read_labels

LOOKED_AT: Final = 20_000
"""Rows that are searched for one page of rows with a given code: codes have no index."""
LABELS_FIELD: Final = Field("source labels", "jsonb", LABELS, Kind.LABELS)

# $1 and $2 are the range, $3 and $4 the row before the page; the first $5 rows are searched.
_RANGE: Final = """
SELECT * FROM {table}
WHERE created_at >= $1 AND created_at < $2
  AND created_at <= $3 AND (created_at, source_id) < ($3, $4)
"""
_OF_ALL: Final = f"{_RANGE} ORDER BY created_at DESC, source_id DESC LIMIT $5"
# Not `=`, which would make the order by source_id redundant: then the planner may read the rows of
# all other sources in search of one that is long gone.
_OF_ONE: Final = f"""
{_RANGE} AND source_id >= {{source}} AND source_id <= {{source}}
ORDER BY source_id DESC, created_at DESC LIMIT $5
"""

# At most $7 of the searched rows, with the code $6 if that is not NULL.
_PAGE: Final = """
SELECT * FROM ({looked_at}) AS looked_at WHERE $6::int IS NULL OR {code} = $6
ORDER BY created_at DESC, source_id DESC LIMIT $7
"""
_ORDER: Final = "ORDER BY l.created_at DESC, l.source_id DESC"

# The last of the $5 rows that are searched; none if there are fewer.
_LAST: Final = "SELECT created_at, source_id FROM ({}) AS looked_at OFFSET $5 - 1"


class Filter(NamedTuple):
    """Which rows to show."""

    since: str
    until: str
    """Exclusive; may be "now", by the database's clock."""
    source: int | None = None
    code: int | None = None
    """A code of the table's first column of codes."""


class Place(NamedTuple):
    """A row's position in the order."""

    created_at: str
    source_id: int


NEWEST: Final = Place("infinity", 2**31 - 1)
"""The position before all rows."""


class Log(NamedTuple):
    """A row with what its codes and its source mean."""

    created_at: str
    source_id: int
    labels: dict[str, str]
    cells: list[Cell]


class Page(NamedTuple):
    """Rows, newest first."""

    logs: list[Log]
    last: Place | None
    """The row after which the next page begins; None if there is no next page."""
    whole: bool
    """Whether the page is full, or there are no more rows."""


class Logs:
    """Reads the rows of a table.

    Args:
        table: The table.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self.columns = Columns(table)

    async def page(self, connection: Connection, wanted: Filter, after: Place, limit: int) -> Page:
        """Return at most `limit` rows that come after a position."""
        looked_at = limit + 1 if wanted.code is None else LOOKED_AT
        source = [] if wanted.source is None else [wanted.source]
        bounds = [wanted.since, wanted.until, *after, looked_at]
        statement = self._page(of_one=bool(source))
        with translated():
            rows = await connection.fetch(statement, *bounds, wanted.code, limit + 1, *source)
            logs = [self._read(row) for row in rows]
            if len(logs) > limit:
                return Page(logs[:limit], Place(*logs[limit - 1][:2]), whole=True)
            if wanted.code is None:
                return Page(logs, None, whole=True)
            ends = _LAST.format(self._looked_at("$6" if source else None))
            last = await connection.fetchrow(ends, *bounds, *source)
        return Page(logs, last and Place(*last), whole=last is None)

    def _read(self, row: tuple[Any, ...]) -> Log:
        created_at, source, labels, *values = row
        return Log(created_at, source, read_labels(labels), self.columns.read(values))

    def _page(self, *, of_one: bool) -> str:
        code = quote(self._table.codes[0].name) if self._table.codes else "NULL"
        looked_at = self._looked_at("$8" if of_one else None)
        rows = _PAGE.format(looked_at=looked_at, code=code)
        fields = (CREATED_AT, SOURCE_ID, LABELS_FIELD, *self.columns.fields)
        return select(self._table, fields, rows, _ORDER)

    def _looked_at(self, source: str | None) -> str:
        """Write the query for the rows that are searched, of one source if that is given."""
        query = _OF_ALL if source is None else _OF_ONE
        return query.format(table=quote(self._table.name), source=source)
