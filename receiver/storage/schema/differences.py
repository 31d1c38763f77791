"""Finds the changes that the declared tables and their views need in the database."""

from __future__ import annotations

from typing import Final, NamedTuple

import asyncpg

from receiver.config.table_names import APP_LOGS
from receiver.errors import NotAdditiveError
from receiver.rows.tables import Catalogue
from receiver.storage.connection.places import OWN_SCHEMA
from receiver.storage.schema.declaration import Declaration, find_declaration
from receiver.storage.schema.interval_views import OLD_FUNCTION, interval_function
from receiver.storage.schema.partitions import first_parts
from receiver.storage.schema.relations import FIRST_REVISION, find_relations
from receiver.storage.schema.tables import Changes, compare
from receiver.storage.schema.timescale import KNOWS_HYPERTABLES
from receiver.storage.schema.views import PLAIN, Form, ViewChange, compare_views, view_names

# Which of these functions ($1, with their types) exist, unless their comment begins with $2.
FIND_FUNCTIONS: Final = """
SELECT name FROM unnest($1::text[]) AS name WHERE to_regprocedure(name) IS NOT NULL
  AND starts_with(obj_description(to_regprocedure(name), 'pg_proc'), $2) IS NOT TRUE
"""

FIND_HYPERTABLES: Final = f"""
SELECT hypertable_name FROM timescaledb_information.hypertables
WHERE hypertable_schema = {OWN_SCHEMA}
"""


class Difference(NamedTuple):
    """The changes that the declared tables need."""

    tables: list[str]
    """Statements that create and widen the tables."""
    views: list[ViewChange]
    declaration: Declaration | None
    """The declaration in force."""


async def find_difference(
    connection: asyncpg.Connection,
    catalogue: Catalogue,
    form: Form = PLAIN,
    *,
    is_new: bool = False,
    has_declaration: bool = True,
) -> Difference:
    """Compare the declared tables with those in the database.

    Raises:
        NotAdditiveError: what is there cannot become what is declared.
    """
    views = [name for table in catalogue.tables for name in view_names(table)]
    names = [*catalogue.by_name, *catalogue.code_tables, *views]
    relations = await find_relations(connection, names)
    if is_new:
        relations |= {name: FIRST_REVISION[name] for name in FIRST_REVISION if name in names}
    hypertables: set[str] = set()
    if await connection.fetchval(KNOWS_HYPERTABLES):
        hypertables = {name for (name,) in await connection.fetch(FIND_HYPERTABLES)}
    declaration = await find_declaration(connection, catalogue) if has_declaration else None
    parts = {
        table.name: await first_parts(connection, table, names)
        for table in catalogue.tables
        if form.by_time and table.retention is not None and table.name not in relations
    }
    changes = compare(catalogue, relations, hypertables, former_columns(declaration), parts)
    refuse(changes)
    functions = [interval_function(table) for table in catalogue.tables if table.codes]
    there = {name for (name,) in await connection.fetch(FIND_FUNCTIONS, functions, OLD_FUNCTION)}
    return Difference(
        changes.statements,
        [
            change
            for table in catalogue.tables
            for change in compare_views(
                table,
                relations,
                form,
                has_function=not table.codes or interval_function(table) in there,
            )
        ],
        declaration,
    )


def former_columns(declaration: Declaration | None) -> dict[str, set[str]]:
    """Return the columns that were declared until now, by table."""
    if declaration is None:
        return {APP_LOGS: {"app_status", "ocr_value"}}
    return {
        name: {*table["columns"], *table["labels"]} for name, table in declaration["tables"].items()
    }


def refuse(changes: Changes) -> None:
    """Raise an error if something stands in the way of the declared tables.

    Raises:
        NotAdditiveError: something does.
    """
    if not changes.obstacles:
        return
    messages = [obstacle.message for obstacle in changes.obstacles]
    advice = (
        "nothing was changed: change the declaration, or run these statements and migrate again"
    )
    statements = [f"{remedy};" for obstacle in changes.obstacles for remedy in obstacle.remedy]
    raise NotAdditiveError([*messages, advice], statements)
