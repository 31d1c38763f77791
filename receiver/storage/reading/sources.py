"""Reads sources, with their labels shortened for display."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Final

from receiver.storage.connection.database import Connection, translated, used
from receiver.storage.connection.places import quote
from receiver.storage.reading.observing import LARGEST_LABELS

# A label set may be of any size, and any JSON if inserted by hand; a page may not. For one that is
# too large to be read, its size is shown. Long values keep their end, in which they often differ.
LABELS: Final = f"""
CASE WHEN pg_column_size(s.labels) > {LARGEST_LABELS}
    THEN jsonb_build_object('…', pg_size_pretty(pg_column_size(s.labels)::bigint))
WHEN jsonb_typeof(s.labels) = 'object' THEN (
    SELECT jsonb_object_agg(left(name, 100), COALESCE(CASE WHEN length(value) > 200
        THEN left(value, 100) || '…' || right(value, 99) ELSE value END, 'null'))
    FROM (SELECT * FROM jsonb_each_text(s.labels) AS label (name, value) LIMIT 20) AS label)
ELSE jsonb_build_object('…', left(s.labels::text, 200)) END
"""

LIST: Final = f"SELECT s.id, {LABELS} AS labels FROM sources s ORDER BY s.id LIMIT $1"

OF: Final = f"SELECT s.id, {LABELS} AS labels FROM sources s WHERE s.id = ANY($1::int[])"

# Sources with the labels $1, or with the id $2.
FIND_NAMED: Final = """
SELECT array_agg(id ORDER BY id) FROM sources WHERE labels @> $1::text::jsonb OR id = $2
"""
HAS_ROWS: Final = "SELECT EXISTS (SELECT FROM {table} l WHERE l.source_id = $1)"
KNOWN: Final = "SELECT EXISTS (SELECT FROM sources WHERE id = $1)"
LONGEST_ID: Final = 10
"""Number of digits from which on a name is not taken for an id."""


def read_labels(text: str | None) -> dict[str, str]:
    """Read labels as `LABELS` returns them; None is the empty label set."""
    labels: dict[str, str] = json.loads(text or "{}")
    return labels


async def first_sources(connection: Connection, limit: int) -> dict[int, dict[str, str]]:
    """Return the labels of the first sources, by id."""
    with translated():
        return {id_: read_labels(text) for id_, text in await connection.fetch(LIST, limit)}


async def labels_of(connection: Connection, ids: Collection[int]) -> dict[int, dict[str, str]]:
    """Return the labels of some sources, by id."""
    async with used(connection):
        return {id_: read_labels(text) for id_, text in await connection.fetch(OF, [*ids])}


async def is_known(connection: Connection, id_: int | None) -> bool:
    """Return whether there is a source with this id; None stands for all sources."""
    if id_ is None:
        return True
    with translated():
        return bool(await connection.fetchval(KNOWN, id_))


async def find_named(connection: Connection, name: str) -> list[int]:
    """Return the ids of the sources that a person names.

    Args:
        connection: The session.
        name: An id, NAME=VALUE of a label, or the value of the label `instance`.
    """
    label, equals, value = name.partition("=")
    labels = json.dumps({label: value} if equals else {"instance": name})
    number = int(name) if name.isascii() and name.isdigit() and len(name) < LONGEST_ID else None
    async with used(connection):
        return await connection.fetchval(FIND_NAMED, labels, number) or []


async def with_rows(connection: Connection, table: str, sources: Iterable[int]) -> list[int]:
    """Return those of a few sources that have rows in a table."""
    statement = HAS_ROWS.format(table=quote(table))
    async with used(connection):
        return [id_ for id_ in sources if await connection.fetchval(statement, id_)]
