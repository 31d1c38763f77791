"""Checks the references of a batch once, where PostgreSQL would check those of each row.

`receiver_check_references` (migrations/versions/0006_references.sql) locks the codes and sources as
the checks of foreign keys would, and switches those off for the transaction. It refuses where that
would leave out anything else.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Final

from receiver.errors import StatementRefusedError
from receiver.storage.connection.database import Database
from receiver.storage.writing.inserting import copy_logs
from receiver.storage.writing.records import LogRecord

logger = logging.getLogger(__name__)

FEWEST: Final = 50
"""Rows from which on the check pays for its round trips."""
REST: Final = 60.0
"""Seconds until the next attempt after the database has refused one."""


class References:
    """Copies rows after their references were checked all together.

    Args:
        database: Where to.
        enabled: Whether to do so at all.
    """

    def __init__(self, database: Database, *, enabled: bool) -> None:
        self._database = database
        self._enabled = enabled
        self._rests_until = 0.0

    async def copy(self, logs: list[LogRecord]) -> int:
        """Store rows of which none is there yet in a transaction; return how many were taken.

        Raises:
            ReceiverError: as `database.translated` does.
        """
        if self._enabled and len(logs) >= FEWEST and time.monotonic() >= self._rests_until:
            try:
                return await self._copy_checked(logs)
            except StatementRefusedError:
                # By row it is, which fails in turn if this is about something else.
                self._rests_until = time.monotonic() + REST
        # COPY alone is a transaction too, for one round trip instead of three.
        async with self._database.connection() as connection:
            return await copy_logs(connection, logs)

    async def _copy_checked(self, logs: list[LogRecord]) -> int:
        codes, sources = {log[2] for log in logs}, {log[1] for log in logs}
        check = f"SELECT receiver_check_references({array(codes)}, {array(sources)})"
        async with self._database.transaction(check) as connection:
            return await copy_logs(connection, logs)


def array(numbers: Iterable[int]) -> str:
    """Write an array of integers as SQL."""
    return f"'{{{','.join(map(str, numbers))}}}'::int[]"
