"""A look at what the database holds, for the metrics; maintenance takes one each round."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from receiver.rows.model import Newest, Observed
from receiver.storage import queries
from receiver.storage.connection.database import Database

MAX_SOURCES: Final = 300
"""Sources whose newest row is looked for; with more, those that came last."""
GONE: Final = timedelta(days=1)
"""Age of its newest row from which on a source counts as gone rather than silent."""


async def observe(database: Database) -> Observed:
    """Count what waits, and find the newest row of each source.

    Raises:
        ReceiverError: as `database.translated` does.
    """
    async with database.transaction() as connection:
        pending, oldest = await connection.fetchrow(queries.OBSERVE_PENDING)
        sources = await connection.fetchval(queries.COUNT_SOURCES)
        await connection.execute(queries.FOLLOW_KEY)
        newest = await connection.fetch(queries.NEWEST_ROWS, MAX_SOURCES, GONE)
    unlisted = max(0, sources - MAX_SOURCES)
    return Observed(pending, oldest, sources, unlisted, [Newest(*row) for row in newest])
