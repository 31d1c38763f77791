"""Writes the statement that reads the samples of series."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Final

from receiver.protocol.queries import Query
from receiver.rows.tables import Column, Table
from receiver.storage.connection.places import quote
from receiver.storage.reading.series import Place, StoredSeries
from receiver.storage.reading.series_values import Form, form_of, write_value

AT_ONCE: Final = 1_000
"""Maximum number of series that one statement reads."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND: Final = timedelta(milliseconds=1)
FIRST: Final = (datetime.min.replace(tzinfo=UTC) - EPOCH) // MILLISECOND
LAST: Final = (datetime.max.replace(tzinfo=UTC) - EPOCH) // MILLISECOND
"""The first and the last time that can be written as text; PostgreSQL has others beyond them."""

# Reads by the primary key, whatever the statistics say: `=` would make the order by source_id
# redundant, and then the planner might read the rows of all sources by the other index for each.
_BRANCH: Final = """
SELECT source_id, created_at, {value} AS value FROM {table}
WHERE source_id >= wanted.{source} AND source_id <= wanted.{source}
    AND created_at >= '{start}' AND created_at < '{end}' AND {column} IS NOT NULL
ORDER BY source_id, created_at {limit}
"""
_SEVERAL: Final = "SELECT * FROM ({}) AS several ORDER BY created_at {}"
_STATEMENT: Final = """
SELECT wanted.place::int, samples.created_at, samples.value
FROM unnest({sources}) WITH ORDINALITY AS wanted ({names}, place)
CROSS JOIN LATERAL ({branches}) AS samples
"""


# The same for tables that Citus distributes.
_BRANCH_DISTRIBUTED: Final = """
SELECT wanted.place, samples.created_at, samples.value
FROM source_keys k
JOIN unnest({source}) WITH ORDINALITY AS wanted (id, place) ON wanted.id = k.id
JOIN LATERAL (
    SELECT source_id, created_at, {value} AS value FROM {table}
    WHERE source_id >= k.id AND source_id <= k.id
        AND created_at >= '{start}' AND created_at < '{end}' AND {column} IS NOT NULL
    ORDER BY source_id, created_at {limit}
) AS samples ON samples.source_id = k.id
WHERE k.id = ANY({source})
"""
_DISTRIBUTED: Final = """
SELECT {distinct} place::int, created_at, value FROM ({branches}) AS samples
ORDER BY place, created_at
"""


def batches(series: Sequence[StoredSeries]) -> Iterator[tuple[int, Sequence[StoredSeries]]]:
    """Yield groups of series that one statement can read, each with the index of its first."""
    begin = 0
    for _, group in groupby(series, key=columns_of):
        end = begin + sum(1 for _ in group)
        for place in range(begin, end, AT_ONCE):
            yield place, series[place : min(place + AT_ONCE, end)]
        begin = end


def columns_of(series: StoredSeries) -> list[tuple[Table, Column]]:
    """Return the columns that hold the samples of a series."""
    return [(table, column) for table, column, _ in series.places]


def select_samples(
    series: Sequence[StoredSeries], query: Query, *, distributed: bool = False
) -> str:
    """Write a statement that reads the samples of series in order.

    Each result row has the place of a series, counted from 1, and the time and value of a sample,
    in the form of its column. Times are those of the query's range, and more where the ends of the
    range cannot be written as text.

    Args:
        series: All in the same columns; at least one.
        query: Which samples are wanted.
        distributed: Whether Citus distributes the tables.
    """
    limit = "LIMIT 1" if query.labels_only else ""
    places = list(zip(*(one.places for one in series), strict=True))
    form = form_of(place.column for place in series[0].places)
    if distributed:
        parts = [
            write_branch(
                *(of_column[0], form, write_sources(of_column), query, limit), _BRANCH_DISTRIBUTED
            )
            for of_column in places
        ]
        return _DISTRIBUTED.format(
            distinct="DISTINCT ON (place)" if limit else "", branches=" UNION ALL ".join(parts)
        )
    names = [f"source_{number}" for number in range(len(places))]
    branches = [
        write_branch(of_column[0], form, name, query, limit)
        for name, of_column in zip(names, places, strict=True)
    ]
    return _STATEMENT.format(
        sources=", ".join(map(write_sources, places)),
        names=", ".join(names),
        branches=merge(branches, limit),
    )


def write_sources(places: Sequence[Place]) -> str:
    """Write the ids of sources as an array."""
    return f"ARRAY[{','.join(str(place.source_id) for place in places)}]::int[]"


def write_branch(  # noqa: PLR0913, PLR0917  what differs between branches
    place: Place, form: Form, source: str, query: Query, limit: str, branch: str = _BRANCH
) -> str:
    """Write the query for the samples of one column."""
    return branch.format(
        value=write_value(place.column, form),
        table=quote(place.table.name),
        source=source,
        column=quote(place.column.name),
        start=write_start(query.start),
        end=write_end(query.end + 1),
        limit=limit,
    )


def merge(branches: Sequence[str], limit: str) -> str:
    """Write a query for the samples of several columns, in order."""
    if len(branches) == 1:
        return branches[0]
    return _SEVERAL.format(" UNION ALL ".join(f"({branch})" for branch in branches), limit)


def write_start(milliseconds: int) -> str:
    """Write the start of a range (milliseconds since the Unix epoch), or an earlier time."""
    return "-infinity" if milliseconds < FIRST else write_time(min(milliseconds, LAST))


def write_end(milliseconds: int) -> str:
    """Write the end of a range (milliseconds since the Unix epoch), or a later time."""
    return "infinity" if milliseconds > LAST else write_time(max(milliseconds, FIRST))


def write_time(milliseconds: int) -> str:
    """Write a time in milliseconds since the Unix epoch."""
    return (EPOCH + milliseconds * MILLISECOND).isoformat()
