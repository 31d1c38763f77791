"""The views and functions that belong to each table, by one template for all tables.

A view is replaced only where it lacks a declared column, with what it has in its place, so that what
others have built on it stays; docs/queries.md shows the views at work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from receiver.rows.tables import Column, LabelColumn, Table
from receiver.storage.connection.places import quote
from receiver.storage.schema.relations import VIEW, Relation
from receiver.storage.schema.tables import LONGEST, cut, sql_type

ARGUMENTS: Final = ("since", "until", "max_gap")
"""Arguments of `<table>_intervals_between`."""


class ViewColumn(NamedTuple):
    """A column of a view."""

    name: str
    type: str
    expression: str
    reads: str | None = None
    """The column of the table that it shows."""


class ViewChange(NamedTuple):
    """What makes or widens a view, or why nothing does."""

    name: str
    statements: list[str]
    warning: str | None = None


def view_names(table: Table) -> list[str]:
    """Return the names of a table's views."""
    return [f"{table.name}_now", *([f"{table.name}_intervals"] if table.codes else [])]


def interval_function(table: Table) -> str:
    """Return the function that shows the intervals of a range of time, with its types."""
    return f"{quote(f'{table.name}_intervals_between')}(timestamptz, timestamptz, interval)"


def compare_views(
    table: Table, found: Mapping[str, Relation], *, has_function: bool
) -> Iterator[ViewChange]:
    """Compare the views of a table with what is there.

    Args:
        table: The table.
        found: What is there of it and its views, by name.
        has_function: Whether its function of intervals is there.
    """
    yield from compare_now(table, found.get(f"{table.name}_now"), found.get(table.name))
    if table.codes:
        name = f"{table.name}_intervals"
        if name not in found:
            yield ViewChange(name, list(intervals_view(table)))
        elif found[name].kind != VIEW:
            yield in_the_way(name)
        if not has_function:
            yield ViewChange(
                f"{name}_between", list(intervals_function(table, found.get(table.name)))
            )


def compare_now(
    table: Table, view: Relation | None, relation: Relation | None
) -> Iterator[ViewChange]:
    """Compare the view of a table's newest rows with what is there."""
    name = f"{table.name}_now"
    wanted = now_columns(table, relation)
    if view is None:
        yield ViewChange(name, list(now_view(table, wanted, "CREATE VIEW")))
    elif view.kind != VIEW:
        yield in_the_way(name)
    elif any(column.name not in view.columns for column in wanted):
        known = {column.name: column for column in now_columns(table, relation, everything=True)}
        kept = [known.get(column) for column in view.columns]
        if any(
            column is None or column.type != there.type
            for column, there in zip(kept, view.columns.values(), strict=True)
        ):
            yield ViewChange(name, [], f"view {name} stays without new columns: {replace_it(name)}")
        else:
            columns = [column for column in kept if column is not None]
            columns += [column for column in wanted if column.name not in view.columns]
            yield ViewChange(name, list(now_view(table, columns, "CREATE OR REPLACE VIEW")))


def in_the_way(name: str) -> ViewChange:
    """Say that something else has the name of a view."""
    return ViewChange(
        name, [], f"there is no view {name}, for something else has this name: rename that"
    )


def replace_it(name: str) -> str:
    """Say how a view is made anew that cannot be replaced."""
    return f"run DROP VIEW {quote(name)}, then `receiver migrate`"


# --- the newest row of each source ----------------------------------------------------------------


def now_columns(
    table: Table, relation: Relation | None, *, everything: bool = False
) -> list[ViewColumn]:
    """List the columns of `<table>_now`.

    Args:
        table: The table.
        relation: What is there of it.
        everything: Whether to list those of columns that are not declared (any more) as well.
    """
    there = relation.columns if relation is not None else {}
    columns: list[Column | LabelColumn] = [*table.labels, *table.columns]
    types = {column.name: sql_type(column) for column in columns}
    types.update({name: column.type for name, column in there.items()})
    codes = {column.name: column.codes for column in table.codes if column.codes}
    if everything:
        others = {name: column for name, column in there.items() if name != "source_id"}
        codes = {
            name: column.references[0] for name, column in others.items() if column.references
        } | codes
    names = list(types) if everything else [column.name for column in columns]
    taken = {*types, "source_id", "created_at"}
    listed = [
        ViewColumn("source_id", "integer", "s.id"),
        ViewColumn(unused(taken, "labels"), "jsonb", "s.labels"),
        ViewColumn("created_at", "timestamp with time zone", "newest.created_at"),
        ViewColumn(unused(taken, "age"), "interval", "now() - newest.created_at"),
    ]
    for name in names:
        if name in {"source_id", "created_at"}:
            continue
        listed.append(ViewColumn(name, types[name], f"newest.{quote(name)}", name))
        if name in codes:
            for said in ("name", "description"):
                listed.append(
                    ViewColumn(
                        unused(taken, name, f"_{said}"), "text", look_up(name, codes, said), name
                    )
                )
    return listed


def look_up(column: str, codes: Mapping[str, str], said: str) -> str:
    """Write what a table of codes says of a column."""
    table = quote(codes[column])
    return f"(SELECT e.{said}::text FROM {table} e WHERE e.code = newest.{quote(column)})"


def unused(taken: set[str], name: str, suffix: str = "") -> str:
    """Return a name that no other column has, and take it."""
    number = 1
    while True:
        ending = suffix if number == 1 else f"{suffix}_{number}"
        new = cut(name, LONGEST - len(ending)) + ending
        if new not in taken:
            taken.add(new)
            return new
        number += 1


def now_view(table: Table, columns: list[ViewColumn], create: str) -> Iterator[str]:
    """Write the statements that make the view of a table's newest rows."""
    name = quote(f"{table.name}_now")
    # First the last days, so that of a hypertable only their chunks are looked into for a source
    # that is not silent.
    read = dict.fromkeys(column.reads for column in columns if column.reads)
    listed = ",\n    ".join(f"{column.expression} AS {quote(column.name)}" for column in columns)
    yield f"""{create} {name} AS
SELECT {listed}
FROM sources s
CROSS JOIN LATERAL (
    (
        {newest_row(table.name, read, " AND l.created_at > now() - INTERVAL '7 days'")}
    ) UNION ALL (
        {newest_row(table.name, read)}
    ) LIMIT 1
) AS newest"""
    yield (
        f"COMMENT ON VIEW {name} IS 'The newest row of each source. Rows that lie in the future do "
        "not count.'"
    )


def newest_row(table: str, columns: Iterable[str], condition: str = "") -> str:
    """Write the query for the newest row of a source.

    It has no `=`, which would make the order by source_id void: then the planner may read the index
    on created_at backwards, past the rows of all others.
    """
    listed = ", ".join(f"l.{quote(column)}" for column in ("created_at", *columns))
    return f"""SELECT {listed} FROM {quote(table)} l
        WHERE l.source_id >= s.id AND l.source_id <= s.id AND l.created_at <= now(){condition}
        ORDER BY l.source_id DESC, l.created_at DESC LIMIT 1"""


# --- from when to when each source was in which state ----------------------------------------------

# {max_gap} and {until} are expressions, {where} bounds the rows, {code} is the column.
INTERVALS: Final = """WITH neighbours AS (
    SELECT l.source_id, l.created_at, l.{code} AS code,
        row_number() OVER by_time AS place,
        (lag(l.{code}) OVER by_time = l.{code}
            AND lag(l.created_at) OVER by_time >= l.created_at - {max_gap}) IS NOT TRUE AS starts,
        (lead(l.{code}) OVER by_time = l.{code}
            AND lead(l.created_at) OVER by_time <= l.created_at + {max_gap}) IS NOT TRUE AS ends,
        (lead(l.created_at) OVER by_time <= now()) IS NOT TRUE AS newest
    FROM {table} l
    WHERE {where}
    WINDOW by_time AS (PARTITION BY l.source_id ORDER BY l.created_at)
), intervals AS (
    -- Of each interval its first and its last row are left, or the one that is both.
    SELECT n.source_id, n.code, n.created_at AS started_at, n.starts,
        CASE WHEN ends THEN n.created_at ELSE lead(n.created_at) OVER by_time END AS ended_at,
        CASE WHEN ends THEN 1 ELSE lead(n.place) OVER by_time - n.place + 1 END AS rows,
        CASE WHEN ends THEN n.newest ELSE lead(n.newest) OVER by_time END AS newest
    FROM neighbours n
    WHERE n.starts OR n.ends
    WINDOW by_time AS (PARTITION BY n.source_id ORDER BY n.created_at)
)
SELECT i.source_id, i.code{as_code}, e.name::text{as_name}, i.started_at, i.ended_at, i.rows,
    i.newest AND i.started_at <= now() AND i.ended_at >= {until} - {max_gap}{as_ongoing}
FROM intervals i
LEFT JOIN {codes} e ON e.code = i.code
WHERE i.starts"""


def interval_names(table: Table, taken: set[str]) -> list[str]:
    """Name the columns of a table's intervals: source, code, name, times, rows, ongoing."""
    code = table.codes[0].name
    fixed = ["started_at", "ended_at", "rows", "ongoing"]
    taken |= {"source_id", *fixed}
    return ["source_id", unused(taken, code), unused(taken, code, "_name"), *fixed]


def intervals_view(table: Table) -> Iterator[str]:
    """Write the statements that make the view of a table's intervals."""
    column = table.codes[0]
    name = quote(f"{table.name}_intervals")
    _, code, code_name, *_ = interval_names(table, set())
    query = INTERVALS.format(
        table=quote(table.name),
        code=quote(column.name),
        codes=quote(column.codes or ""),
        as_code=f" AS {quote(code)}",
        as_name=f" AS {quote(code_name)}",
        as_ongoing=" AS ongoing",
        max_gap="INTERVAL '5 minutes'",
        until="now()",
        where=f"l.{quote(column.name)} IS NOT NULL",
    )
    yield f"CREATE VIEW {name} AS\n{query}"
    yield (
        f"COMMENT ON VIEW {name} IS 'From when to when each source had which code. An interval ends "
        "with another code, or when no row comes for more than 5 minutes.'"
    )


def intervals_function(table: Table, relation: Relation | None) -> Iterator[str]:
    """Write the statements that make the function of a table's intervals."""
    column = table.codes[0]
    there = relation.columns.get(column.name) if relation is not None else None
    type_ = there.type if there is not None else sql_type(column)
    function = quote(f"{table.name}_intervals_between")
    _, code, code_name, *_ = interval_names(table, {*ARGUMENTS})
    since, until, max_gap = (f"{function}.{argument}" for argument in ARGUMENTS)
    query = INTERVALS.format(
        table=quote(table.name),
        code=quote(column.name),
        codes=quote(column.codes or ""),
        as_code="",
        as_name="",
        as_ongoing="",
        max_gap=max_gap,
        until=f"least({until}, now())",
        where=f"l.{quote(column.name)} IS NOT NULL\n"
        f"        AND l.created_at >= {since} AND l.created_at < {until}",
    )
    yield f"""CREATE FUNCTION {function}(
    since TIMESTAMPTZ, until TIMESTAMPTZ DEFAULT 'infinity', max_gap INTERVAL DEFAULT '5 minutes'
) RETURNS TABLE (
    source_id INT, {quote(code)} {type_}, {quote(code_name)} TEXT, started_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ, rows BIGINT, ongoing BOOLEAN
)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    {query};
END"""
    yield (
        f"COMMENT ON FUNCTION {interval_function(table)} IS 'The intervals of the rows from since to "
        "before until: one that goes beyond is cut there. ongoing says how it was at until, or is "
        "now if until lies in the future. Conditions on source_id use the index.'"
    )
