"""Samples that can be no row, newest first, page by page."""

from __future__ import annotations

from typing import Final, NamedTuple

from receiver.storage.connection.database import Connection, translated
from receiver.storage.reading.sources import LABELS, read_labels

# Ids rise with time, so there need not be an index on the time.
REJECTED: Final = f"""
SELECT s.id, s.rejected_at, s.source_id, {LABELS} AS labels, s.metric, s.timestamp_ms, s.value,
    s.reason, s.detail
FROM (
    SELECT r.id, r.rejected_at, r.source_id, left(r.metric, 200) AS metric, r.timestamp_ms,
        r.value, left(r.reason, 200) AS reason, left(r.detail, 200) AS detail,
        COALESCE(r.source_labels, known.labels) AS labels
    FROM (SELECT * FROM rejected_samples WHERE id < $1 ORDER BY id DESC LIMIT $2) AS r
    LEFT JOIN sources known ON known.id = r.source_id
) AS s
ORDER BY s.id DESC
"""

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
    timestamp_ms: int
    """Since the Unix epoch."""
    value: float
    reason: str
    detail: str | None
    """What the database said."""


async def rejected(connection: Connection, before: int, limit: int) -> list[Rejected]:
    """The newest samples whose ids are below one."""
    with translated():
        rows = await connection.fetch(REJECTED, before, limit)
    return [Rejected(**{**row, "labels": read_labels(row["labels"])}) for row in rows]
