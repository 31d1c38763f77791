"""Limits how many chunks of hypertables a flood of wrong timestamps may create."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from receiver.rows.reasons import Reason
from receiver.rows.tables import Table
from receiver.storage.connection.database import Database
from receiver.storage.schema.timescale import is_hypertable
from receiver.storage.writing.records import Refusal
from receiver.storage.writing.registry import Allowance, beyond

MAX_KNOWN: Final = 10_000
DAY_MS: Final = 86_400_000


class Chunks:
    """Limits how many chunks are created; chunks within a day of now are never refused.

    Args:
        database: The database; its plain tables are not limited.
        interval: Time range of one chunk.
        limit: Maximum number of chunks created in an hour; None: any number.
    """

    def __init__(self, database: Database, interval: timedelta, limit: int | None = None) -> None:
        self._database = database
        self._width = max(1, interval // timedelta(milliseconds=1))
        self._allowance = Allowance(limit)
        self._refusal = beyond(Reason.TOO_MANY_CHUNKS, limit, "RECEIVER_MAX_NEW_CHUNKS")
        self._known: set[tuple[str, int]] = set()

    def of(self, table: Table, timestamp: int) -> tuple[str, int]:
        """Return the chunk of a time in milliseconds: the table's name and a number."""
        return table.name, timestamp // self._width

    async def resolve(
        self, timestamps: Mapping[Table, set[int]]
    ) -> Mapping[tuple[str, int], Refusal]:
        """Return which chunks must not be created, and why.

        Raises:
            ReceiverError: as `database.translated` does.
        """
        if self._allowance.limit is None:
            return {}
        refused: dict[tuple[str, int], Refusal] = {}
        for table, times in timestamps.items():
            new = {self.of(table, timestamp) for timestamp in times} - self._known
            if new:
                refused |= dict.fromkeys(await self._admit(table, new), self._refusal)
        return refused

    async def _admit(self, table: Table, new: set[tuple[str, int]]) -> list[tuple[str, int]]:
        """Record new chunks of a table; return those that exceed the limit."""
        async with self._database.transaction() as connection:
            bounded = await is_hypertable(connection, table.name)
        now = int(time.time() * 1000)
        _, first = self.of(table, now - DAY_MS)
        _, last = self.of(table, now + DAY_MS)
        distant = [chunk for chunk in new if not first <= chunk[1] <= last]
        distant.sort(key=lambda chunk: abs(chunk[1] - last))
        allowed = self._allowance.allow(len(distant)) if bounded else len(distant)
        if len(self._known) > MAX_KNOWN:
            self._known.clear()
        self._known.update(new.difference(distant), distant[:allowed])
        if bounded:
            self._allowance.spend(allowed)
        return distant[allowed:]
