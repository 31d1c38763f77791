"""Checks the references of a batch once, instead of letting PostgreSQL check those of each row.

`receiver_check_references` (migrations/0007_tables.sql) locks the codes and sources as foreign key
checks would, and switches these checks off for the transaction. It raises an error where that would
skip anything else. A session that only writes such batches keeps them switched off throughout: each
change of the setting discards all plans that the session caches, including the function's own, and
planning again costs more than the check.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from receiver.errors import StatementRefusedError
from receiver.rows.tables import Table
from receiver.storage.connection.database import READ_COMMITTED, Database
from receiver.storage.connection.places import literal
from receiver.storage.writing.inserting import copy_rows

if TYPE_CHECKING:
    from receiver.storage.writing.copying import RowArrays

logger = logging.getLogger(__name__)

FEWEST: Final = 50
"""Minimum number of rows for which the check saves more than its round trips cost."""
REST: Final = 60.0
"""Seconds until the next attempt after the database has refused one."""


class References:
    """Copies rows after checking all their references together.

    Args:
        database: The database to write to.
        enabled: Whether to check references together at all.
    """

    def __init__(self, database: Database, *, enabled: bool) -> None:
        self._database = database
        self._enabled = enabled
        self._rests_until: dict[frozenset[Table], float] = {}

    async def copy(self, rows: Mapping[Table, RowArrays]) -> dict[Table, int]:
        """Store rows of which none is stored yet, in one transaction.

        Returns:
            How many rows of each table were stored.

        Raises:
            ReceiverError: as `database.translated` does.
        """
        tables = frozenset(rows)
        if (
            self._enabled
            and sum(map(len, rows.values())) >= FEWEST
            and time.monotonic() >= self._rests_until.get(tables, 0.0)
        ):
            try:
                return await self._copy(rows, ";".join(map(check_references, rows.values())))
            except StatementRefusedError as error:
                # Fall back to checking each row, which fails in turn if the reason is another one.
                if tables not in self._rests_until:
                    message = "references are checked row by row for %d s: %s"
                    logger.info(message, REST, error.__cause__)
                self._rests_until[tables] = time.monotonic() + REST
        return await self._copy(rows)

    async def _copy(self, rows: Mapping[Table, RowArrays], check: str = "") -> dict[Table, int]:
        skips = bool(check)
        if len(rows) == 1:
            # In one round trip, instead of one each for BEGIN, COPY and COMMIT: each answer waits
            # until the event loop has decoded the messages that have arrived meanwhile.
            first = f"SET TRANSACTION {READ_COMMITTED};{check}"
            used = self._database.connection(skips_triggers=skips)
        else:
            first, used = "", self._database.transaction(check, skips_triggers=skips)
        async with used as connection:
            return {table: await copy_rows(connection, some, first) for table, some in rows.items()}


def check_references(rows: RowArrays) -> str:
    """Write the statement that checks the references of rows and locks the referenced rows."""
    codes = {
        column.name: {"table": column.codes, "keys": rows.codes(column)}
        for column in rows.table.codes
    }
    sources = ",".join(map(str, {*rows.source_ids.tolist()}))
    return (
        f"SELECT receiver_check_references({literal(rows.table.name)}, "
        f"{literal(json.dumps(codes))}::jsonb, '{{{sources}}}'::int[])"
    )
