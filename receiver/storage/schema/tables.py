"""Creates and widens the declared tables: what they lack, and what stands in the way.

Nothing here deletes anything: a column that is not declared any more keeps what it has and is not
filled any longer. What cannot be added to what is there is refused, with statements to choose from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final, NamedTuple

from receiver.rows.tables import Catalogue, Column, LabelColumn, Table
from receiver.storage.connection.places import quote, literal
from receiver.storage.schema.relations import TABLES, FoundColumn, Relation

OWN_COLUMNS: Final = {
    "id": None,
    "created_at": "timestamp with time zone",
    "source_id": "integer",
}
"""Columns of every declared table, with the types that the receiver goes by."""
CODE_COLUMNS: Final = {"code": "integer", "name": "text", "description": "text"}
"""Columns of every table of codes that the receiver works with."""
LONG_NAMES: Final = {"timestamptz": "timestamp with time zone"}
"""What PostgreSQL calls a type, where a column type has a shorter name."""
WIDER: Final = {
    "integer": ("bigint", "numeric"),
    "bigint": ("numeric",),
    "text": ("character varying",),
}
"""Types that hold every value of another, so that a person may have changed a column to them."""
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
LONGEST: Final = 63
"""Bytes of a name in PostgreSQL."""


class Obstacle(NamedTuple):
    """Why a declared table cannot be created or widened."""

    message: str
    remedy: list[str]
    """Statements that a person may run."""


class Changes(NamedTuple):
    """What makes tables of a declaration of those that are there."""

    statements: list[str]
    obstacles: list[Obstacle]


def compare(
    catalogue: Catalogue,
    found: Mapping[str, Relation],
    hypertables: Collection[str],
    former: Mapping[str, Collection[str]],
) -> Changes:
    """Compare the declared tables with what is there under their names.

    Args:
        catalogue: The declared tables.
        found: What is there, by name.
        hypertables: Those of the tables that are hypertables.
        former: The columns that were declared until now, by table.
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
            changes.statements.extend(create(table))
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
    """Find what keeps a table that is there from being the declared one."""
    if obstacle := misfit(table.name, relation, OWN_COLUMNS, "created_at,source_id"):
        yield obstacle
        return
    for column in (*table.labels, *table.columns):
        there = relation.columns.get(column.name)
        if there is None:
            continue
        if not holds(there.type, sql_type(column)):
            yield Obstacle(
                f"column {column.name} of table {table.name} is {there.type}, and declared as "
                f"{column.type if isinstance(column, LabelColumn) else column.type.name}",
                [rename_column(table.name, column.name, relation)],
            )
        elif isinstance(column, Column) and column.codes:
            others = [name for name in there.references if name != column.codes]
            if others and column.codes not in there.references:
                yield Obstacle(
                    f"the codes of column {column.name} of table {table.name} are in {others[0]}, "
                    f"and declared to be in {column.codes}",
                    [rename_column(table.name, column.name, relation)],
                )


def misfit(
    name: str, relation: Relation, columns: Mapping[str, str | None], key: str
) -> Obstacle | None:
    """Say why a relation cannot be used as a table with these columns and this key."""
    rename = f"ALTER TABLE {quote(name)} RENAME TO {quote(unused(name, ()))}"
    if relation.kind not in TABLES:
        kind = KINDS.get(relation.kind, "no table")
        return Obstacle(f"{name} is {kind}, and declared as a table", [rename])
    for column, type_ in columns.items():
        if column not in relation.columns:
            return Obstacle(
                f"table {name} is none of the receiver's: it has no column {column}", [rename]
            )
        found = relation.columns[column].type
        if type_ is not None and not holds(found, type_):
            return Obstacle(
                f"table {name} is none of the receiver's: its column {column} is {found}, not "
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


def sql_type(column: Column | LabelColumn) -> str:
    """Return what PostgreSQL calls the type of a column."""
    name = column.type if isinstance(column, LabelColumn) else column.type.sql
    return LONG_NAMES.get(name, name)


def rename_column(table: str, column: str, relation: Relation) -> str:
    """Write a statement that keeps what a column has under another name."""
    new = unused(column, relation.columns)
    return f"ALTER TABLE {quote(table)} RENAME COLUMN {quote(column)} TO {quote(new)}"


def unused(name: str, taken: Mapping[str, FoundColumn] | tuple[str, ...]) -> str:
    """Return a name that nothing has yet, made of one that something has."""
    number = 1
    while (new := f"{cut(name, LONGEST - 8)}_old{number if number > 1 else ''}") in taken:
        number += 1
    return new


def cut(name: str, size: int) -> str:
    """Return as much of a name as has at most `size` bytes."""
    return name.encode()[:size].decode(errors="ignore")


# --- statements -----------------------------------------------------------------------------------


def create_codes(name: str) -> str:
    """Write the statement that creates a table of codes."""
    return f"""CREATE TABLE {quote(name)} (
    code INT PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT,
    created_at TIMESTAMPTZ DEFAULT now()
)"""


def create(table: Table) -> Iterator[str]:
    """Write the statements that create a table."""
    columns = "".join(f"    {define(column)},\n" for column in (*table.labels, *table.columns))
    yield f"""CREATE TABLE {quote(table.name)} (
    id BIGINT GENERATED BY DEFAULT AS IDENTITY,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
{columns}    source_id INT NOT NULL REFERENCES sources (id),
    PRIMARY KEY (source_id, created_at)
)"""
    index = quote(f"{table.name}_created_at_idx")
    yield f"CREATE INDEX {index} ON {quote(table.name)} (created_at DESC)"
    yield from comment(table, table.labels, table.columns)


def define(column: Column | LabelColumn) -> str:
    """Define a column of a new table."""
    required = isinstance(column, Column) and column.required
    return f"{define_nullable(column)}{' NOT NULL' if required else ''}{refer(column)}"


def define_nullable(column: Column | LabelColumn) -> str:
    """Define a column that may be NULL, without what it refers to."""
    return f"{quote(column.name)} {sql_type(column)}"


def refer(column: Column | LabelColumn) -> str:
    """Say to which table a column of codes refers."""
    if isinstance(column, LabelColumn) or column.codes is None:
        return ""
    return f" REFERENCES {quote(column.codes)} (code) ON UPDATE CASCADE"


def comment(
    table: Table, labels: tuple[LabelColumn, ...], columns: tuple[Column, ...]
) -> Iterator[str]:
    """Write the statements that describe a table and its columns."""
    name = quote(table.name)
    texts = {column.name: f"Label {column.label} of the source." for column in labels}
    texts |= {column.name: f"Metric {column.metric}." for column in columns}
    yield f"COMMENT ON TABLE {name} IS 'One row for each source and time of its samples.'"
    yield f"COMMENT ON COLUMN {name}.created_at IS 'The timestamp of the samples, not their arrival.'"
    for column, text in texts.items():
        yield f"COMMENT ON COLUMN {name}.{quote(column)} IS {literal(text)}"


def add_columns(table: Table, relation: Relation, *, hypertable: bool) -> Iterator[str]:
    """Write the statements that give a table the columns that it lacks."""
    name = quote(table.name)
    for column in (*table.labels, *table.columns):
        if column.name in relation.columns:
            continue
        reference = refer(column)
        if hypertable and reference:
            # TimescaleDB adds no column with a constraint where chunks are compressed. All values
            # are NULL yet: to look at each would lock the table for as long as that takes.
            yield f"ALTER TABLE {name} ADD COLUMN {define_nullable(column)}"
            yield (
                f"ALTER TABLE {name} ADD FOREIGN KEY ({quote(column.name)}){reference} NOT VALID"
            )
        else:
            yield f"ALTER TABLE {name} ADD COLUMN {define_nullable(column)}{reference}"


def relax(table: Table, relation: Relation, former: Collection[str]) -> Iterator[str]:
    """Write the statements that have a table take rows without what is not required of them."""
    required = {column.name for column in table.columns if column.required}
    declared = {column.name for column in (*table.labels, *table.columns)}
    for name, column in relation.columns.items():
        if name in OWN_COLUMNS or name in required or not column.mandatory:
            continue
        # A column that nobody has declared may be filled by a trigger.
        if not relation.filled or name in declared or name in former:
            yield f"ALTER TABLE {quote(table.name)} ALTER COLUMN {quote(name)} DROP NOT NULL"
