"""Which rows a table's check constraints refuse, by one statement for all of them.

For tables that Citus distributes: there, to undo a row that was refused takes as long as to store
thousands. What is not found so is found by running the statement (`each.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from receiver.errors import ReceiverError
from receiver.rows.tables import Table
from receiver.storage.connection.database import Connection, translated
from receiver.storage.connection.places import literal, quote
from receiver.storage.writing.each import CHECK_VIOLATION, Failure, to_json
from receiver.storage.writing.statements import statements_of

# The check constraints of the table $1 that are about columns ($2) of just these types ($3).
FIND_CHECKS: Final = """
SELECT conname, pg_get_expr(conbin, conrelid) FROM pg_constraint
WHERE conrelid = to_regclass($1) AND contype = 'c' AND conkey <@ ARRAY(
    SELECT attnum FROM unnest($2::text[], $3::text[]) AS ours (name, type)
    JOIN pg_attribute ON attname = name AND atttypid = to_regtype(type) AND atttypmod = -1
    WHERE attrelid = to_regclass($1)
)
ORDER BY conname
"""


async def find_refused(
    connection: Connection, table: Table, entries: Sequence[Sequence[object]]
) -> dict[int, Failure]:
    """Return which entries break a check constraint, by their places from 0.

    Args:
        connection: In a transaction.
        table: The table.
        entries: Rows, as `run_for_each` takes them.
    """
    statements = statements_of(table)
    columns = statements.columns, statements.types
    checks = await connection.fetch(FIND_CHECKS, quote(table.name), *columns)
    if not checks:
        return {}
    broken = " ".join(f"WHEN NOT ({check}) THEN {literal(name)}" for name, check in checks)
    query = f"""
SELECT place_of_entry - 1, broken FROM (
    SELECT place_of_entry, CASE {broken} END AS broken FROM {statements.read_entries}
) AS judged WHERE broken IS NOT NULL
"""
    await connection.execute("SAVEPOINT checks")
    try:
        with translated():
            found = await connection.fetch(query, list(map(to_json, entries)))
    except ReceiverError:
        # A check that fails by itself for some row, or is about more than a row's own values.
        await connection.execute("ROLLBACK TO SAVEPOINT checks")
        return {}
    return {place: Failure(CHECK_VIOLATION, name, message(table, name)) for place, name in found}


def message(table: Table, name: str) -> str:
    """Say what PostgreSQL says of a row that breaks a check constraint."""
    return f'new row for relation "{table.name}" violates check constraint "{name}"'
