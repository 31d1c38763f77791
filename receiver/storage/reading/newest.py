"""The sources, page by page, with the newest row of each in a table."""

from __future__ import annotations

from typing import Final, NamedTuple

from receiver.rows.tables import Table
from receiver.storage.connection.database import Connection, translated
from receiver.storage.connection.places import quote
from receiver.storage.reading.selecting import CREATED_AT, select
from receiver.storage.reading.shown import Cell, Columns
from receiver.storage.reading.sources import LABELS, read_labels

# By id. LATERAL with LIMIT: once for each source of the page, not for all there are.
_NEWEST: Final = f"""
SELECT s.id, {LABELS} AS labels, minute.rows,
    EXTRACT(EPOCH FROM now() - newest.created_at)::double precision AS age, newest.*
FROM (SELECT id, labels FROM sources WHERE id > $1 ORDER BY id LIMIT $2) AS s
LEFT JOIN LATERAL ({{newest}}) AS newest ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS rows FROM (
        SELECT FROM {{table}} l
        WHERE l.source_id = s.id
          AND l.created_at > now() - INTERVAL '1 minute' AND l.created_at <= now()
        LIMIT 10000
    ) AS logs
) AS minute
ORDER BY s.id
"""


class Source(NamedTuple):
    """A source, and what it last sent; without any row, the rest is None."""

    id: int
    labels: dict[str, str]
    rows: int
    """In the last minute."""
    age: float | None
    """Seconds."""
    created_at: str | None
    cells: list[Cell]


class NewestRows:
    """Reads the newest row of each source in a table.

    Args:
        table: The table.
    """

    def __init__(self, table: Table) -> None:
        self.columns = Columns(table)
        rows = f"SELECT * FROM {quote(f'{table.name}_now')} n WHERE n.source_id = s.id LIMIT 1"
        newest = select(table, (CREATED_AT, *self.columns.fields), rows, "", with_source=False)
        self._statement = _NEWEST.format(newest=newest, table=quote(table.name))

    async def page(self, connection: Connection, after: int, limit: int) -> list[Source]:
        """Return the sources whose ids come after one."""
        with translated():
            rows = await connection.fetch(self._statement, after, limit)
        return [
            Source(id_, read_labels(labels), count, age, created_at, self.columns.read(values))
            for id_, labels, count, age, created_at, *values in rows
        ]
