"""Checks what the receiver requires of a database; `migrate` and `serve` exit if it is not met.

Nothing here changes the database. A requirement stays unmet until somebody acts, so it is a
`SetupError`, which is never retried.
"""

from __future__ import annotations

from typing import Final

import asyncpg

from receiver.errors import SchemaError, SetupError
from receiver.rows.tables import Catalogue
from receiver.storage.connection.places import OWN_SCHEMA
from receiver.storage.schema.timescale import IS_LOADED, LOAD

OLDEST_SERVER: Final = 14
"""Oldest supported major version of PostgreSQL."""

NEWEST_SERVER: Final = 18
"""Newest major version that the receiver is known to work with; newer ones should work as well."""

CALENDAR: Final = (
    *("code_classes", "report_settings", "report_shifts", "report_holidays"),
    *("planned_stops", "state_comments"),
)
"""The tables that configure reports."""
KEPT: Final = ("report_days", "report_changes", "report_ranges")
"""The tables of precomputed report data."""

RIGHTS: Final = {
    "receiver_schema_version": ("SELECT",),
    "receiver_tables": ("SELECT",),
    "sources": ("SELECT", "INSERT"),
    "pending_rows": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "rejected_samples": ("SELECT", "INSERT", "DELETE"),
    "backfills": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    **dict.fromkeys(CALENDAR, ("SELECT",)),
    **dict.fromkeys(KEPT, ("SELECT", "INSERT", "UPDATE", "DELETE")),
}
"""The privileges that a role needs on each of the receiver's own tables."""

RIGHTS_OF_CITUS: Final = {"source_keys": ("SELECT", "INSERT")}
"""The same for tables that exist only where Citus distributes the tables."""

# Tables that only another application can have created if no revision of ours was applied.
FOREIGN: Final = (
    *RIGHTS.keys() - {"receiver_schema_version"},
    "app_logs",
    "error_codes",
    "alembic_version",
)

# The server, and our role there. Names are quoted where a statement would need it.
SERVER: Final = f"""
SELECT current_setting('server_version_num')::int / 10000 AS major,
    current_setting('server_version') AS version,
    current_setting('server_encoding') AS encoding,
    quote_ident(current_user) AS role,
    quote_ident(current_database()) AS database,
    quote_ident({OWN_SCHEMA}) AS schema,
    has_schema_privilege({OWN_SCHEMA}, 'CREATE') AS creates_tables,
    current_setting('search_path') AS search_path,
    EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') AS has_timescaledb,
    EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') AS has_citus
"""

# The relations with these names ($1) in the schema in which our tables would be created.
FIND_RELATIONS: Final = f"""
SELECT c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = {OWN_SCHEMA} AND c.relname = ANY($1::text[])
ORDER BY c.relname
"""

# Whether the server offers TimescaleDB, but our role may not create it.
LACKS_EXTENSION: Final = """
SELECT EXISTS (
    SELECT FROM pg_available_extensions e
    JOIN pg_available_extension_versions v ON (v.name, v.version) = (e.name, e.default_version)
    WHERE e.name = 'timescaledb' AND e.installed_version IS NULL
      AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
      AND NOT (v.trusted AND has_database_privilege(current_database(), 'CREATE'))
)
"""

# Those of these names ($1) that exist, quoted where needed: one may be a keyword, or have capitals.
LIST_NAMES: Final = """
SELECT string_agg(quote_ident(name), ', ' ORDER BY place)
FROM unnest($1::text[]) WITH ORDINALITY AS listed (name, place)
WHERE to_regclass(quote_ident(name)) IS NOT NULL
"""

# The tables ($1) in which rows may lack a value of one of these columns ($2): the column is
# optional, or was declared when there were rows.
FIND_FILLED: Final = """
SELECT DISTINCT filled.name
FROM unnest($1::text[], $2::text[]) AS filled (name, column_name)
JOIN pg_attribute a ON a.attrelid = to_regclass(quote_ident(filled.name))
    AND a.attname = filled.column_name AND NOT a.attnotnull
"""

# Which of these privileges ($2) our role lacks on these tables ($1), of the tables that exist.
LACKING_RIGHTS: Final = """
SELECT wanted.privilege || ' on ' || quote_ident(wanted.name) AS lacking
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS wanted (name, privilege, place)
WHERE NOT has_table_privilege(to_regclass(quote_ident(wanted.name)), wanted.privilege)
ORDER BY place
"""


async def require_server(connection: asyncpg.Connection) -> asyncpg.Record:
    """Check that the server and the database are supported; return the result of `SERVER`.

    Raises:
        SetupError: the server is too old, the database does not hold UTF-8 text or has a
            TimescaleDB that the server does not load, or both Citus and TimescaleDB.
    """
    server = await connection.fetchrow(SERVER)
    if server["major"] < OLDEST_SERVER:
        raise SetupError(
            f"PostgreSQL {server['version']} is too old: the receiver needs {OLDEST_SERVER} or "
            "newer"
        )
    if server["encoding"] != "UTF8":
        raise SetupError(
            f"the database's encoding is {server['encoding']}, it must be UTF8: make another with "
            "CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
        )
    if server["has_timescaledb"] and not await connection.fetchval(IS_LOADED):
        raise SetupError(
            f"database {server['database']} has TimescaleDB, but the server does not load it: "
            f"{LOAD}"
        )
    if server["has_citus"] and server["has_timescaledb"]:
        raise SetupError(
            f"database {server['database']} has both Citus and TimescaleDB, which exclude each "
            "other: give the receiver a database with one of them"
        )
    return server


def rights(catalogue: Catalogue) -> dict[str, tuple[str, ...]]:
    """Return the privileges that a role needs on each table to receive, store and show rows."""
    return {
        **RIGHTS,
        **dict.fromkeys(catalogue.code_tables, ("SELECT", "INSERT")),
        **dict.fromkeys(catalogue.by_name, ("SELECT", "INSERT")),
        **{f"{name}_now": ("SELECT",) for name in catalogue.by_name},
    }


async def require_rights(connection: asyncpg.Connection, catalogue: Catalogue) -> None:
    """Check that the role has the privileges that it needs on those tables that exist.

    Raises:
        SchemaError: it lacks some; the message names each table and privilege.
    """
    required = rights(catalogue)
    columns = [(table.name, column.name) for table in catalogue.tables for column in table.columns]
    for (name,) in await connection.fetch(FIND_FILLED, *zip(*columns, strict=True)):
        # A late sample is added to its row by UPDATE.
        required[name] += ("UPDATE",)
    server = await connection.fetchrow(SERVER)
    if server["has_citus"]:
        required |= RIGHTS_OF_CITUS
    wanted = [(name, right) for name, rights_ in required.items() for right in rights_]
    lacking = await connection.fetch(LACKING_RIGHTS, *zip(*wanted, strict=True))
    if lacking:
        tables = await connection.fetchval(LIST_NAMES, list(required))
        raise SchemaError(
            f"role {server['role']} lacks {', '.join(row['lacking'] for row in lacking)}: let the "
            f"tables' owner run GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} "
            f"TO {server['role']}"
        )


async def require_schema(connection: asyncpg.Connection) -> None:
    """Check that tables can be created and changed, before any revision is applied.

    Raises:
        SchemaError: there is no schema for the role, or no privilege to create tables there.
    """
    server = await connection.fetchrow(SERVER)
    if not server["creates_tables"]:
        schema = server["schema"]
        if schema is None:
            raise SchemaError(
                f"no schema of the search_path ({server['search_path'] or 'which is empty'}) is "
                f"usable by role {server['role']} in database {server['database']}: ALTER ROLE "
                f"{server['role']} SET search_path = SCHEMA, or add ?search_path=SCHEMA to "
                "RECEIVER_DATABASE_URL"
            )
        raise SchemaError(
            f"role {server['role']} may not create tables in schema {schema} of database "
            f"{server['database']}: let the database's owner run GRANT USAGE, CREATE ON SCHEMA "
            f"{schema} TO {server['role']} (since PostgreSQL 15 only the owner may by default)"
        )


async def require_room(connection: asyncpg.Connection) -> None:
    """Check that the receiver's tables can be created at all, before the first revision is applied.

    Raises:
        SchemaError: another application's tables are in the way, or the server offers TimescaleDB
            but this role may not create it. With plain tables instead of hypertables, rows would
            have to be moved later.
    """
    server = await connection.fetchrow(SERVER)
    if found := await connection.fetch(FIND_RELATIONS, FOREIGN):
        raise SchemaError(
            f"schema {server['schema']} of database {server['database']} has "
            f"{', '.join(row['relname'] for row in found)} of another application: give the "
            "receiver a database of its own, or a schema of its own by adding "
            "?search_path=SCHEMA,public to RECEIVER_DATABASE_URL"
        )
    if (
        not server["has_citus"]
        and await connection.fetchval(IS_LOADED)
        and await connection.fetchval(LACKS_EXTENSION)
    ):
        raise SchemaError(
            f"the server has TimescaleDB, but role {server['role']} may not create it: let an "
            f"administrator run CREATE EXTENSION timescaledb in database {server['database']}, or "
            f"GRANT CREATE ON DATABASE {server['database']} TO {server['role']}"
        )
