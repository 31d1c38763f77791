"""Checks the schema's revision, the role's privileges, and the indexes."""

from __future__ import annotations

from typing import Final

from receiver.config.settings import Settings
from receiver.errors import SchemaError
from receiver.rows.tables import Catalogue
from receiver.storage.connection.database import Connection
from receiver.storage.connection.places import quote
from receiver.storage.diagnosis.findings import Finding, note, ok, problem, warning
from receiver.storage.schema.requirements import (
    CALENDAR,
    KEPT,
    RIGHTS_OF_CITUS,
    require_rights,
    require_room,
    require_schema,
)
from receiver.storage.schema.revisions import find_revision, newest_revision

KEPT_INDEXES: Final = (
    ("UNIQUE INDEX", "sources", "digest"),
    ("UNIQUE INDEX", "pending_rows", "source_id, created_at, table_name"),
    (
        "UNIQUE INDEX",
        "rejected_samples",
        "source_id, metric, timestamp_ms, value, reason, table_name",
    ),
)
"""The indexes of the receiver's own tables that it requires."""

FIND_TABLES: Final = """
SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(quote_ident(name)) IS NOT NULL
"""

# The valid indexes of these tables ($1), as in `needed_indexes`.
FIND_INDEXES: Final = """
SELECT CASE WHEN i.indisunique THEN 'UNIQUE INDEX' ELSE 'INDEX' END, t.relname, (
        SELECT string_agg(a.attname, ', ' ORDER BY key.place)
        FROM unnest(i.indkey::int[]) WITH ORDINALITY AS key (number, place)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = key.number
    )
FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid
WHERE i.indrelid IN (SELECT to_regclass(quote_ident(name)) FROM unnest($1::text[]) AS name)
  AND i.indisvalid AND i.indisready AND i.indpred IS NULL
"""

# Invalid indexes, as a failed CREATE INDEX CONCURRENTLY leaves them, including those of a
# hypertable's chunks.
FIND_INVALID: Final = """
SELECT i.indexrelid::regclass::text AS index
FROM pg_index i
WHERE NOT (i.indisvalid AND i.indisready) AND i.indrelid IN (
    SELECT to_regclass(quote_ident(name)) FROM unnest($1::text[]) AS name
    UNION ALL
    SELECT inhrelid FROM pg_inherits WHERE inhparent IN (
        SELECT to_regclass(quote_ident(name)) FROM unnest($1::text[]) AS name
    )
)
ORDER BY 1 LIMIT 10
"""


# Roles that may read these tables ($1) but not the tables that reports are made of ($2). They get
# no reports, or slow ones. Names are quoted as in statements.
FIND_READERS: Final = """
SELECT quote_ident(r.rolname) AS role,
    string_agg(quote_ident(t.name), ', ' ORDER BY t.place) AS tables
FROM pg_roles r
CROSS JOIN unnest($2::text[]) WITH ORDINALITY AS t (name, place)
WHERE NOT has_table_privilege(r.oid, to_regclass(quote_ident(t.name)), 'SELECT')
  AND EXISTS (
      SELECT FROM pg_class c, aclexplode(c.relacl) AS a
      WHERE c.oid IN (SELECT to_regclass(quote_ident(name)) FROM unnest($1::text[]) AS name)
        AND a.grantee = r.oid AND a.privilege_type = 'SELECT'
  )
GROUP BY r.rolname ORDER BY r.rolname LIMIT 10
"""


async def check_revision(connection: Connection, settings: Settings) -> list[Finding]:
    """Check whether the schema is at this receiver's revision, or else can be migrated to it."""
    newest = newest_revision()
    try:
        found = await find_revision(connection)
        if found == newest:
            return [ok(f"revision {found}")]
        await require_schema(connection)
        if found is None:
            await require_room(connection)
    except SchemaError as error:
        return [problem(str(error))]
    state = f"revision {found}, this receiver needs {newest}" if found else "no tables yet"
    if settings.migrate_on_start:
        return [note(state, "`receiver serve` does this at start, `receiver migrate` now")]
    return [problem(state, "run `receiver migrate`")]


async def check_rights(connection: Connection, settings: Settings) -> list[Finding]:
    """Check whether the role has the privileges that it needs on the tables."""
    try:
        await require_rights(connection, settings.catalogue)
    except SchemaError as error:
        return [problem(str(error))]
    role = await connection.fetchval("SELECT quote_ident(current_user)")
    tables = [table.name for table in settings.catalogue.tables if table.codes]
    needed = ["receiver_tables", *CALENDAR, *KEPT, *RIGHTS_OF_CITUS]
    readers = await connection.fetch(FIND_READERS, tables, needed)
    return [
        ok(f"role {role} may read and write the tables"),
        *(
            note(
                f"role {row['role']} may read rows, but not all the tables that reports need",
                f"GRANT SELECT ON {row['tables']} TO {row['role']}",
            )
            for row in readers
        ),
    ]


def needed_indexes(catalogue: Catalogue) -> list[tuple[str, str, str]]:
    """List the indexes that the receiver or the documented queries require."""
    return [
        *(("UNIQUE INDEX", name, "code") for name in catalogue.code_tables),
        *(("UNIQUE INDEX", table.name, "source_id, created_at") for table in catalogue.tables),
        *(("INDEX", table.name, "created_at") for table in catalogue.tables),
        *KEPT_INDEXES,
    ]


async def check_indexes(connection: Connection, settings: Settings) -> list[Finding]:
    """Check whether the indexes exist and are valid."""
    needed = needed_indexes(settings.catalogue)
    names = list({table for _, table, _ in needed})
    there = {name for (name,) in await connection.fetch(FIND_TABLES, names)}
    found = {tuple(row) for row in await connection.fetch(FIND_INDEXES, names)}
    findings = [
        problem(
            f"{table} has no index on ({columns})", f"CREATE {kind} ON {quote(table)} ({columns})"
        )
        for kind, table, columns in needed
        # Where Citus distributes a table by an additional column, its keys include that column.
        if table in there
        and not {(kind, table, columns), (kind, table, f"{columns}, shard_key")} & found
    ]
    findings += [
        warning(f"index {row['index']} is invalid", f"REINDEX INDEX CONCURRENTLY {row['index']}")
        for row in await connection.fetch(FIND_INVALID, names)
    ]
    return findings or [ok("all indexes exist and are valid")]


CHECKS: Final = {"schema": check_revision}
CHECKS_OF_TABLES: Final = {"rights": check_rights, "indexes": check_indexes}
