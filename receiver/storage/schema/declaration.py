"""The declaration of tables in force, as the database stores it.

Replicas with different declarations would store the same samples in different ways, so the one that
migrated last decides, and the others store nothing until theirs is the same.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeAlias

import asyncpg

from receiver.config.catalogue import describe, digest
from receiver.rows.reasons import Reason
from receiver.rows.tables import Catalogue
from receiver.storage.connection.places import literal

Declaration: TypeAlias = dict[str, Any]
"""What `describe` returns, and `REMOVED` if it is read from the database."""
REMOVED: Final = "removed"
"""Key of the columns that were declared before: a list of table, column and metric of each."""

# The time as text: the write path's sessions read times as numbers.
FIND: Final = """
SELECT CASE WHEN digest <> $1 THEN declaration::text END, declared_by,
    to_char(declared_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
FROM receiver_tables
"""

MAX_NAMED: Final = 5
"""Maximum number of differences that are named; the others are only counted."""


class InForce(NamedTuple):
    """A declaration in the database that differs from ours."""

    declaration: Declaration
    declared_by: str
    declared_at: str


async def declaration_obstacle(connection: asyncpg.Connection, catalogue: Catalogue) -> str | None:
    """Return why rows of these tables must not be stored: another declaration is in force.

    Returns:
        One line that says what differs, who declared the other and when, and what to do; None if
        the declaration in force is this one.
    """
    row = await connection.fetchrow(FIND, digest(catalogue))
    if row is None:
        return "no declaration of tables is in force: run `receiver migrate`"
    if row[0] is None:
        return None
    theirs = InForce(json.loads(row[0]), row[1], row[2])
    return (
        f"the tables were declared differently by {theirs.declared_by} at {theirs.declared_at}: "
        f"{difference(theirs.declaration, describe(catalogue))}; give every receiver of this "
        "database the same RECEIVER_TABLES_FILE and settings, or run `receiver migrate` with these"
    )


async def find_other_receiver(connection: asyncpg.Connection, catalogue: Catalogue) -> str | None:
    """Return how the tables of a receiver that uses this database differ from ours.

    Returns:
        What differs; None if the tables are the same, or no receiver's tables are there.
    """
    if await connection.fetchval("SELECT to_regclass('receiver_tables') IS NULL"):
        older = await connection.fetchval("SELECT to_regclass('app_logs') IS NOT NULL")
        return "those of an older version" if older else None
    row = await connection.fetchrow(FIND, digest(catalogue))
    if row is None or row[0] is None:
        return None
    return difference(json.loads(row[0]), describe(catalogue))


async def find_declaration(
    connection: asyncpg.Connection, catalogue: Catalogue
) -> Declaration | None:
    """Return the declaration in force, or None if there is none.

    Args:
        connection: A connection to a database at the newest revision.
        catalogue: Ours, which is returned if it is in force.
    """
    row = await connection.fetchrow(FIND, digest(catalogue))
    if row is None:
        return None
    return describe(catalogue) if row[0] is None else json.loads(row[0])


def declare(catalogue: Catalogue, theirs: Declaration | None) -> str:
    """Write the statement that puts a declaration in force.

    It also stores the metrics of columns that are no longer declared: samples may wait for these.

    Args:
        catalogue: The declared tables.
        theirs: The declaration in force; None: there is none.
    """
    ours = describe(catalogue)
    here, there = metrics_of(ours), {} if theirs is None else metrics_of(theirs)
    removed = [[*place, there[place]] for place in sorted(there.keys() - here.keys())]
    text = json.dumps(ours | {REMOVED: removed}, ensure_ascii=False, sort_keys=True)
    return f"""INSERT INTO receiver_tables (digest, declaration, declared_by)
VALUES (decode('{digest(catalogue).hex()}', 'hex'), {literal(text)}::jsonb,
    current_user || '@' || {literal(socket.gethostname())})
ON CONFLICT ((true)) DO UPDATE SET digest = EXCLUDED.digest, declaration = EXCLUDED.declaration,
    declared_by = EXCLUDED.declared_by, declared_at = now()"""


def reject_waiting(theirs: Declaration, ours: Declaration, *, distributed: bool) -> Iterator[str]:
    """Write the statement that rejects the waiting samples of columns whose metric changes.

    They wait by the name of their column, so they would become values of the other metric.

    Args:
        theirs: The declaration in force.
        ours: The one that replaces it.
        distributed: Whether Citus distributes the tables.
    """
    key, source = (", shard_key", ", source_id") if distributed else ("", "")
    steps: list[str] = []
    for table, column, metric in other_metrics(theirs, ours):
        place = f"table_name = {literal(table)} AND samples ? {literal(column)}"
        steps.append(f"""
    INSERT INTO rejected_samples (source_id, metric, timestamp_ms, value, reason, detail,
        table_name, column_name{key})
    SELECT source_id, {literal(metric)}, (EXTRACT(EPOCH FROM created_at) * 1000)::bigint,
        (samples ->> {literal(column)})::double precision, '{Reason.UNPAIRED}',
        'its column has another metric now', table_name, {literal(column)}{source}
    FROM pending_rows WHERE {place} ON CONFLICT DO NOTHING;
    UPDATE pending_rows SET samples = samples - {literal(column)} WHERE {place};""")
    if steps:
        # Without the lock, a sample that comes between two statements would be lost.
        body = f"""
BEGIN
    LOCK TABLE pending_rows IN SHARE ROW EXCLUSIVE MODE;{"".join(steps)}
    DELETE FROM pending_rows WHERE samples = '{{}}';
END
"""
        yield f"DO {literal(body)}"


def other_metrics(theirs: Declaration, ours: Declaration) -> Iterator[tuple[str, str, str]]:
    """Yield the columns that are to have another metric than before: table, column, that metric."""
    there, here = metrics_of(theirs), metrics_of(ours)
    for place in sorted(there.keys() & here.keys()):
        if there[place] != here[place]:
            yield *place, there[place]


def metrics_of(declaration: Declaration) -> dict[tuple[str, str], str]:
    """Return the last metric of each column, by table and column, removed ones included."""
    metrics = {(table, column): metric for table, column, metric in declaration.get(REMOVED, ())}
    for name, table in declaration["tables"].items():
        metrics |= {(name, column): one["metric"] for column, one in table["columns"].items()}
    return metrics


def difference(theirs: Declaration, ours: Declaration) -> str:
    """Say in one line what differs between the declaration in force and ours."""
    found = list(differences(theirs["tables"], ours["tables"]))
    more = f", and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
    return ", ".join(found[:MAX_NAMED]) + more


def differences(theirs: Declaration, ours: Declaration) -> Iterator[str]:
    """Yield what differs between the tables of the declaration in force and ours."""
    for name in sorted(theirs.keys() | ours.keys()):
        if name not in ours:
            yield f"table {name} is only in the database"
        elif name not in theirs:
            yield f"table {name} is only in this receiver"
        else:
            yield from differences_of(name, theirs[name], ours[name])


def differences_of(table: str, theirs: Declaration, ours: Declaration) -> Iterator[str]:
    """Yield what differs between two declarations of a table."""
    for part in ("columns", "labels"):
        for name in sorted(theirs[part].keys() | ours[part].keys()):
            there, here = theirs[part].get(name), ours[part].get(name)
            if here is None:
                yield f"column {table}.{name} is only in the database"
            elif there is None:
                yield f"column {table}.{name} is only in this receiver"
            elif there != here:
                yield f"column {table}.{name} has {compared(there, here)}"
    for part in sorted((theirs.keys() | ours.keys()) - {"columns", "labels"}):
        if theirs.get(part) != ours.get(part):
            yield f"table {table} has a different {part}"


def compared(there: Declaration, here: Declaration) -> str:
    """Say what differs between two declarations of a column."""
    keys = sorted(there.keys() | here.keys())
    return " and ".join(
        f"{key} {show(there.get(key))} in the database, {show(here.get(key))} in this receiver"
        for key in keys
        if there.get(key) != here.get(key)
    )


def show(value: object) -> str:
    """Write a value of a declaration as the file does."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else str(value)[:100]
