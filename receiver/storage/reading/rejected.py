"""Reads rejected samples page by page, newest first."""

from __future__ import annotations

from typing import Final, NamedTuple

from receiver.storage.connection.database import Connection, translated
from receiver.storage.reading.sources import LABELS, read_labels

LOOKED_AT: Final = 20_000
"""Samples that are searched for one page of those for one table: table names have no index."""

# Ids grow with time, so no index on the time is needed.
_LOOKED_AT: Final = "SELECT * FROM rejected_samples WHERE id < $1 ORDER BY id DESC LIMIT $2"

# At most $3 of the searched samples, for the table $4 if that is not NULL.
_REJECTED: Final = f"""
SELECT s.id, s.rejected_at, s.source_id, {LABELS} AS labels, s.metric, s.table_name,
    s.column_name, s.timestamp_ms, s.value, s.reason, s.detail
FROM (
    SELECT r.id, r.rejected_at, r.source_id, left(r.metric, 200) AS metric,
        left(r.table_name, 200) AS table_name, left(r.column_name, 200) AS column_name,
        r.timestamp_ms, r.value, left(r.reason, 200) AS reason, left(r.detail, 200) AS detail,
        COALESCE(r.source_labels, known.labels) AS labels
    FROM (
        SELECT * FROM ({_LOOKED_AT}) AS looked_at WHERE $4::text IS NULL OR table_name = $4
        ORDER BY id DESC LIMIT $3
    ) AS r
    LEFT JOIN sources known ON known.id = r.source_id
) AS s
ORDER BY s.id DESC
"""

# The last of the $2 samples that are searched; none if there are fewer.
_LAST: Final = f"SELECT id FROM ({_LOOKED_AT}) AS looked_at OFFSET $2 - 1"

NEWEST: Final = 2**63 - 1
"""An id above all others."""


class Rejected(NamedTuple):
    """A sample that was rejected."""

    id: int
    rejected_at: str
    source_id: int | None
    """None if the database has no row for the labels."""
    labels: dict[str, str]
    metric: str
    table_name: str
    column_name: str | None
    """None for samples rejected before columns were recorded."""
    timestamp_ms: int
    """Milliseconds since the Unix epoch."""
    value: float
    reason: str
    detail: str | None
    """The database's message."""


class Page(NamedTuple):
    """Rejected samples, newest first."""

    samples: list[Rejected]
    last: int | None
    """The id before which the next page begins; None if there is no next page."""
    whole: bool
    """Whether the page is full, or there are no more samples."""


async def rejected(
    connection: Connection, before: int, limit: int, table: str | None = None
) -> Page:
    """Return at most `limit` samples with ids below `before`, for one table if that is given."""
    looked_at = limit + 1 if table is None else LOOKED_AT
    with translated():
        rows = await connection.fetch(_REJECTED, before, looked_at, limit + 1, table)
        samples = [Rejected(**{**row, "labels": read_labels(row["labels"])}) for row in rows]
        if len(samples) > limit:
            return Page(samples[:limit], samples[limit - 1].id, whole=True)
        if table is None:
            return Page(samples, None, whole=True)
        last = await connection.fetchval(_LAST, before, looked_at)
    return Page(samples, last, whole=last is None)
