"""The views and functions of each table, by one template for all tables.

A view is replaced only if it lacks a declared column, shows a renamed one in its place, or has
another form. Its columns stay where they are, so that objects that depend on it are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple

from receiver.rows.tables import Table
from receiver.storage.connection.places import quote
from receiver.storage.schema.interval_views import OLD_VIEW, intervals_function, intervals_view
from receiver.storage.schema.newest_view import now_columns, now_view
from receiver.storage.schema.relations import VIEW, Relation


class ViewChange(NamedTuple):
    """The statements that create or widen a view or function, or a warning why there are none."""

    name: str
    statements: list[str]
    warning: str | None = None
    kind: Literal["VIEW", "FUNCTION"] = "VIEW"


class Form(NamedTuple):
    """The form in which tables and views are created."""

    distributed: bool = False
    """Whether Citus distributes the tables."""
    anew: bool = False
    """Whether the existing views were created in another form."""
    by_time: bool = False
    """Whether new tables with a retention are partitioned by time."""


PLAIN: Final = Form()


def view_names(table: Table) -> list[str]:
    """Return the names of a table's views."""
    return [f"{table.name}_now", *([f"{table.name}_intervals"] if table.codes else [])]


def compare_views(
    table: Table, found: Mapping[str, Relation], form: Form, *, has_function: bool
) -> Iterator[ViewChange]:
    """Compare the views of a table with the existing ones; yield the changes.

    Args:
        table: The table.
        found: The existing relations of the table and its views, by name.
        form: The form in which they are created.
        has_function: Whether its function of intervals exists.
    """
    yield from compare_now(table, found.get(f"{table.name}_now"), found.get(table.name), form)
    if table.codes:
        name = f"{table.name}_intervals"
        anew = form.anew or is_outdated(table, found.get(name), form)
        if anew:
            yield ViewChange(name, list(intervals_view(table)))
        elif found[name].kind != VIEW:
            yield in_the_way(name)
        if anew or not has_function:
            statements = list(intervals_function(table, found.get(table.name)))
            yield ViewChange(f"{name}_between", statements, kind="FUNCTION")


def is_outdated(table: Table, view: Relation | None, form: Form) -> bool:
    """Return whether the view of a table's intervals is to be created or replaced."""
    if view is None or (view.comment or "").startswith(OLD_VIEW):
        return True
    # Another column may have been the first one when it was created: that one keeps its intervals.
    column = table.codes[0]
    if view.kind != VIEW or column.name not in view.columns:
        return False
    if form.distributed:
        by_functions = {place for place, name in view.reads if not name}
        return bool(by_functions) and column.codes not in by_functions
    return misreads(table, view, column.name)


def misreads(table: Table, view: Relation, column: str) -> bool:
    """Return whether a column that a view shows was renamed in its table since.

    PostgreSQL lets the view go on reading the renamed column, which has another name there.
    """
    read = {name for place, name in view.reads if place == table.name}
    # A definition of the user's own may not read the table at all.
    return bool(read) and column not in read


def compare_now(
    table: Table, view: Relation | None, relation: Relation | None, form: Form
) -> Iterator[ViewChange]:
    """Compare the view of a table's newest rows with the existing one; yield the changes."""
    name = f"{table.name}_now"
    wanted = now_columns(table, relation, view)
    if view is None:
        statements = now_view(table, wanted, "CREATE VIEW", distributed=form.distributed)
        yield ViewChange(name, list(statements))
    elif view.kind != VIEW:
        yield in_the_way(name)
    elif form.anew or any(
        column.name not in view.columns
        or column.type != view.columns[column.name].type
        or (column.reads == column.name and misreads(table, view, column.name))
        for column in wanted
    ):
        everything = now_columns(table, relation, view, everything=True)
        known = {column.name: column for column in everything}
        kept = [known.get(column) for column in view.columns]
        if any(
            column is None or column.type != there.type
            for column, there in zip(kept, view.columns.values(), strict=True)
        ):
            yield ViewChange(name, [], f"view {name} does not show all columns: {replace_it(name)}")
        else:
            columns = [column for column in kept if column is not None]
            columns += [column for column in wanted if column.name not in view.columns]
            create = "CREATE OR REPLACE VIEW"
            statements = now_view(table, columns, create, distributed=form.distributed)
            yield ViewChange(name, list(statements))


def in_the_way(name: str) -> ViewChange:
    """Return the warning that something else has the name of a view."""
    return ViewChange(
        name, [], f"view {name} cannot be created, since something else has its name: rename that"
    )


def replace_it(name: str, kind: str = "VIEW") -> str:
    """Say how to recreate a view or function that cannot be replaced."""
    return f"run DROP {kind} {quote(name)}, then `receiver migrate`"
