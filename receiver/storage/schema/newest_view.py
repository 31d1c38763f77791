"""The view `<table>_now`: the newest row of each source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from receiver.rows.tables import Table
from receiver.storage.connection.places import literal, quote
from receiver.storage.schema.naming import unused
from receiver.storage.schema.relations import Relation
from receiver.storage.schema.table_statements import columns_of, sql_type


class ViewColumn(NamedTuple):
    """A column of a view."""

    name: str
    type: str
    expression: str
    reads: str | None = None
    """The column of the table that it shows."""


def now_columns(
    table: Table,
    relation: Relation | None,
    view: Relation | None = None,
    *,
    everything: bool = False,
) -> list[ViewColumn]:
    """List the columns of `<table>_now`.

    Columns of the table keep their names; other columns of the view get another name on a conflict,
    unless the view has them already.

    Args:
        table: The table.
        relation: The existing table; None: there is none.
        view: The existing view; None: there is none.
        everything: Whether to also list columns that are not declared, or no longer declared.
    """
    # No column of a table has one of these types.
    own = {column.type: name for name, column in view.columns.items()} if view is not None else {}
    declared = {column.name: sql_type(column) for column in columns_of(table)}
    there = {
        name: column
        for name, column in (relation.columns if relation is not None else {}).items()
        if name not in {"source_id", "created_at"}
    }
    types = declared | {name: column.type for name, column in there.items()}
    codes = {name: column.references[0] for name, column in there.items() if column.references}
    codes |= {column.name: column.codes for column in table.codes if column.codes}
    taken = {*types, "source_id", "created_at"}
    labels = own.get("jsonb") or unused(taken, "labels")
    age = own.get("interval") or unused(taken, "age")
    listed = [
        ViewColumn("source_id", "integer", "s.id"),
        ViewColumn(labels, "jsonb", "s.labels"),
        ViewColumn("created_at", "timestamp with time zone", "newest.created_at"),
        ViewColumn(age, "interval", "now() - newest.created_at"),
    ]
    for name, type_ in types.items():
        shown = unused(taken, name) if name in {labels, age} else name
        columns = [ViewColumn(shown, type_, f"newest.{quote(name)}", name)]
        if name in codes:
            columns += [
                ViewColumn(
                    unused(taken, name, f"_{said}"), "text", look_up(name, codes[name], said), name
                )
                for said in ("name", "description")
            ]
        if everything or name in declared:
            listed += columns
    return listed


def look_up(column: str, codes: str, said: str) -> str:
    """Write the expression for the name or the description of a column's code."""
    return f"(SELECT e.{said}::text FROM {quote(codes)} e WHERE e.code = newest.{quote(column)})"


def now_view(
    table: Table, columns: list[ViewColumn], create: str, *, distributed: bool = False
) -> Iterator[str]:
    """Write the statements that make the view of a table's newest rows.

    Args:
        table: The table.
        columns: The columns of the view.
        create: How the first statement begins.
        distributed: Whether Citus distributes the table.
    """
    name = quote(f"{table.name}_now")
    read = dict.fromkeys(column.reads for column in columns if column.reads)
    listed = ",\n    ".join(f"{column.expression} AS {quote(column.name)}" for column in columns)
    if distributed:
        # source_keys is distributed as the rows are, so that other tables can be joined with the
        # view on their nodes; inside, `=` would have the effect that `OWN` describes.
        yield f"""{create} {name} AS
SELECT {listed.replace("s.id", "k.id", 1)}
FROM source_keys k JOIN sources s ON s.id = k.id
JOIN LATERAL (
    {newest_row(table.name, ("source_id", *read), OWN.format("k.id"))}
) AS newest ON newest.source_id = k.id"""
    else:
        own = OWN.format("s.id")
        # The last days come first: for a source that is not silent, only their chunks of a
        # hypertable are read.
        yield f"""{create} {name} AS
SELECT {listed}
FROM sources s
CROSS JOIN LATERAL (
    (
        {newest_row(table.name, read, f"{own} AND l.created_at > now() - INTERVAL '7 days'")}
    ) UNION ALL (
        {newest_row(table.name, read, own)}
    ) LIMIT 1
) AS newest"""
    yield (
        f"COMMENT ON VIEW {name} IS 'The newest row of each source. Rows that lie in the future do "
        "not count.'"
    )
    yield grant_to_readers(table.name, f"{table.name}_now")


def grant_to_readers(table: str, view: str) -> str:
    """Write the statement that lets the roles read a view that may read its table."""
    return f"""DO $grant$
DECLARE
    reader TEXT;
BEGIN
    FOR reader IN
        SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
        FROM pg_class, aclexplode(relacl)
        WHERE oid = {literal(quote(table))}::regclass AND privilege_type = 'SELECT'
          AND grantee <> relowner
    LOOP
        EXECUTE format('GRANT SELECT ON %I TO %s', {literal(view)}, reader);
    END LOOP;
END;
$grant$"""


OWN: Final = "l.source_id >= {0} AND l.source_id <= {0}"
"""The condition on the rows of one source, given its id.

It is not `=`, which would make the order by source_id redundant: then the planner may read the
index on created_at backwards, past the rows of all other sources."""


def newest_row(table: str, columns: Iterable[str], condition: str) -> str:
    """Write the query for the newest row that meets a condition."""
    listed = ", ".join(f"l.{quote(column)}" for column in ("created_at", *columns))
    return f"""SELECT {listed} FROM {quote(table)} l
        WHERE {condition} AND l.created_at <= now()
        ORDER BY l.source_id DESC, l.created_at DESC LIMIT 1"""
