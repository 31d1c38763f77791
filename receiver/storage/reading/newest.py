"""Reads the newest row of sources in a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from receiver.rows.tables import Table
from receiver.storage.connection.connecting import is_distributed
from receiver.storage.connection.database import Connection, translated
from receiver.storage.connection.places import quote
from receiver.storage.reading.selecting import SOURCE_ID, select
from receiver.storage.reading.shown import Cell, Columns

_NEWEST: Final = """
SELECT source.id, newest.* FROM unnest($1::int[]) AS source (id)
CROSS JOIN LATERAL ({newest}) AS newest
"""


class NewestRows:
    """Reads the newest row of each source in a table.

    Args:
        table: The table.
    """

    def __init__(self, table: Table) -> None:
        self.columns = Columns(table)
        rows = f"SELECT * FROM {quote(f'{table.name}_now')} n WHERE n.source_id = source.id LIMIT 1"
        newest = select(table, self.columns.fields, rows, "", with_source=False)
        self._statement = _NEWEST.format(newest=newest)
        now = f"SELECT * FROM {quote(f'{table.name}_now')} n WHERE n.source_id = ANY($1::int[])"
        self._distributed = select(
            table, [SOURCE_ID, *self.columns.fields], now, "", with_source=False
        )

    async def cells(self, connection: Connection, ids: Sequence[int]) -> dict[int, list[Cell]]:
        """Return the cells of the newest row of each of these sources that has one, by id."""
        with translated():
            distributed = await is_distributed(connection)
            statement = self._distributed if distributed else self._statement
            rows = await connection.fetch(statement, list(ids))
        return {id_: self.columns.read(values) for id_, *values in rows}
