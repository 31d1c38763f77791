"""Writes tables files, and reads the schema that a database has from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg

from receiver.config.settings import Settings
from receiver.storage.schema.revisions import plan
from tests.conftest import MakeSettings

APP_LOGS = {
    "columns": {
        "app_status": {"metric": "app_status", "type": "code", "codes": "error_codes"},
        "ocr_value": {"metric": "ocr_value", "type": "timestamp", "unit": "seconds"},
    }
}
PRESSES: dict[str, Any] = {
    "match": {"job": "plc"},
    "labels": {"line": "text", "place": {"label": "machine", "type": "bigint"}},
    "columns": {
        "pressure": {"metric": "press_pressure_bar", "type": "double"},
        "strokes": {"metric": "press_strokes_total", "type": "bigint", "required": False},
        "state": {"metric": "press_state", "type": "code", "codes": "press_states"},
    },
}

COLUMNS = """
SELECT attname, format_type(atttypid, NULL), attnotnull FROM pg_attribute
WHERE attrelid = to_regclass(quote_ident($1)) AND attnum > 0 AND NOT attisdropped
ORDER BY attnum
"""

# Every property of tables, views and functions that a statement can change, and TimescaleDB jobs.
SCHEMA = """
SELECT c.oid::bigint, c.relname::text, c.relkind::text, c.relacl::text, c.relfilenode::bigint,
    ARRAY(
        SELECT format('%s %s %s', attname, format_type(atttypid, NULL), attnotnull)
        FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
        ORDER BY attnum
    ) || ARRAY(
        SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = c.oid
        ORDER BY conname
    ) || ARRAY(SELECT ev_action::text FROM pg_rewrite WHERE ev_class = c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public'
UNION ALL SELECT p.oid, p.proname, 'function', p.proacl::text, p.xmin::text::bigint, ARRAY[]::text[]
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'public'
ORDER BY 2, 1
"""


def declare(make_settings: MakeSettings, url: str, **tables: Any) -> Settings:  # noqa: ANN401
    """Return settings with a tables file that declares these tables."""
    path = Path("tables.yaml")
    path.write_text(json.dumps({"tables": tables}), encoding="utf-8")
    settings = make_settings(database_url=url, tables_file=path)
    assert settings.catalogue.by_name.keys() == tables.keys()
    return settings


def with_columns(table: Mapping[str, Any], **columns: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a copy of the table with these columns added, or removed where None."""
    merged = {**table["columns"], **columns}
    return {
        **table,
        "columns": {name: column for name, column in merged.items() if column is not None},
    }


async def columns_of(connection: asyncpg.Connection, table: str) -> dict[str, tuple[str, bool]]:
    """Return the type of each column of a table, and whether it is NOT NULL."""
    return {name: (type_, kept) for name, type_, kept in await connection.fetch(COLUMNS, table)}


async def schema_of(connection: asyncpg.Connection) -> list[tuple[Any, ...]]:
    """Return all properties of all tables, views and functions."""
    return [tuple(row) for row in await connection.fetch(SCHEMA)]


async def run_plan(connection: asyncpg.Connection, settings: Settings) -> list[str]:
    """Run the statements of `plan` one by one; return them."""
    statements = await plan(settings)
    for statement in statements:
        await connection.execute(statement)
    return statements
