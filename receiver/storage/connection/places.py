"""Finds the schemas of the receiver's tables and of TimescaleDB, and quotes names for SQL."""

from __future__ import annotations

from typing import Final

LOGS: Final = "app_logs"
VERSION_TABLE: Final = "receiver_schema_version"
"""Holds the schema's revision; its presence tells our tables from others of the same names."""


def quote(name: str) -> str:
    """Quote an identifier for SQL, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a string for SQL, whatever the session's standard_conforming_strings is."""
    written = "'" + text.replace("'", "''") + "'"
    return "E" + written.replace("\\", "\\\\") if "\\" in text else written


def schema_of(relation: str) -> str:
    """Write an expression for the schema in which a relation is found; NULL if it is in none.

    It is not current_schema(), in which new objects are created: a schema that comes earlier in the
    search path may have been added since.
    """
    return (
        "(SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE c.oid = to_regclass({literal(quote(relation))}))"
    )


OWN_SCHEMA: Final = f"COALESCE({schema_of(VERSION_TABLE)}, current_schema())"
"""The schema in which our tables are, or would be created."""

# For the rest of a transaction, new objects are created where our tables are, and TimescaleDB's
# functions are found in whatever schema the extension is in. If there is no schema to create
# objects in, that stays so.
LOOK_EVERYWHERE: Final = f"""
SELECT set_config('search_path', concat_ws(', ',
    quote_ident({schema_of(VERSION_TABLE)}),
    NULLIF(current_setting('search_path'), ''),
    (SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
     WHERE e.extname = 'timescaledb' AND {OWN_SCHEMA} IS NOT NULL)
), true)
"""
