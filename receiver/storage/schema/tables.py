"""Finds what the declared tables lack in the database, and what stands in their way.

Nothing here deletes anything: a column that is no longer declared keeps its values and is no longer
filled. What cannot be added to an existing table is refused, with statements to choose from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from receiver.rows.tables import Catalogue, Column, LabelColumn, Table
from receiver.storage.connection.places import quote
from receiver.storage.schema.naming import unused
from receiver.storage.schema.relations import TABLES, Relation
from receiver.storage.schema.table_statements import (
    add_columns,
    columns_of,
    create,
    create_codes,
    relax,
    sql_type,
)

ROW_COLUMNS: Final = {
    "id": None,
    "created_at": "timestamp with time zone",
    "source_id": "integer",
}
"""Columns of every declared table, with the types that the receiver relies on."""
CODE_COLUMNS: Final = {"code": "integer", "name": "text", "description": "text"}
"""Columns of every table of codes that the receiver works with."""
WIDER: Final = {
    "integer": ("bigint", "numeric"),
    "bigint": ("numeric",),
    "text": ("character varying",),
}
"""Types that hold every value of another type: somebody may have changed a column to one."""
KINDS: Final = {
    "v": "a view",
    "m": "a materialized view",
    "i": "an index",
    "S": "a sequence",
    "c": "a type",
    "f": "a foreign table",
    "t": "a TOAST table",
    "I": "an index",
}


class Obstacle(NamedTuple):
    """Why a declared table cannot be created or widened."""

    message: str
    remedy: list[str]
    """Statements that a person may run."""


class Changes(NamedTuple):
    """What turns the existing tables into the declared ones."""

    statements: list[str]
    obstacles: list[Obstacle]


def compare(
    catalogue: Catalogue,
    found: Mapping[str, Relation],
    hypertables: Collection[str],
    former: Mapping[str, Collection[str]],
    parts: Mapping[str, Iterable[str]],
) -> Changes:
    """Compare the declared tables with the existing relations of their names.

    Args:
        catalogue: The declared tables.
        found: The existing relations, by name.
        hypertables: The names of tables that are hypertables.
        former: The columns that were declared until now, by table.
        parts: The statements that create the partitions of tables that are to have some, by table.
    """
    changes = Changes([], [])
    for name in catalogue.code_tables:
        if name not in found:
            changes.statements.append(create_codes(name))
        elif obstacle := misfit(name, found[name], CODE_COLUMNS, "code"):
            changes.obstacles.append(obstacle)
    for table in catalogue.tables:
        relation = found.get(table.name)
        if relation is None:
            changes.statements.extend(create(table, by_time=table.name in parts))
            changes.statements.extend(parts.get(table.name, ()))
            continue
        obstacles = list(find_obstacles(table, relation))
        changes.obstacles.extend(obstacles)
        if not obstacles:
            changes.statements.extend(
                add_columns(table, relation, hypertable=table.name in hypertables)
            )
            changes.statements.extend(relax(table, relation, former.get(table.name, ())))
    return changes


def find_obstacles(table: Table, relation: Relation) -> Iterator[Obstacle]:
    """Find what keeps an existing table from becoming the declared one."""
    if obstacle := misfit(table.name, relation, ROW_COLUMNS, "created_at,source_id"):
        yield obstacle
        return
    for column in columns_of(table):
        there = relation.columns.get(column.name)
        if there is None:
            continue
        if not holds(there.type, sql_type(column)):
            yield Obstacle(
                f"column {column.name} of table {table.name} is {there.type}, but declared as "
                f"{column.type if isinstance(column, LabelColumn) else column.type.name}",
                [rename_column(table.name, column.name, relation)],
            )
        elif isinstance(column, Column) and column.codes:
            others = [name for name in there.references if name != column.codes]
            if others and column.codes not in there.references:
                yield Obstacle(
                    f"the codes of column {column.name} of table {table.name} are in {others[0]}, "
                    f"but declared to be in {column.codes}",
                    [rename_column(table.name, column.name, relation)],
                )


def misfit(
    name: str, relation: Relation, columns: Mapping[str, str | None], key: str
) -> Obstacle | None:
    """Return why a relation cannot be a table with these columns and this key; None if it can."""
    rename = rename_table(name)
    if relation.kind not in TABLES:
        kind = KINDS.get(relation.kind, "not a table")
        return Obstacle(f"{name} is {kind}, but declared as a table", [rename])
    for column, type_ in columns.items():
        if column not in relation.columns:
            return Obstacle(
                f"table {name} is not one of the receiver's: it has no column {column}", [rename]
            )
        found = relation.columns[column].type
        if type_ is not None and not holds(found, type_):
            return Obstacle(
                f"table {name} is not one of the receiver's: its column {column} is {found}, not "
                f"{type_}",
                [rename],
            )
    if key not in relation.keys:
        names = "source_id, created_at" if "," in key else key
        return Obstacle(
            f"table {name} has no unique index on ({names})",
            [f"ALTER TABLE {quote(name)} ADD PRIMARY KEY ({names})"],
        )
    return None


def holds(found: str, declared: str) -> bool:
    """Return whether a column of one type holds all values of another."""
    return found == declared or found in WIDER.get(declared, ())


def rename_table(name: str) -> str:
    """Write the statement that renames a table, which keeps its rows."""
    return f"ALTER TABLE {quote(name)} RENAME TO {quote(unused({name}, name, '_old'))}"


def rename_column(table: str, column: str, relation: Relation) -> str:
    """Write the statement that renames a column, which keeps its values."""
    new = unused({*relation.columns}, column, "_old")
    return f"ALTER TABLE {quote(table)} RENAME COLUMN {quote(column)} TO {quote(new)}"
