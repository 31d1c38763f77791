"""Rows of `app_logs`, newest first, page by page."""

from __future__ import annotations

from typing import Final, NamedTuple

from receiver.storage.connection.database import Connection, translated
from receiver.storage.reading.sources import LABELS, read_labels

LOOKED_AT: Final = 20_000
"""Rows that are looked at for one page of those with one code: no index leads to a code."""

# $1 and $2 are the range, $3 and $4 the row before the page; the first $5 rows are looked at.
_RANGE: Final = """
SELECT created_at, source_id, app_status, ocr_value FROM app_logs
WHERE created_at >= $1 AND created_at < $2
  AND created_at <= $3 AND (created_at, source_id) < ($3, $4)
"""
_OF_ALL: Final = f"{_RANGE} ORDER BY created_at DESC, source_id DESC LIMIT $5"
# Not `=`, which would make the order by source_id void: then the planner may read the rows of all
# others in search of a source that is long gone.
_OF_ONE: Final = f"""
{_RANGE} AND source_id >= $8 AND source_id <= $8
ORDER BY source_id DESC, created_at DESC LIMIT $5
"""

# Of these at most $7, with the code $6 if that is not NULL.
_PAGE: Final = f"""
SELECT l.created_at, l.source_id, {LABELS} AS labels, l.app_status,
    left(e.name, 500) AS error_name, left(e.description, 500) AS description, l.ocr_value
FROM (
    SELECT * FROM ({{}}) AS looked_at
    WHERE $6::int IS NULL OR app_status = $6
    ORDER BY created_at DESC, source_id DESC LIMIT $7
) AS l
JOIN sources s ON s.id = l.source_id
LEFT JOIN error_codes e ON e.code = l.app_status
ORDER BY l.created_at DESC, l.source_id DESC
"""
PAGE_OF_ALL: Final = _PAGE.format(_OF_ALL)
PAGE_OF_ONE: Final = _PAGE.format(_OF_ONE)

# The last of the rows that are looked at, if there are so many.
_LAST: Final = "SELECT created_at, source_id FROM ({}) AS looked_at OFFSET $5 - 1"
LAST_OF_ALL: Final = _LAST.format(_OF_ALL)
LAST_OF_ONE: Final = _LAST.format(_OF_ONE.replace("$8", "$6"))


class Filter(NamedTuple):
    """Which rows."""

    since: str
    until: str
    """Not included; "now" is a time too, by the database's clock."""
    source: int | None = None
    code: int | None = None


class Place(NamedTuple):
    """A row's place in the order."""

    created_at: str
    source_id: int


NEWEST: Final = Place("infinity", 2**31 - 1)
"""Before all rows."""


class Log(NamedTuple):
    """A row with what its code and source mean."""

    created_at: str
    source_id: int
    labels: dict[str, str]
    app_status: int
    error_name: str | None
    description: str | None
    ocr_value: str


class Page(NamedTuple):
    """Rows, newest first."""

    logs: list[Log]
    last: Place | None
    """After which row the next page begins; None where there is none."""
    whole: bool
    """Whether it has as many rows as it may, or there are no more."""


async def page(connection: Connection, wanted: Filter, after: Place, limit: int) -> Page:
    """So many rows that come after another one."""
    looked_at = limit + 1 if wanted.code is None else LOOKED_AT
    one = wanted.source is not None
    source = [wanted.source] if one else []
    bounds = [wanted.since, wanted.until, *after, looked_at]
    with translated():
        rows = await connection.fetch(
            PAGE_OF_ONE if one else PAGE_OF_ALL, *bounds, wanted.code, limit + 1, *source
        )
        logs = [Log(**{**row, "labels": read_labels(row["labels"])}) for row in rows]
        if len(logs) > limit:
            return Page(logs[:limit], Place(*logs[limit - 1][:2]), whole=True)
        if wanted.code is None:
            return Page(logs, None, whole=True)
        last = await connection.fetchrow(LAST_OF_ONE if one else LAST_OF_ALL, *bounds, *source)
    return Page(logs, last and Place(*last), whole=last is None)
