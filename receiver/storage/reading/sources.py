"""The sources: how their labels are shown, and the newest row of each."""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from receiver.storage.connection.database import Connection, translated
from receiver.storage.reading.observing import LARGEST_LABELS

# A label set may be of any size, and any JSON if somebody inserted it; a page may not. Of one that
# is too large to be read, its size is shown.
LABELS: Final = f"""
CASE WHEN pg_column_size(s.labels) > {LARGEST_LABELS}
    THEN jsonb_build_object('…', pg_size_pretty(pg_column_size(s.labels)::bigint))
WHEN jsonb_typeof(s.labels) = 'object' THEN (
    SELECT jsonb_object_agg(left(name, 100), COALESCE(left(value, 200), 'null'))
    FROM (SELECT * FROM jsonb_each_text(s.labels) AS label (name, value) LIMIT 20) AS label)
ELSE jsonb_build_object('…', left(s.labels::text, 200)) END
"""

# A page of sources, by id, with the newest row of each and how many it has of the last minute.
# LATERAL with LIMIT: once for each source of the page, not for all there are.
NEWEST: Final = f"""
SELECT s.id, {LABELS} AS labels, newest.created_at,
    EXTRACT(EPOCH FROM newest.age)::double precision AS age,
    newest.app_status, left(newest.error_name, 500) AS error_name,
    left(newest.description, 500) AS description, newest.ocr_value, minute.rows
FROM (SELECT id, labels FROM sources WHERE id > $1 ORDER BY id LIMIT $2) AS s
LEFT JOIN LATERAL (
    SELECT * FROM app_status_now n WHERE n.source_id = s.id LIMIT 1
) AS newest ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS rows FROM (
        SELECT FROM app_logs l
        WHERE l.source_id = s.id
          AND l.created_at > now() - INTERVAL '1 minute' AND l.created_at <= now()
        LIMIT 10000
    ) AS logs
) AS minute
ORDER BY s.id
"""

LIST: Final = f"SELECT s.id, {LABELS} AS labels FROM sources s ORDER BY s.id LIMIT $1"


class Source(NamedTuple):
    """A source, and what it last sent; without any row, the rest is None."""

    id: int
    labels: dict[str, str]
    created_at: str | None
    age: float | None
    """Seconds."""
    app_status: int | None
    error_name: str | None
    description: str | None
    ocr_value: str | None
    rows: int
    """In the last minute."""


def read_labels(text: str | None) -> dict[str, str]:
    """Labels as `LABELS` gives them, None for the empty set."""
    labels: dict[str, str] = json.loads(text or "{}")
    return labels


async def newest(connection: Connection, after: int, limit: int) -> list[Source]:
    """The sources whose ids come after one, with their newest rows."""
    with translated():
        rows = await connection.fetch(NEWEST, after, limit)
    return [Source(**{**row, "labels": read_labels(row["labels"])}) for row in rows]


async def first_sources(connection: Connection, limit: int) -> dict[int, dict[str, str]]:
    """The labels of the first sources, by id."""
    with translated():
        return {id_: read_labels(text) for id_, text in await connection.fetch(LIST, limit)}
