"""In which schemas of the database things are."""

from __future__ import annotations

from typing import Final

LOGS: Final = "app_logs"
VERSION_TABLE: Final = "receiver_schema_version"
"""The revision that the schema is at; it tells our tables from others of the same names."""


def quote(name: str) -> str:
    """Write a name as SQL, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Write a text as SQL, whatever the session says of backslashes."""
    written = "'" + text.replace("'", "''") + "'"
    return "E" + written.replace("\\", "\\\\") if "\\" in text else written


def schema_of(relation: str) -> str:
    """Write an expression for the schema in which a name is found; NULL if it is in none.

    Not current_schema(), which is where something new would be made: a schema that comes first may
    have been added since.
    """
    return (
        "(SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE c.oid = to_regclass({literal(quote(relation))}))"
    )


OWN_SCHEMA: Final = f"COALESCE({schema_of(VERSION_TABLE)}, current_schema())"
"""Where our tables are, or would be made."""

# For the rest of a transaction: what is new is made where our tables are, and the functions of
# TimescaleDB are found in whatever schema it was created. Without a schema to make things in it
# stays so.
LOOK_EVERYWHERE: Final = f"""
SELECT set_config('search_path', concat_ws(', ',
    quote_ident({schema_of(VERSION_TABLE)}),
    NULLIF(current_setting('search_path'), ''),
    (SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
     WHERE e.extname = 'timescaledb' AND {OWN_SCHEMA} IS NOT NULL)
), true)
"""
