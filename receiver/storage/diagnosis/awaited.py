"""Finds the declared tables that do not exist yet, which other checks leave out."""

from __future__ import annotations

from receiver.rows.tables import Catalogue
from receiver.storage.connection.database import Connection
from receiver.storage.schema.declaration import declaration_obstacle
from receiver.storage.schema.relations import find_relations
from receiver.storage.schema.table_statements import columns_of


async def find_awaited(connection: Connection, catalogue: Catalogue) -> set[str]:
    """Return the tables and code tables that the next migration creates or adds columns to.

    If the declaration is in force already, there are none: what is missing then has been removed.
    """
    there = await find_relations(connection, [*catalogue.by_name, *catalogue.code_tables])
    wanted = {name: set[str]() for name in catalogue.code_tables} | {
        table.name: {column.name for column in columns_of(table)} for table in catalogue.tables
    }
    missing = {
        name
        for name, columns in wanted.items()
        if name not in there or columns - there[name].columns.keys()
    }
    if not missing or await declaration_obstacle(connection, catalogue) is None:
        return set()
    return missing
