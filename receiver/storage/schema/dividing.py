"""Recreates an empty table partitioned by time, as an existing table cannot be converted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import asyncpg

from receiver.rows.tables import Table
from receiver.storage.connection.places import quote
from receiver.storage.schema.partitions import first_parts
from receiver.storage.schema.table_statements import columns_of, create

# Whether an empty table ($1) is exactly as declared: with its columns ($2), and without privileges,
# triggers, policies, functions or views other than the receiver's ($3), which it would lose.
FIND_STATE: Final = """
WITH RECURSIVE dependents AS (
    SELECT to_regclass(quote_ident($1))::oid AS oid
    UNION
    SELECT r.ev_class FROM dependents t
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.refobjid = t.oid
    JOIN pg_rewrite r ON r.oid = d.objid
)
SELECT c.relkind = 'r' AND NOT c.relrowsecurity
    AND NOT EXISTS (
        SELECT FROM pg_class d WHERE d.oid IN (SELECT oid FROM dependents)
          AND (d.relacl IS NOT NULL OR d.oid <> c.oid AND d.relname <> ALL($3::text[]))
    )
    AND NOT EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          AND a.attname <> ALL($2::text[] || '{id,created_at,source_id}')
    )
    AND NOT EXISTS (
        SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal
          AND NOT starts_with(t.tgname, 'receiver_note_')
    )
    AND NOT EXISTS (
        SELECT FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
        WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_class'::regclass
          AND d.refobjid IN (SELECT oid FROM dependents)
          AND (p.proacl IS NOT NULL OR p.proname <> ALL($3::text[]))
    ) AS as_declared
FROM pg_class c WHERE c.oid = to_regclass(quote_ident($1))
"""

# The views and functions that read a table ($1): the statement that drops each, and those that
# recreate it.
FIND_READERS: Final = """
SELECT format('DROP VIEW %I', v.relname) AS drop,
    ARRAY[format('CREATE VIEW %I AS %s', v.relname, pg_get_viewdef(v.oid))]
    || ARRAY(
        SELECT CASE t.objsubid
            WHEN 0 THEN format('COMMENT ON VIEW %I IS %L', v.relname, t.description)
            ELSE format('COMMENT ON COLUMN %I.%I IS %L', v.relname, a.attname, t.description) END
        FROM pg_description t
        LEFT JOIN pg_attribute a ON a.attrelid = t.objoid AND a.attnum = t.objsubid AND a.attnum > 0
        WHERE t.objoid = v.oid AND t.classoid = 'pg_class'::regclass
    ) AS make
FROM pg_class v WHERE v.oid IN (
    SELECT r.ev_class FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = to_regclass(quote_ident($1))::oid
)
UNION ALL
SELECT format('DROP FUNCTION %s', p.oid::regprocedure),
    array_remove(ARRAY[
        pg_get_functiondef(p.oid),
        format('COMMENT ON FUNCTION %s IS %L', p.oid::regprocedure,
            obj_description(p.oid, 'pg_proc'))
    ], NULL)
FROM pg_proc p WHERE p.oid IN (
    SELECT d.objid FROM pg_depend d
    WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_class'::regclass
      AND d.refobjid = to_regclass(quote_ident($1))::oid
)
ORDER BY 1
"""


async def divide_by_time(
    connection: asyncpg.Connection, table: Table, names: Iterable[str]
) -> list[str]:
    """Write the statements that recreate an empty table with partitions.

    There are none if the table has no retention, does not exist, or is not exactly as declared.

    Args:
        connection: A connection to the database.
        table: The table.
        names: Names of the receiver's own views and functions, which are recreated with it.
    """
    if table.retention is None:
        return []
    found = await connection.fetchrow(
        FIND_STATE, table.name, [column.name for column in columns_of(table)], list(names)
    )
    if found is None or not found["as_declared"]:
        return []
    readers = await connection.fetch(FIND_READERS, table.name)
    return [
        *(reader["drop"] for reader in readers),
        f"DROP TABLE {quote(table.name)}",
        *create(table, by_time=True),
        *await first_parts(connection, table, []),
        *(statement for reader in readers for statement in reader["make"]),
    ]
