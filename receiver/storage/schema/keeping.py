"""Keeps ready what reports are made of: finished days, the last hours, what has changed since.

The database computes it (`receiver_keep_reports` in migrations/0010_recent_reports.sql), some days
of sources in a transaction. Nobody waits for it: reports read the rows of what is not kept.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from receiver.config.settings import Settings
from receiver.storage.connection.database import Database
from receiver.storage.connection.locks import TRY_MAINTENANCE_LOCK

SHARE: Final = 0.5
"""Of the time between two rounds of maintenance, that it takes at most."""
MARGIN: Final = timedelta(days=3)
"""Days whose rows will be deleted within this time are not kept: they would change all the time."""

KEEP: Final = """
SELECT receiver_keep_reports($1, COALESCE(now() - $2::interval, '-infinity'))
"""


async def keep_reports(database: Database, settings: Settings) -> None:
    """Keep more days, with pauses as long as the work; what is left waits for the next round.

    Of several replicas only one does this at a time; the others return at once.

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
    """Keep days of a table until nothing is left to do or the time is over.

    Args:
        database: Where.
        table: The name of the table.
        kept: How old days may be; None: any age.
        time: When no further transaction is begun.
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
