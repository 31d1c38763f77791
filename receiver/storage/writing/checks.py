"""Finds the rows that a table's check constraints refuse, by one statement for all of them.

This is for tables that Citus distributes: there, rolling back one refused row takes as long as
storing thousands. Refusals that are not found this way are found by running the statement
(`each.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from receiver.storage.connection.connecting import is_distributed
from receiver.storage.connection.database import Connection, translated
from receiver.storage.connection.places import literal, quote
from receiver.storage.writing.each import (
    CHECK_VIOLATION,
    REFUSALS,
    Failure,
    run_for_each,
    to_json,
)

# The check constraints of the table $1 that involve only these columns ($2), of exactly these types
# ($3).
FIND_CHECKS: Final = """
SELECT conname, pg_get_expr(conbin, conrelid) FROM pg_constraint
WHERE conrelid = to_regclass($1) AND contype = 'c' AND conkey <@ ARRAY(
    SELECT attnum FROM unnest($2::text[], $3::text[]) AS ours (name, type)
    JOIN pg_attribute ON attname = name AND atttypid = to_regtype(type) AND atttypmod = -1
    WHERE attrelid = to_regclass($1)
)
ORDER BY conname
"""


class Entries(NamedTuple):
    """How entries of `run_for_each` are read as rows of a table."""

    table: str
    """Its name."""
    columns: Sequence[str]
    types: Sequence[str]
    read: str
    """A FROM item: the rows of `$1`, an array of JSONB, under the name of the table, with
    `place_of_entry` counted from 1."""


async def run_checked(
    connection: Connection,
    how: Entries,
    statement: str,
    entries: Sequence[Sequence[object]],
    codes: Sequence[str] = (),
) -> dict[int, Failure]:
    """Run a statement for entries as `run_for_each` does, except those that a check refuses.

    Args:
        connection: Must be in a transaction, in which entries that did not fail take effect.
        how: How the entries are read.
        statement: Takes a part of the entries as `$1`, an array of JSONB.
        entries: Rows of the table, as `run_for_each` takes them.
        codes: Tables of codes that the entries refer to, by name.

    Raises:
        StatementRefusedError: it failed for all entries, for a reason other than their data.
        ConflictingTransactionError: a row that an entry refers to is gone; retry the transaction.
    """
    failures: dict[int, Failure] = {}
    if await is_distributed(connection):
        failures = await find_refused(connection, how, entries)
    places = [place for place in range(len(entries)) if place not in failures]
    if places:
        some = [entries[place] for place in places]
        found = await run_for_each(connection, quote(how.table), statement, some, codes)
        failures |= {places[place]: failure for place, failure in found.items()}
    return failures


async def find_refused(
    connection: Connection, how: Entries, entries: Sequence[Sequence[object]]
) -> dict[int, Failure]:
    """Return which entries violate a check constraint, by their places from 0.

    Args:
        connection: Must be in a transaction.
        how: How the entries are read.
        entries: Rows, as `run_for_each` takes them.

    Raises:
        ReceiverError: as `translated` does, except for the errors in `REFUSALS`.
    """
    checks = await connection.fetch(FIND_CHECKS, quote(how.table), how.columns, how.types)
    if not checks:
        return {}
    broken = " ".join(f"WHEN NOT ({check}) THEN {literal(name)}" for name, check in checks)
    query = f"""
SELECT place_of_entry - 1, broken FROM (
    SELECT place_of_entry, CASE {broken} END AS broken FROM {how.read}
) AS judged WHERE broken IS NOT NULL
"""
    await connection.execute("SAVEPOINT checks")
    try:
        with translated():
            found = await connection.fetch(query, list(map(to_json, entries)))
    except REFUSALS:
        # A check raises an error for some row, or involves more than the row's own values.
        await connection.execute("ROLLBACK TO SAVEPOINT checks")
        return {}
    return {
        place: Failure(CHECK_VIOLATION, name, message(how.table, name)) for place, name in found
    }


def message(table: str, name: str) -> str:
    """Return PostgreSQL's message for a row that violates a check constraint."""
    return f'new row for relation "{table}" violates check constraint "{name}"'
