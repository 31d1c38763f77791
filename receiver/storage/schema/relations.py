"""Looks up the relations that have the names of the declared tables and their views."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import asyncpg

from receiver.storage.connection.places import OWN_SCHEMA

TABLES: Final = ("r", "p")
"""`Relation.kind` of tables, plain and partitioned."""
VIEW: Final = "v"

# The relations in our schema with these names ($1): their kind, the columns of their unique
# indexes, whether a trigger of their owner's may fill columns, and the comment.
FIND_RELATIONS: Final = f"""
SELECT c.oid, c.relname AS name, c.relkind::text AS kind,
    ARRAY(
        SELECT string_agg(a.attname, ',' ORDER BY a.attname)
        FROM pg_index i
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey[0:i.indnkeyatts - 1])
        WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
          AND i.indexprs IS NULL
        GROUP BY i.indexrelid
    ) AS keys,
    EXISTS (
        SELECT FROM pg_trigger t
        WHERE t.tgrelid = c.oid AND t.tgtype & 7 = 7 AND NOT t.tgisinternal
          AND t.tgname <> 'ts_insert_blocker'
    ) AS filled,
    obj_description(c.oid, 'pg_class') AS comment
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = {OWN_SCHEMA} AND c.relname = ANY($1::text[])
"""

# The columns of relations ($1: oids). The type of a domain is its base type; a column is mandatory
# if it is NOT NULL without a default.
FIND_COLUMNS: Final = """
SELECT a.attrelid, a.attname AS name,
    format_type(COALESCE(NULLIF(t.typbasetype, 0), t.oid), NULL) AS type,
    a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS mandatory,
    ARRAY(
        SELECT r.relname FROM pg_constraint f JOIN pg_class r ON r.oid = f.confrelid
        WHERE f.conrelid = a.attrelid AND f.contype = 'f' AND f.conkey = ARRAY[a.attnum]
    ) AS references
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""

# The columns that views ($1: oids) read, and the tables whose rows functions return to them, which
# read them on Citus.
FIND_READS: Final = """
SELECT r.ev_class, c.relname, a.attname
FROM pg_rewrite r
JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
JOIN pg_class c ON d.refclassid = 'pg_class'::regclass AND c.oid = d.refobjid
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid AND a.attnum > 0
WHERE r.ev_class = ANY($1::oid[])
UNION ALL
SELECT r.ev_class, c.relname, ''
FROM pg_rewrite r
JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
JOIN pg_class c ON d.refclassid = 'pg_type'::regclass AND c.reltype = d.refobjid
WHERE r.ev_class = ANY($1::oid[])
"""


class FoundColumn(NamedTuple):
    """An existing column."""

    type: str
    mandatory: bool = False
    """Whether a row without a value for it is refused."""
    references: tuple[str, ...] = ()
    """The tables that foreign keys of this column alone refer to."""


class Relation(NamedTuple):
    """A table, or whatever else has the name of one."""

    kind: str
    columns: dict[str, FoundColumn]
    """In their order."""
    keys: frozenset[str] = frozenset()
    """The columns of each unique index, sorted and with commas between them."""
    filled: bool = False
    """Whether a trigger may fill columns."""
    comment: str | None = None
    reads: frozenset[tuple[str, str]] = frozenset()
    """The columns that a view reads, each after its table; "" if a function reads the table."""


async def find_relations(
    connection: asyncpg.Connection, names: Iterable[str]
) -> dict[str, Relation]:
    """Look up the existing relations with these names."""
    rows = await connection.fetch(FIND_RELATIONS, list(names))
    if not rows:
        return {}
    columns: dict[int, dict[str, FoundColumn]] = {row["oid"]: {} for row in rows}
    for oid, name, type_, mandatory, references in await connection.fetch(
        FIND_COLUMNS, list(columns)
    ):
        columns[oid][name] = FoundColumn(type_, mandatory, tuple(references))
    reads: dict[int, set[tuple[str, str]]] = {oid: set() for oid in columns}
    for oid, table, name in await connection.fetch(FIND_READS, list(columns)):
        reads[oid].add((table, name))
    return {
        row["name"]: Relation(
            row["kind"],
            columns[row["oid"]],
            frozenset(row["keys"]),
            row["filled"],
            row["comment"],
            frozenset(reads[row["oid"]]),
        )
        for row in rows
    }


# What the first revision creates of the built-in declaration, for a plan on an empty database.
FIRST_REVISION: Final = {
    "error_codes": Relation(
        "r",
        {
            "code": FoundColumn("integer", mandatory=True),
            "name": FoundColumn("text", mandatory=True),
            "description": FoundColumn("text"),
            "created_at": FoundColumn("timestamp with time zone"),
        },
        frozenset({"code"}),
    ),
    "app_logs": Relation(
        "r",
        {
            "id": FoundColumn("bigint"),
            "created_at": FoundColumn("timestamp with time zone"),
            "app_status": FoundColumn("integer", mandatory=True, references=("error_codes",)),
            "ocr_value": FoundColumn("timestamp with time zone", mandatory=True),
            "source_id": FoundColumn("integer", mandatory=True, references=("sources",)),
        },
        frozenset({"created_at,source_id"}),
    ),
}
