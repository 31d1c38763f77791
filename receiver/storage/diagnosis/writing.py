"""Can rows be stored in the tables, as they are now?"""

from __future__ import annotations

from typing import Final

import asyncpg

from receiver.config.settings import Settings
from receiver.errors import ReceiverError
from receiver.storage.connection.database import Connection, describe, translated
from receiver.storage.diagnosis.findings import Finding, note, ok, problem
from receiver.storage.writing.rehearsal import HAS_KEY, REHEARSALS, no_key

WRITTEN: Final = {
    "error_codes": ("code", "name", "description"),
    "sources": ("digest", "labels"),
    "app_logs": ("created_at", "source_id", "app_status", "ocr_value"),
    "pending_halves": ("created_at", "source_id"),
    "rejected_samples": ("metric", "timestamp_ms", "value", "reason"),
}
"""Columns that are given a value in each row."""

COPIED: Final = {
    "created_at": "timestamp with time zone",
    "source_id": "integer",
    "app_status": "integer",
    "ocr_value": "timestamp with time zone",
}
"""Types of the columns of `app_logs` that COPY takes."""

# Columns that must have a value, by table, but have no default.
FIND_MANDATORY: Final = """
SELECT c.relname AS table, a.attname AS column
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE a.attrelid IN (SELECT to_regclass(name) FROM unnest($1::text[]) AS name)
  AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull AND NOT a.atthasdef
  AND a.attidentity = ''
ORDER BY c.relname, a.attnum
"""

FIND_TYPES: Final = """
SELECT attname AS column, format_type(atttypid, NULL) AS type
FROM pg_attribute
WHERE attrelid = to_regclass('app_logs') AND attname = ANY($1::text[]) AND NOT attisdropped
"""

FIND_POLICIES: Final = """
SELECT name FROM unnest($1::text[]) AS name
WHERE to_regclass(name) IS NOT NULL AND row_security_active(to_regclass(name)) ORDER BY name
"""


async def check_writing(connection: Connection, settings: Settings) -> list[Finding]:
    """Whether rows can be stored, and if not, what differs from the tables as they were made."""
    findings = [
        found for table in REHEARSALS if (found := await try_table(connection, table)) is not None
    ]
    if not findings and not await connection.fetchval(HAS_KEY):
        findings.append(problem(*no_key("app_logs").split(": ", 1)))
    findings += await find_mandatory(connection)
    if findings:
        return findings
    return [ok("rows can be stored"), *await find_slow(connection, settings)]


async def try_table(connection: Connection, table: str) -> Finding | None:
    """Go through what is done with a table to store rows."""
    try:
        with translated():
            async with connection.transaction():
                # The session may only read; nothing of this writes anything.
                await connection.execute("SET TRANSACTION READ WRITE")
                await connection.execute(REHEARSALS[table])
    except ReceiverError as error:
        cause = error.__cause__
        said = describe(cause) if isinstance(cause, asyncpg.PostgresError) else str(error)
        if getattr(cause, "sqlstate", None) == "42501":
            advice = (
                f"let the owner run GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO our role"
            )
        else:
            advice = f"change {table} back to what it was: docs/architecture.md lists its columns"
        return problem(f"no row can be stored: {table}: {said}", advice)
    return None


async def find_mandatory(connection: Connection) -> list[Finding]:
    """Find columns that the receiver does not know and that take no row without a value."""
    return [
        problem(
            f"{table}.{column} is NOT NULL without a default, so that every row is rejected",
            f"ALTER TABLE {table} ALTER {column} SET DEFAULT …, or DROP NOT NULL",
        )
        for table, column in await connection.fetch(FIND_MANDATORY, list(WRITTEN))
        if column not in WRITTEN[table]
    ]


async def find_slow(connection: Connection, settings: Settings) -> list[Finding]:
    """Find what makes storing rows take longer than it could."""
    reasons = [
        f"row-level security is in force on {table}"
        for (table,) in await connection.fetch(FIND_POLICIES, list(WRITTEN))
    ]
    reasons += [
        f"app_logs.{column} is {type_}, not {COPIED[column]}"
        for column, type_ in await connection.fetch(FIND_TYPES, list(COPIED))
        if type_ != COPIED[column]
    ]
    findings = [
        note(f"rows are stored by INSERT, slower than by COPY: {reason}") for reason in reasons
    ]
    if settings.reference_checks == "batch":
        findings.append(await find_reference_check(connection))
    return findings


async def find_reference_check(connection: Connection) -> Finding:
    """Say whether references are checked once a batch, and what grants it."""
    obstacle = await connection.fetchval("SELECT receiver_references_obstacle()")
    if obstacle is None:
        return ok("codes and sources of rows are checked once a batch")
    role = await connection.fetchval("SELECT quote_ident(current_user)")
    grant = f"GRANT SET ON PARAMETER session_replication_role TO {role} (PostgreSQL 15)"
    advice = grant if "session_replication_role" in obstacle else ""
    return note(f"codes and sources are checked row by row: {obstacle}", advice)


CHECKS: Final = {"writing": check_writing}
