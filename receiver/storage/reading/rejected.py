"""Samples that can be no row, newest first, page by page."""

from __future__ import annotations

from typing import Final, NamedTuple

from receiver.storage.connection.database import Connection, translated
from receiver.storage.reading.sources import LABELS, read_labels

LOOKED_AT: Final = 20_000
"""Samples that are looked at for one page of those for one table: no index leads to a table."""

# Ids rise with time, so there need not be an index on the time.
_LOOKED_AT: Final = "SELECT * FROM rejected_samples WHERE id < $1 ORDER BY id DESC LIMIT $2"

# Of these at most $3, for the table $4 if that is not NULL.
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

# The last of the samples that are looked at, if there are so many.
_LAST: Final = f"SELECT id FROM ({_LOOKED_AT}) AS looked_at OFFSET $2 - 1"

NEWEST: Final = 2**63 - 1
"""Above all ids."""


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
    """None for what was rejected before columns were recorded."""
    timestamp_ms: int
    """Since the Unix epoch."""
    value: float
    reason: str
    detail: str | None
    """What the database said."""


class Page(NamedTuple):
    """Rejected samples, newest first."""

    samples: list[Rejected]
    last: int | None
    """The id before which the next page begins; None where there is none."""
    whole: bool
    """Whether it has as many samples as it may, or there are no more."""


async def rejected(
    connection: Connection, before: int, limit: int, table: str | None = None
) -> Page:
    """Return so many samples whose ids are below one, for one table if that is named."""
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
