"""Precomputes what reports are made of: finished days, the last hours, changes since then.

The database computes it (`receiver_keep_reports` in migrations/0010_recent_reports.sql), some days
of sources per transaction. Reports do not wait for it: what is not precomputed, they read from the
rows.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from receiver.config.settings import Settings
from receiver.storage.connection.database import Database
from receiver.storage.connection.locks import TRY_MAINTENANCE_LOCK

SHARE: Final = 0.5
"""Maximum share of the time between two rounds of maintenance that it takes."""
MARGIN: Final = timedelta(days=3)
"""Days whose rows will be deleted within this time are not precomputed: they would keep
changing."""

KEEP: Final = """
SELECT receiver_keep_reports($1, COALESCE(now() - $2::interval, '-infinity'))
"""


async def keep_reports(database: Database, settings: Settings) -> None:
    """Precompute more days, with pauses as long as the work; the rest waits for the next round.

    Only one replica does this at a time; the others return at once.

    Raises:
        ReceiverError: as `database.translated` does.
    """
    tables = [table for table in settings.catalogue.tables if table.codes]
    for table in tables:
        kept = None if table.retention is None else table.retention - MARGIN
        share = settings.maintenance_interval * SHARE / len(tables)
        await keep_days(database, table.name, kept, share)


async def keep_days(
    database: Database, table: str, kept: timedelta | None, time: timedelta
) -> None:
    """Precompute days of a table until none is left or the time is up.

    Args:
        database: The database.
        table: The name of the table.
        kept: Maximum age of the days; None: any age.
        time: How long to go on; after that, no further transaction begins.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + time.total_seconds()
    more = True
    while more and (start := clock()) < end:
        async with database.transaction() as connection:
            if not await connection.fetchval(TRY_MAINTENANCE_LOCK):
                return
            more = await connection.fetchval(KEEP, table, kept)
        await asyncio.sleep(clock() - start)
