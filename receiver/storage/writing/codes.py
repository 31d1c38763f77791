"""The table `error_codes`: codes that nobody has registered yet are added as they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from receiver.rows.model import Metric, Reason
from receiver.storage.connection.database import Connection, Database
from receiver.storage.writing.each import run_for_each
from receiver.storage.writing.records import Refusal
from receiver.storage.writing.registry import DISCARDED, Allowance, Registry, Statements, beyond

MAX_KNOWN: Final = 10_000

STATEMENTS: Final = Statements(
    "error_codes",
    find="SELECT code, code FROM error_codes WHERE code = ANY($1::int[])",
    add="""
INSERT INTO error_codes (code, name, description)
SELECT code, 'UNREGISTERED_' || code, 'Seen in app_status before it was registered'
FROM unnest($1::int[]) AS seen (code) ORDER BY code
ON CONFLICT DO NOTHING
""",
    add_each="""
INSERT INTO error_codes (code, name, description)
SELECT code, 'UNREGISTERED_' || code, 'Seen in app_status before it was registered'
FROM (SELECT (entry ->> 0)::int FROM unnest($1) AS entry) AS seen (code) ORDER BY code
""",
)


class Codes:
    """Registers error codes.

    Args:
        database: Where the table is.
        limit: How many may be added in an hour; None: any number.
    """

    def __init__(self, database: Database, limit: int | None = None) -> None:
        self._registry: Registry[int] = Registry(
            database,
            STATEMENTS,
            Allowance(limit),
            beyond(Reason.TOO_MANY_CODES, limit, "RECEIVER_MAX_NEW_CODES"),
        )
        self._known: set[int] = set()

    async def resolve(self, codes: set[int]) -> Mapping[int, Refusal]:
        """Register codes that the table does not have; return why it still lacks some.

        Raises:
            ReceiverError: as `database.translated` does.
        """
        unknown = codes - self._known
        if not unknown:
            return {}
        ids, refused = await self._registry.resolve({code: (code,) for code in sorted(unknown)})
        if len(self._known) > MAX_KNOWN:
            self._known.clear()
        self._known |= ids.keys()
        return {code: refusal._replace(whose=Metric.STATUS) for code, refusal in refused.items()}

    async def ensure(
        self, connection: Connection, codes: set[int], *, each: bool
    ) -> Mapping[int, str]:
        """Register codes of halves that waited: somebody may have deleted them since.

        Args:
            connection: In a transaction.
            codes: All that are needed.
            each: Whether the database may refuse some.

        Returns:
            Which it has refused, and why.
        """
        unknown = sorted(codes - self._known)
        if not unknown:
            return {}
        if not each:
            await connection.execute(STATEMENTS.add, unknown)
            return {}
        failures = await run_for_each(
            connection, "error_codes", STATEMENTS.add_each, [[code] for code in unknown]
        )
        there = {code for code, _ in await connection.fetch(STATEMENTS.find, unknown)}
        return {
            code: failures[place].message if place in failures else DISCARDED
            for place, code in enumerate(unknown)
            if code not in there
        }

    def forget(self) -> None:
        """Look again for all codes: somebody has deleted or renumbered one."""
        self._known.clear()
