"""The view `<table>_intervals` and the function `<table>_intervals_between`.

They show from when to when each source had which code, by the first column of codes of a table.
Functions of the database create them; one of these defines the intervals (`receiver_runs_query`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from receiver.rows.tables import Table
from receiver.storage.connection.places import literal, quote
from receiver.storage.schema.naming import unused
from receiver.storage.schema.relations import Relation
from receiver.storage.schema.table_statements import sql_type

ARGUMENTS: Final = ("since", "until", "max_gap")
"""Arguments of `<table>_intervals_between`."""

OLD_VIEW: Final = "From when to when each source had which code. An interval ends "
"""Beginning of the comment on an old view, whose intervals end with their last row."""
OLD_FUNCTION: Final = "The intervals of the rows from since to before until: one that goes beyond "
"""Beginning of the comment on an old function."""


def interval_names(table: Table, taken: set[str]) -> tuple[str, str]:
    """Return the names of the columns of a table's intervals that hold the code and its name."""
    code = table.codes[0].name
    taken |= {"source_id", "started_at", "ended_at", "rows", "ongoing"}
    return unused(taken, code), unused(taken, code, "_name")


def intervals_view(table: Table) -> Iterator[str]:
    """Write the statement that makes or replaces the view of a table's intervals."""
    column = table.codes[0]
    names = interval_names(table, set())
    yield call("view", f"{table.name}_intervals", table.name, column.name, column.codes, *names)


def intervals_function(table: Table, relation: Relation | None) -> Iterator[str]:
    """Write the statement that makes or replaces the function of a table's intervals."""
    column = table.codes[0]
    there = relation.columns.get(column.name) if relation is not None else None
    type_ = there.type if there is not None else sql_type(column)
    name = f"{table.name}_intervals_between"
    names = interval_names(table, {*ARGUMENTS})
    yield call("function", name, table.name, column.name, column.codes, *names, type_)


def call(kind: str, *arguments: str | None) -> str:
    """Write the statement that has the database make a view or a function."""
    listed = ", ".join(literal(argument or "") for argument in arguments)
    return f"SELECT receiver_make_intervals_{kind}({listed})"


def interval_function(table: Table) -> str:
    """Return the name of the function that shows the intervals of a time range, with its types."""
    return f"{quote(f'{table.name}_intervals_between')}(timestamptz, timestamptz, interval)"
