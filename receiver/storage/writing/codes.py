"""Registers unknown codes in tables of codes, such as `error_codes`, as they arrive."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Final, Protocol

from receiver.rows.reasons import Reason
from receiver.rows.tables import Catalogue
from receiver.storage.connection.database import Connection, Database
from receiver.storage.connection.places import literal, quote
from receiver.storage.writing.checks import Entries, run_checked
from receiver.storage.writing.records import (
    KEY,
    Record,
    Records,
    Refusal,
    RejectedRecord,
    codes_of,
    samples_of,
)
from receiver.storage.writing.registry import DISCARDED, Allowance, Registry, Statements, beyond

MAX_KNOWN: Final = 10_000


class Ensure(Protocol):
    """Registers the codes of rows, as `ensure_codes` does."""

    async def __call__(
        self, connection: Connection, rows: Records, *, each: bool
    ) -> list[RejectedRecord]:
        """Take out and return the samples whose code is refused."""


def statements_for(table: str, columns: str) -> Statements:
    """Write the statements of a table of codes.

    Args:
        table: Its name.
        columns: The columns whose codes it explains, as its descriptions name them.
    """
    row = f"""
code, 'UNREGISTERED_' || code, {literal(f"Seen in {columns} before it was registered")}
"""
    add = f"INSERT INTO {quote(table)} (code, name, description) SELECT {row}"
    return Statements(
        Entries(
            table,
            ("code", "name", "description"),
            ("int", "text", "text"),
            f"""(
    SELECT {row}, place FROM (
        SELECT (entry ->> 0)::int, place
        FROM unnest($1::jsonb[]) WITH ORDINALITY AS given (entry, place)
    ) AS seen (code, place)
) AS {quote(table)} (code, name, description, place_of_entry)""",
        ),
        find=f"SELECT code, code FROM {quote(table)} WHERE code = ANY($1::int[])",
        add=f"""{add} FROM unnest($1::int[]) AS seen (code) ORDER BY code
ON CONFLICT DO NOTHING RETURNING true
""",
        add_each=f"""{add}
FROM (SELECT (entry ->> 0)::int FROM unnest($1) AS entry) AS seen (code) ORDER BY code
""",
    )


class Codes:
    """Registers codes in one table.

    Args:
        database: Where the table is.
        statements: The statements of the table.
        allowance: How many may be added, in all tables of codes together.
    """

    def __init__(self, database: Database, statements: Statements, allowance: Allowance) -> None:
        self._statements = statements
        self._registry: Registry[int] = Registry(
            database,
            statements,
            allowance,
            beyond(Reason.TOO_MANY_CODES, allowance.limit, "RECEIVER_MAX_NEW_CODES"),
        )
        self._known: set[int] = set()

    async def resolve(self, codes: set[int]) -> Mapping[int, Refusal]:
        """Register codes that the table lacks; return why some are refused.

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
        return refused

    async def ensure(
        self, connection: Connection, codes: set[int], *, each: bool
    ) -> Mapping[int, str]:
        """Register the codes of rows that waited: somebody may have deleted one since.

        Args:
            connection: Must be in a transaction.
            codes: All codes that are needed.
            each: Whether the database may refuse some.

        Returns:
            The codes that the database refuses, and why.
        """
        unknown = sorted(codes - self._known)
        if not unknown:
            return {}
        if not each:
            await connection.execute(self._statements.add, unknown)
            return {}
        failures = await run_checked(
            connection,
            self._statements.entries,
            self._statements.add_each,
            [[code] for code in unknown],
        )
        there = {code for code, _ in await connection.fetch(self._statements.find, unknown)}
        return {
            code: failures[place].message if place in failures else DISCARDED
            for place, code in enumerate(unknown)
            if code not in there
        }

    def forget(self) -> None:
        """Discard the cached codes: somebody may have deleted or renumbered one."""
        self._known.clear()


def make_codes(
    database: Database, catalogue: Catalogue, limit: int | None = None
) -> dict[str, Codes]:
    """Return a `Codes` for each table of codes of the catalogue, by name.

    Args:
        database: Where the tables are.
        catalogue: The tables.
        limit: How many codes may be added in an hour; None: any number.
    """
    columns: defaultdict[str, set[str]] = defaultdict(set)
    for table in catalogue.tables:
        for column in table.codes:
            columns[column.codes].add(column.name)
    allowance = Allowance(limit)
    return {
        name: Codes(database, statements_for(name, ", ".join(sorted(users))), allowance)
        for name, users in sorted(columns.items())
    }


async def ensure_codes(
    codes: Mapping[str, Codes], connection: Connection, rows: Records, *, each: bool
) -> list[RejectedRecord]:
    """Register the codes of rows that waited: somebody may have deleted one since.

    Args:
        codes: The tables of codes, by name.
        connection: Must be in a transaction.
        rows: The rows of each table. Samples whose code is refused are taken out, and with that of
            a required column the whole row.
        each: Whether the database may refuse some.

    Returns:
        What was taken out, as rejected.
    """
    rejected: list[RejectedRecord] = []
    for name, one in codes.items():
        columns = [
            (table, column) for table in rows for column in table.codes if column.codes == name
        ]
        needed: set[int] = set()
        for table, column in columns:
            needed |= codes_of(column, [record[2] for record in rows[table]])
        refused = await one.ensure(connection, needed, each=each)
        if not refused:
            continue
        for table, column in columns:
            kept: list[Record] = []
            for record in rows[table]:
                value = record[2][column.slot]
                message = None if value is None else refused.get(int(value))
                if message is None:
                    kept.append(record)
                    continue
                only = None if column.required else column
                rejected += samples_of(record, Reason.REFUSED, message, only)
                if only is not None:
                    rest = record[2].copy()
                    rest[column.slot] = None
                    kept.append((*KEY(record), rest, record[3]))
            rows[table] = kept
    return rejected
