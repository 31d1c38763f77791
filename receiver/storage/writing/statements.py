"""The statements that write to a declared table, made from its columns.

Timestamps are sent as microseconds since 2000-01-01 UTC (see `database.prepare_connection`). All
statements that lock rows do so in the order (source_id, created_at), which keeps concurrent
transactions from deadlocking. All that look up rows bound `created_at`, in WHERE, not in the ON of
a LEFT JOIN: without that, every chunk would be planned and locked. They also name the sources, so
that only the rows of these are decompressed in a compressed chunk.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from receiver.rows.tables import Column, Table
from receiver.storage.connection.places import literal, quote
from receiver.storage.writing.distributed import find_all_rows, find_rows
from receiver.storage.writing.each import TIME

KEY_COLUMNS: Final = ("created_at", "source_id")
KEY_TYPES: Final = ("timestamptz", "int")
ANY_SOURCE: Final = "(SELECT max(id) FROM sources)"


class Statements:
    """The statements of one table.

    Args:
        table: The table.
    """

    def __init__(self, table: Table) -> None:
        self.columns = [
            *KEY_COLUMNS,
            *(column.name for column in table.columns),
            *(column.name for column in table.labels),
        ]
        """Names of the columns that are written: keys, samples, labels."""
        self.types = [
            *KEY_TYPES,
            *(column.type.sql for column in table.columns),
            *(column.type for column in table.labels),
        ]
        self._name = quote(table.name)
        self._values = [quote(column.name) for column in table.columns]
        listed = ", ".join(map(quote, self.columns))

        # For rows of which none is stored yet.
        self.copy = f"COPY {self._name} ({listed}) FROM STDIN (FORMAT binary)"
        # For rows among which some are stored already; those are left as they are.
        self.insert = f"""
INSERT INTO {self._name} ({listed})
SELECT * FROM unnest({self._arrays(1)}) AS new ({listed})
ORDER BY source_id, created_at
ON CONFLICT (source_id, created_at) DO NOTHING
RETURNING created_at, source_id
"""
        # Entries of `run_for_each` as rows, with their places from 1.
        self.read_entries = f"""(
    SELECT {self._elements()}, place
    FROM unnest($1::jsonb[]) WITH ORDINALITY AS given (entry, place)
) AS {self._name} ({listed}, place_of_entry)"""
        # For rows of which the database may refuse some; fails for those that are stored already.
        self.insert_each = f"""
INSERT INTO {self._name} ({listed})
SELECT {self._elements()}
FROM unnest($1) AS entry
ORDER BY 2, 1
"""
        # The rows of these times and sources, by one lookup for each time. They are joined by FULL
        # JOIN, which is never a nested loop: whatever the statistics of the table say, nothing is
        # read once for each row. $3 and $4 bound `created_at`, $5 are the sources, each once.
        self.find = f"""
SELECT l.* FROM unnest($1::timestamptz[], $2::int[]) AS wanted (created_at, source_id)
FULL JOIN (
    SELECT l.* FROM (SELECT DISTINCT created_at FROM unnest($1) AS wanted (created_at)) AS moment,
    LATERAL (
        SELECT {self._results()} FROM {self._name}
        WHERE created_at = moment.created_at AND created_at BETWEEN $3 AND $4
          AND source_id = ANY($5::int[])
        OFFSET 0  -- prevents the planner from flattening this subquery
    ) AS l
) AS l ON (l.source_id, l.created_at) = (wanted.source_id, wanted.created_at)
WHERE COALESCE(wanted.source_id, 0) > 0 AND COALESCE(l.source_id, 0) > 0
"""
        self.find_distributed = find_rows(table, self._results("t."))
        self.find_all_distributed = find_all_rows(table, self._results("t."))
        assigned = ", ".join(f"{name} = COALESCE(t.{name}, new.{name})" for name in self._values)
        samples = ", ".join(map(quote, self.columns[: 2 + table.width]))
        # Adds samples to rows that lack them; existing values stay. The bounds are as above.
        self.fill = f"""
UPDATE {self._name} AS t SET {assigned}
FROM unnest({self._arrays(1, 2 + table.width)}) AS new ({samples})
WHERE (t.source_id, t.created_at) = (new.source_id, new.created_at)
  AND t.created_at BETWEEN ${table.width + 3} AND ${table.width + 4}
  AND t.source_id = ANY($2)
RETURNING {self._results("t.")}
"""
        self.fill_each = f"""
UPDATE {self._name} AS t SET {assigned}
FROM (SELECT {self._elements(2 + table.width)} FROM unnest($1) AS entry) AS new ({samples})
WHERE (t.source_id, t.created_at) = (new.source_id, new.created_at)
"""
        compared = " AND ".join(
            f"{quote(name)} <> NULL::{type_}"
            for name, type_ in zip(self.columns, self.types, strict=True)
        )
        # Fails if no row could be stored; writes nothing. A column of another type may accept a
        # value by assignment and then not hold it, so it must also be comparable with one.
        self.rehearse = f"""
INSERT INTO {self._name} ({listed})
SELECT {", ".join(f"NULL::{type_}" for type_ in self.types)} WHERE false;
SELECT {self._results()} FROM {self._name} WHERE {compared} AND false
"""
        # Write a meaningless row, to be rolled back. What it refers to is read first: Citus checks
        # other rights for a statement that reads it itself, and hides why the row is refused.
        self.find_any = f"SELECT {', '.join(['now()', ANY_SOURCE, *map(any_value, table.columns)])}"
        taken = [f"${place}::{type_}" for place, type_ in enumerate(self.types, 1)]
        taken[2 + table.width :] = ["NULL"] * len(table.labels)
        self.try_out = f"INSERT INTO {self._name} ({listed}) VALUES ({', '.join(taken)})"
        # The name of the primary key: its current one, or else that of a new table.
        self.find_key = f"""
SELECT COALESCE(min(conname), {literal(table.name + "_pkey")}) FROM pg_constraint
WHERE conrelid = to_regclass({literal(self._name)}) AND contype = 'p'
"""

    def _arrays(self, first: int, number: int | None = None) -> str:
        types = self.types[:number]
        return ", ".join(f"${place}::{type_}[]" for place, type_ in enumerate(types, first))

    def _elements(self, number: int | None = None) -> str:
        """Write the elements of the JSON array `entry` as values of the columns."""
        return ", ".join(
            TIME.format(f"(entry ->> {place})")
            if type_ == "timestamptz"
            else f"(entry ->> {place})::{type_}"
            for place, type_ in enumerate(self.types[:number])
        )

    def _results(self, prefix: str = "") -> str:
        return ", ".join(prefix + name for name in (*KEY_COLUMNS, *self._values))


def any_value(column: Column) -> str:
    """Write a value that a column takes."""
    if column.codes:
        return f"(SELECT min(code) FROM {quote(column.codes)})"
    return "now()" if column.type.sql == "timestamptz" else f"'0'::{column.type.sql}"


statements_of: Final = cache(Statements)
"""Returns the statements of a table, which are made only once."""
