"""Adds rows to referenced tables, such as `sources` and `error_codes`, as they are needed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, Generic, NamedTuple, TypeVar

from receiver.errors import StatementRefusedError
from receiver.rows.reasons import Reason
from receiver.storage.connection.database import Connection, Database
from receiver.storage.writing.checks import Entries, run_checked
from receiver.storage.writing.each import FEW_CONNECTIONS, REFUSALS, UNIQUE_VIOLATION
from receiver.storage.writing.records import Refusal

HOUR: Final = 3600.0
LONG: Final = 0.1
"""Seconds above which an attempt to add rows one by one is followed by a pause."""
REST: Final = 10
"""Length of the pause, as a multiple of the duration of the attempt."""
MAX_REFUSED: Final = 10_000
DISCARDED: Final = "a trigger, a rule or a policy discarded it"

K = TypeVar("K", bound=Hashable)


class Allowance:
    """Limits how much is added in an hour.

    Args:
        limit: How much may be added in an hour; None: any number.
        clock: Tells the time in seconds.
    """

    def __init__(self, limit: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self._clock = clock
        self._spent: deque[tuple[float, int]] = deque()
        self._sum = 0

    def allow(self, wanted: int) -> int:
        """Return how much of what is wanted may be added now."""
        if self.limit is None:
            return wanted
        while self._spent and self._spent[0][0] <= self._clock() - HOUR:
            self._sum -= self._spent.popleft()[1]
        return max(0, min(wanted, self.limit - self._sum))

    def spend(self, number: int) -> None:
        """Count what was added."""
        if number and self.limit is not None:
            self._spent.append((self._clock(), number))
            self._sum += number


def beyond(reason: Reason, limit: int | None, setting: str) -> Refusal:
    """Return the refusal of keys or chunks that exceed an allowance."""
    return Refusal(reason, f"more than {limit} in an hour ({setting})")


class Statements(NamedTuple):
    """The statements that read a table and add to it."""

    entries: Entries
    """How the entries of `add_each` are read."""
    find: str
    """Takes an array of keys; returns keys and ids."""
    add: str
    """Takes arrays of columns, the keys first; skips existing rows, and returns a row for each one
    that it adds."""
    add_each: str
    """Takes an array of JSONB; fails for existing rows."""


class Registry(Generic[K]):
    """Finds the ids of keys, and adds keys that the table does not have.

    A key that the database refuses is retried each time it comes; if that takes long, retries take
    no more than a tenth of the time.

    Args:
        database: Where the table is.
        statements: How it is read and added to.
        allowance: Limits how many keys may be added.
        beyond: Why keys beyond the allowance are refused.
    """

    def __init__(
        self,
        database: Database,
        statements: Statements,
        allowance: Allowance,
        beyond: Refusal,
    ) -> None:
        self._database = database
        self._statements = statements
        self._allowance = allowance
        self._beyond = beyond
        self._refused: dict[K, Refusal] = {}
        self._rest_until = 0.0

    async def resolve(
        self, columns: Mapping[K, tuple[Any, ...]]
    ) -> tuple[dict[K, int], dict[K, Refusal]]:
        """Return the ids of keys, and why some have none.

        This commits by itself: keys that are added are useful even if the rows that need them fail.

        Args:
            columns: The keys, each with all columns of its row, the key first.

        Raises:
            ReceiverError: as `database.translated` does.
        """
        async with self._database.transaction() as connection:
            ids = await self._find(connection, columns)
        missing = [key for key in columns if key not in ids]
        if not missing:
            return ids, {}
        # Copied: while others are added, here or for another batch, all may be forgotten.
        said = {key: self._refused[key] for key in missing if key in self._refused}
        known: list[K] = list(said)
        new: list[K] = [key for key in missing if key not in said]
        allowed: int = self._allowance.allow(len(new))
        refused: dict[K, Refusal] = dict.fromkeys(new[allowed:], self._beyond)
        added = await self._add([columns[key] for key in new[:allowed]])
        said |= {key: self._refused[key] for key in new[:allowed] if key not in added}
        if known and time.monotonic() >= self._rest_until:
            # If all of these fail, that says nothing about others: they failed before, too.
            with suppress(StatementRefusedError):
                added |= await self._add_each([columns[key] for key in known])
        ids |= added
        for key, refusal in said.items():
            if key in ids:
                self._refused.pop(key, None)
            else:
                refused[key] = self._refused.get(key, refusal)
        return ids, refused

    async def _find(self, connection: Connection, keys: Iterable[K]) -> dict[K, int]:
        return dict(await connection.fetch(self._statements.find, list(keys)))

    async def _add(self, rows: list[tuple[Any, ...]]) -> dict[K, int]:
        if not rows:
            return {}
        try:
            async with self._database.transaction() as connection:
                added = await connection.fetch(self._statements.add, *zip(*rows, strict=True))
                # A new snapshot: it also shows what another replica has just added.
                ids = await self._find(connection, (row[0] for row in rows))
        except REFUSALS:
            return await self._add_each(rows)
        self._allowance.spend(len(added))
        # A trigger has discarded these, or they were there and somebody has deleted them since.
        missing = [row for row in rows if row[0] not in ids]
        return ids | await self._add_each(missing) if missing else ids

    async def _add_each(self, rows: list[tuple[Any, ...]]) -> dict[K, int]:
        start = time.monotonic()
        statements = self._statements
        async with self._database.transaction(FEW_CONNECTIONS) as connection:
            failures = await run_checked(connection, statements.entries, statements.add_each, rows)
            ids = await self._find(connection, (row[0] for row in rows))
        there = sum(failure.code == UNIQUE_VIOLATION for failure in failures.values())
        self._allowance.spend(max(0, len(ids) - there))
        self._remember(
            {
                row[0]: failures[place].message if place in failures else DISCARDED
                for place, row in enumerate(rows)
                if row[0] not in ids
            }
        )
        now = time.monotonic()
        if now - start > LONG:
            self._rest_until = now + REST * (now - start)
        return ids

    def _remember(self, refused: dict[K, str]) -> None:
        if len(self._refused) + len(refused) > MAX_REFUSED:
            self._refused.clear()
        for key, message in refused.items():
            self._refused[key] = Refusal(Reason.REFUSED, message)
