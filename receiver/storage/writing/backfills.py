"""Records the progress of backfills, in the database that they fill."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from receiver.storage.connection.database import Database

READ: Final = "SELECT start_ms, end_ms, done_ms FROM backfills WHERE digest = $1"

WRITE: Final = """
INSERT INTO backfills (digest, source_url, start_ms, end_ms, done_ms) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (digest) DO UPDATE SET
    start_ms = EXCLUDED.start_ms, end_ms = EXCLUDED.end_ms, done_ms = EXCLUDED.done_ms,
    updated_at = now()
"""

REMOVE: Final = "DELETE FROM backfills WHERE digest = $1"

# Samples of incomplete rows of a range of time, by table; bounds in milliseconds.
COUNT_WAITING: Final = """
SELECT table_name, count(*) FROM pending_rows, jsonb_object_keys(samples)
WHERE created_at BETWEEN to_timestamp($1::bigint / 1000.0) AND to_timestamp($2::bigint / 1000.0)
GROUP BY table_name
"""


class Progress(NamedTuple):
    """How far a backfill has come, in milliseconds since the Unix epoch."""

    start: int
    end: int
    done: int
    """Everything up to here is stored."""


async def count_waiting(database: Database, start: int, end: int) -> Counter[str]:
    """Count the samples of incomplete rows of a range of time by table, whoever sent them.

    Args:
        database: The database that is filled.
        start: Milliseconds since the Unix epoch.
        end: Milliseconds since the Unix epoch; both bounds are inclusive.

    Raises:
        ReceiverError: as `database.translated` does.
    """
    async with database.connection() as connection:
        return Counter(dict(await connection.fetch(COUNT_WAITING, start, end)))


class Bookmark:
    """Records how far a backfill came, so that the same command resumes there.

    It is stored in the database that is filled: another database does not have the same rows.

    Args:
        database: The database that is filled.
        url: The URL of the Prometheus server, without credentials.
        asked: What else distinguishes this backfill from others: range, declaration, labels.
    """

    def __init__(self, database: Database, url: str, asked: Iterable[str]) -> None:
        self._database = database
        self._url = url
        self._digest = hashlib.sha256(json.dumps([url, *asked]).encode()).digest()

    async def read(self) -> Progress | None:
        """Return the progress; None if the backfill has not begun, or has ended.

        Raises:
            ReceiverError: as `database.translated` does, here and below.
        """
        async with self._database.connection() as connection:
            row = await connection.fetchrow(READ, self._digest)
        return row and Progress(*row)

    async def write(self, progress: Progress) -> None:
        """Record the progress."""
        async with self._database.connection() as connection:
            await connection.execute(WRITE, self._digest, self._url, *progress)

    async def remove(self) -> None:
        """Delete the progress: there is nothing to resume."""
        async with self._database.connection() as connection:
            await connection.execute(REMOVE, self._digest)
