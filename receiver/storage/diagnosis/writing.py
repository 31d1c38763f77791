"""Checks whether rows can be stored in the tables as they are now."""

from __future__ import annotations

import json
from typing import Final

import asyncpg

from receiver.config.settings import Settings
from receiver.errors import DatabaseUnavailableError, ReceiverError
from receiver.rows.tables import Catalogue, Table
from receiver.storage.connection.connecting import is_distributed
from receiver.storage.connection.database import Connection, describe, translated
from receiver.storage.connection.places import quote
from receiver.storage.diagnosis.awaited import find_awaited
from receiver.storage.diagnosis.findings import Finding, note, ok, problem
from receiver.storage.schema.table_statements import columns_of, sql_type
from receiver.storage.writing.rehearsal import find_keyless, rehearsals

OWN: Final = {
    "sources": ("digest", "labels"),
    "pending_rows": ("table_name", "created_at", "source_id", "samples"),
    "rejected_samples": ("metric", "timestamp_ms", "value", "reason", "table_name"),
}
"""Columns of the receiver's own tables that it fills in every row."""

# NOT NULL columns without a default, by table.
FIND_MANDATORY: Final = """
SELECT c.relname AS table, a.attname AS column
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE a.attrelid IN (SELECT to_regclass(quote_ident(name)) FROM unnest($1::text[]) AS name)
  AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull AND NOT a.atthasdef
  AND a.attidentity = ''
ORDER BY c.relname, a.attnum
"""

FIND_TYPES: Final = """
SELECT attname AS column, format_type(atttypid, NULL) AS type
FROM pg_attribute
WHERE attrelid = to_regclass(quote_ident($1)) AND attname = ANY($2::text[]) AND NOT attisdropped
"""

FIND_POLICIES: Final = """
SELECT name FROM unnest($1::text[]) AS name
WHERE to_regclass(quote_ident(name)) IS NOT NULL
  AND row_security_active(to_regclass(quote_ident(name)))
ORDER BY name
"""


FIND_OBSTACLE: Final = "SELECT receiver_references_obstacle($1, $2::jsonb)"

# The worker nodes of Citus that refuse to set session_replication_role, which skips the checks of
# each row, and their errors.
TRY_ON_NODES: Final = """
SELECT format('node %s:%s', r.nodename, r.nodeport), r.result
FROM run_command_on_workers($$
    SELECT set_config('session_replication_role', current_setting('session_replication_role'), true)
$$) r WHERE NOT r.success ORDER BY 1
"""


def written(catalogue: Catalogue) -> dict[str, tuple[str, ...]]:
    """Return the columns that the receiver fills in every row, by table."""
    return {
        **dict.fromkeys(catalogue.code_tables, ("code", "name", "description")),
        **{table.name: tuple(copied(table)) for table in catalogue.tables},
        **OWN,
    }


def copied(table: Table) -> dict[str, str]:
    """Return the columns of a table that COPY fills, with their types."""
    return {
        "created_at": "timestamp with time zone",
        "source_id": "integer",
        **{column.name: sql_type(column) for column in columns_of(table)},
    }


async def check_writing(connection: Connection, settings: Settings) -> list[Finding]:
    """Check whether rows can be stored and, if not, what differs from the tables as created."""
    catalogue = settings.catalogue
    awaited = await find_awaited(connection, catalogue)
    findings = [
        found
        for table, statement in rehearsals(catalogue).items()
        if table not in awaited
        and (found := await try_table(connection, table, statement)) is not None
    ]
    if awaited:
        # The check of the declared tables reports them; the others can be judged after that.
        return findings
    if not findings and (keyless := await find_keyless(connection, catalogue)):
        findings.append(problem(*keyless.split(": ", 1)))
    findings += await find_mandatory(connection, catalogue)
    if findings:
        return findings
    return [ok("rows can be stored"), *await find_slow(connection, settings)]


async def try_table(connection: Connection, table: str, statement: str) -> Finding | None:
    """Try what storing rows does with a table; return a finding if it fails."""
    try:
        with translated():
            async with connection.transaction():
                # The session is read-only by default; none of these statements writes anything.
                await connection.execute("SET TRANSACTION READ WRITE")
                await connection.execute(statement)
    except ReceiverError as error:
        cause = error.__cause__
        said = describe(cause) if isinstance(cause, asyncpg.PostgresError) else str(error)
        if getattr(cause, "sqlstate", None) == "42501":
            role = await connection.fetchval("SELECT quote_ident(current_user)")
            rights = f"GRANT SELECT, INSERT, UPDATE, DELETE ON {quote(table)} TO {role}"
            advice = f"let the owner run {rights}"
        elif type(error) is DatabaseUnavailableError:
            advice = ""
        else:
            advice = (
                f"change {table} back to what it was: `receiver tables` lists the columns of the "
                "declared tables, the SQL in migrations/ those of all others"
            )
        return problem(f"no row can be stored: {table}: {said}", advice)
    return None


async def find_mandatory(connection: Connection, catalogue: Catalogue) -> list[Finding]:
    """Find columns unknown to the receiver that are NOT NULL without a default."""
    known = written(catalogue)
    return [
        problem(
            f"{table}.{column} is NOT NULL without a default, so that every row is rejected",
            f"ALTER TABLE {quote(table)} ALTER {quote(column)} SET DEFAULT …, or DROP NOT NULL",
        )
        for table, column in await connection.fetch(FIND_MANDATORY, list(known))
        if column not in known[table]
    ]


async def find_slow(connection: Connection, settings: Settings) -> list[Finding]:
    """Find what makes storing rows slower than it could be."""
    catalogue = settings.catalogue
    reasons = [
        f"row-level security is in force on {table}"
        for (table,) in await connection.fetch(FIND_POLICIES, list(written(catalogue)))
    ]
    for table in catalogue.tables:
        types = copied(table)
        reasons += [
            f"{table.name}.{column} is {type_}, not {types[column]}"
            for column, type_ in await connection.fetch(FIND_TYPES, table.name, list(types))
            if type_ != types[column]
        ]
    findings = [
        note(f"rows are stored by INSERT, slower than by COPY: {reason}") for reason in reasons
    ]
    if settings.reference_checks == "batch":
        findings += await find_reference_checks(connection, catalogue)
    return findings


async def find_reference_checks(connection: Connection, catalogue: Catalogue) -> list[Finding]:
    """Report where references are checked once per batch, and what prevents it elsewhere."""
    role = await connection.fetchval("SELECT quote_ident(current_user)")
    grant = f"GRANT SET ON PARAMETER session_replication_role TO {role} (PostgreSQL 15)"
    at_once: list[str] = []
    obstacles: list[str] = []
    for table in catalogue.tables:
        codes = {column.name: {"table": column.codes} for column in table.codes}
        obstacle = await connection.fetchval(FIND_OBSTACLE, table.name, json.dumps(codes))
        if obstacle is None:
            at_once.append(table.name)
        elif obstacle not in obstacles:
            obstacles.append(obstacle)
    distributed = await is_distributed(connection)
    nodes = await connection.fetch(TRY_ON_NODES) if distributed else []
    here = f"on the coordinator: {grant}" if distributed else grant
    findings = [
        note(
            f"codes and sources are checked row by row: {obstacle}",
            here if "session_replication_role" in obstacle else "",
        )
        for obstacle in obstacles
    ]
    findings += [
        note(
            f"codes and sources are checked row by row: {node}: {error}",
            f"on {node}: {grant}" if "session_replication_role" in error else "",
        )
        for node, error in nodes
    ]
    at_once = [] if nodes else at_once
    if at_once:
        names = ", ".join(at_once)
        findings.append(ok(f"codes and sources of rows are checked once per batch: {names}"))
    return findings


CHECKS: Final = {"writing": check_writing}
