"""Writes the statements that export a range of a table to a file."""

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

# Leaves out label sets that are too large to be read. One inserted by hand may not be an object,
# and then does not even contain the empty object.
_MATCHES: Final = f"""
CASE WHEN {{0}} = '{{{{}}}}' THEN true
    WHEN pg_column_size(s.labels) <= {LARGEST_LABELS} THEN s.labels @> {{0}}::text::jsonb
    ELSE false END
"""

# NULL for label sets that are slow to read, and too large to be written anyway.
_TEXT: Final = f"""
CASE WHEN pg_column_size(s.labels) <= {LARGEST_LABELS} THEN s.labels::text END
"""

# Nobody could read a file with labels of 30 MiB in each of a million rows.
LABELS: Final = f"""
CASE WHEN octet_length(known.labels) <= {LARGEST_LABELS} THEN known.labels
    ELSE '{{"…": "too large"}}' END
"""

_KNOWN: Final = f"CROSS JOIN LATERAL (SELECT {_TEXT} AS labels OFFSET 0) AS known"
_KNOWN_DISTRIBUTED: Final = f"""
JOIN (SELECT s.id, {_TEXT} AS labels FROM sources s) AS known ON known.id = l.source_id
"""

# In index order, so that the first rows come at once.
_REST: Final = f"""
{_KNOWN}
WHERE {_MATCHES.format("$3")}
ORDER BY l.created_at, l.source_id
"""

_RANGE: Final = """
SELECT * FROM {} WHERE created_at >= $1::text::timestamptz AND created_at < $2::text::timestamptz
"""

# Microseconds since the Unix epoch; 64 bits end thirty years before TIMESTAMPTZ does, and hold no
# infinity.
_MICROSECONDS: Final = """
CASE WHEN {0} > '-infinity' AND {0} < '294247-01-01 00:00Z'
    THEN (EXTRACT(EPOCH FROM {0}) * 1000000)::bigint END
"""

COUNT_MATCHING: Final = f"""
SELECT count(*) FILTER (WHERE {_MATCHES.format("$1")}) AS matching,
    count(*) FILTER (WHERE (octet_length({_TEXT}) <= {LARGEST_LABELS}) IS NOT TRUE) AS large
FROM sources s
"""


# Always with six fractional digits, as some programs infer their number from the first row. Years
# that ISO 8601 does not have are as PostgreSQL writes them.
_ISO: Final = """
CASE WHEN {0} >= '0001-01-01 00:00Z' AND {0} < '10000-01-01 00:00Z'
    THEN to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
    ELSE ({0})::text END
"""

# A format that spreadsheets recognize as a date; NULL in years that they do not support.
_LOCAL: Final = """
CASE WHEN l.created_at >= '0001-01-03 00:00Z' AND l.created_at < '9999-12-30 00:00Z'
    THEN to_char(l.created_at AT TIME ZONE $4::text, 'YYYY-MM-DD HH24:MI:SS') END
"""


def exported_fields(table: Table) -> list[Field]:
    """Return the columns of an exported file."""
    labels = Field(unused(declared(table), "labels"), "text", LABELS, Kind.LABELS)
    return [ID, CREATED_AT, *label_fields(table), *value_fields(table), SOURCE_ID, labels]


def select_as_text(table: Table) -> str:
    """Write the statement that reads a range ($1, $2) of sources with labels ($3) for CSV.

    Times are ISO 8601 in UTC; the last columns have created_at in a time zone ($4), and its name.
    """
    fields = with_times(table, _ISO)
    taken = {field.name for field in fields}
    local = Field(unused(taken, "created_at_local"), "text", _LOCAL)
    zone = Field(unused(taken, "time_zone"), "text", "$4::text")
    return select(table, [*fields, local, zone], _RANGE.format(quote(table.name)), _REST)


def select_as_numbers(table: Table) -> str:
    """Write the same statement, with times only in microseconds since the Unix epoch."""
    fields = with_times(table, _MICROSECONDS)
    return select(table, fields, _RANGE.format(quote(table.name)), _REST)


def with_times(table: Table, written: str) -> list[Field]:
    """Return the columns of an exported file, with times written by an expression."""
    return [
        field._replace(expression=written.format(field.expression))
        if field.type == "timestamptz"
        else field
        for field in exported_fields(table)
    ]


async def for_tables(connection: Connection, statement: str) -> str:
    """Return the statement, adapted where Citus distributes the tables."""
    distributed = await is_distributed(connection)
    return statement.replace(_KNOWN, _KNOWN_DISTRIBUTED) if distributed else statement
