"""Writes the statements that read a range of a table for a file."""

from __future__ import annotations

from typing import Final

from receiver.rows.tables import Table
from receiver.storage.connection.connecting import is_distributed
from receiver.storage.connection.database import Connection
from receiver.storage.connection.places import quote
from receiver.storage.reading.observing import LARGEST_LABELS
from receiver.storage.reading.selecting import (
    CREATED_AT,
    ID,
    SOURCE_ID,
    Field,
    Kind,
    declared,
    label_fields,
    select,
    value_fields,
)
from receiver.storage.schema.naming import unused

# Not what is too large to be read. What somebody inserted may be no object, and contains not even
# the empty one.
_MATCHES: Final = f"""
CASE WHEN {{0}} = '{{{{}}}}' THEN true
    WHEN pg_column_size(s.labels) <= {LARGEST_LABELS} THEN s.labels @> {{0}}::text::jsonb
    ELSE false END
"""

# Without what would take long to be read, and then is too large to be written all the same.
_TEXT: Final = f"""
CASE WHEN pg_column_size(s.labels) <= {LARGEST_LABELS} THEN s.labels::text END
"""

# Labels of 30 MiB in each of a million rows would be no file that anybody reads.
LABELS: Final = f"""
CASE WHEN octet_length(known.labels) <= {LARGEST_LABELS} THEN known.labels
    ELSE '{{"…": "too large"}}' END
"""

_KNOWN: Final = f"CROSS JOIN LATERAL (SELECT {_TEXT} AS labels OFFSET 0) AS known"
_KNOWN_DISTRIBUTED: Final = f"""
JOIN (SELECT s.id, {_TEXT} AS labels FROM sources s) AS known ON known.id = l.source_id
"""

# In the order of an index, so that the first rows come at once.
_REST: Final = f"""
{_KNOWN}
WHERE {_MATCHES.format("$3")}
ORDER BY l.created_at, l.source_id
"""

_RANGE: Final = """
SELECT * FROM {} WHERE created_at >= $1::text::timestamptz AND created_at < $2::text::timestamptz
"""

# Microseconds since the Unix epoch; 64 bits end thirty years before TIMESTAMPTZ does.
_MICROSECONDS: Final = """
CASE WHEN {0} < '294247-01-01 00:00Z' THEN (EXTRACT(EPOCH FROM {0}) * 1000000)::bigint END
"""

COUNT_MATCHING: Final = f"""
SELECT count(*) FILTER (WHERE {_MATCHES.format("$1")}) AS matching,
    count(*) FILTER (WHERE (octet_length({_TEXT}) <= {LARGEST_LABELS}) IS NOT TRUE) AS large
FROM sources s
"""


# With all six digits of the fraction, as some programs go by those of the first row. Other years,
# which ISO 8601 does not have, are as PostgreSQL writes them.
_ISO: Final = """
CASE WHEN {0} >= '0001-01-01 00:00Z' AND {0} < '10000-01-01 00:00Z'
    THEN to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
    ELSE ({0})::text END
"""

# What spreadsheets take for a date; nothing in years that they do not know.
_LOCAL: Final = """
CASE WHEN l.created_at >= '0001-01-03 00:00Z' AND l.created_at < '9999-12-30 00:00Z'
    THEN to_char(l.created_at AT TIME ZONE $4::text, 'YYYY-MM-DD HH24:MI:SS') END
"""


def exported_fields(table: Table) -> list[Field]:
    """Return the columns of a file."""
    labels = Field(unused(declared(table), "labels"), "text", LABELS, Kind.LABELS)
    return [ID, CREATED_AT, *label_fields(table), *value_fields(table), SOURCE_ID, labels]


def select_as_text(table: Table) -> str:
    """Write the statement that reads a range ($1, $2) of sources with labels ($3) for CSV.

    Times are ISO 8601 in UTC, and at the end by the clock of a time zone ($4) as well.
    """
    fields = with_times(table, _ISO)
    taken = {field.name for field in fields}
    local = Field(unused(taken, "created_at_local"), "text", _LOCAL)
    zone = Field(unused(taken, "time_zone"), "text", "$4::text")
    return select(table, [*fields, local, zone], _RANGE.format(quote(table.name)), _REST)


def select_as_numbers(table: Table) -> str:
    """Write the same statement, with times in microseconds since the Unix epoch only."""
    fields = with_times(table, _MICROSECONDS)
    return select(table, fields, _RANGE.format(quote(table.name)), _REST)


def with_times(table: Table, written: str) -> list[Field]:
    """Return the columns of a file, with an expression for each time."""
    return [
        field._replace(expression=written.format(field.expression))
        if field.type == "timestamptz"
        else field
        for field in exported_fields(table)
    ]


async def for_tables(connection: Connection, statement: str) -> str:
    """Return the statement for the tables as they are: Citus may distribute them."""
    distributed = await is_distributed(connection)
    return statement.replace(_KNOWN, _KNOWN_DISTRIBUTED) if distributed else statement
