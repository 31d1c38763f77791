"""The view `<table>_intervals` and the function `<table>_intervals_between`.

They show from when to when each source had which code, by the first column of codes of a table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from receiver.rows.tables import Table
from receiver.storage.connection.places import quote
from receiver.storage.schema.naming import unused
from receiver.storage.schema.relations import Relation
from receiver.storage.schema.table_statements import sql_type

ARGUMENTS: Final = ("since", "until", "max_gap")
"""Arguments of `<table>_intervals_between`."""

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
        f"COMMENT ON VIEW {name} IS 'From when to when each source had which code. An interval "
        "ends with another code, or when no row comes for more than 5 minutes.'"
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
        f"COMMENT ON FUNCTION {interval_function(table)} IS 'The intervals of the rows from since "
        "to before until: one that goes beyond is cut there. ongoing says how it was at until, or "
        "is now if until lies in the future. Conditions on source_id use the index.'"
    )


def interval_function(table: Table) -> str:
    """Return the function that shows the intervals of a range of time, with its types."""
    return f"{quote(f'{table.name}_intervals_between')}(timestamptz, timestamptz, interval)"
