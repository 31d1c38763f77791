"""Chunks of the hypertable: how many a flood of wrong timestamps may create."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from receiver.rows.model import Reason
from receiver.storage.connection.database import Database
from receiver.storage.schema.timescale import is_hypertable
from receiver.storage.writing.records import Refusal
from receiver.storage.writing.registry import Allowance, beyond

MAX_KNOWN: Final = 10_000
DAY_MS: Final = 86_400_000


class Chunks:
    """Bounds the chunks that are created; those of the present day are never refused.

    Args:
        database: Where the hypertable is; of a plain table nothing is bounded.
        interval: Time range of one chunk.
        limit: How many may be created in an hour; None: any number.
    """

    def __init__(self, database: Database, interval: timedelta, limit: int | None = None) -> None:
        self._database = database
        self._width = max(1, interval // timedelta(milliseconds=1))
        self._allowance = Allowance(limit)
        self._refusal = beyond(Reason.TOO_MANY_CHUNKS, limit, "RECEIVER_MAX_NEW_CHUNKS")
        self._known: set[int] = set()

    def of(self, timestamp: int) -> int:
        """Return the number of the chunk that a time in milliseconds falls into."""
        return timestamp // self._width

    async def resolve(self, timestamps: set[int]) -> Mapping[int, Refusal]:
        """Return which chunks must not be created, by their numbers, and why.

        Raises:
            ReceiverError: as `database.translated` does.
        """
        if self._allowance.limit is None:
            return {}
        new = {self.of(timestamp) for timestamp in timestamps} - self._known
        if not new:
            return {}
        async with self._database.transaction() as connection:
            bounded = await is_hypertable(connection)
        now = int(time.time() * 1000)
        present = range(self.of(now - DAY_MS), self.of(now + DAY_MS) + 1)
        distant = sorted(new.difference(present), key=lambda chunk: abs(chunk - present[-1]))
        allowed = self._allowance.allow(len(distant)) if bounded else len(distant)
        if len(self._known) > MAX_KNOWN:
            self._known.clear()
        self._known.update(new.intersection(present), distant[:allowed])
        if bounded:
            self._allowance.spend(allowed)
        return dict.fromkeys(distant[allowed:], self._refusal)
