"""Samples that can be no row, newest first, page by page."""

from __future__ import annotations

from typing import Final, NamedTuple

from receiver.storage.database import Connection, translated
from receiver.storage.viewing.sources import LABELS, read_labels

# Ids rise with time, so there need not be an index on the time.
REJECTED: Final = f"""
SELECT r.id, r.rejected_at, r.source_id, {LABELS} AS labels, r.metric, r.timestamp_ms, r.value,
    r.reason
FROM (SELECT * FROM rejected_samples WHERE id < $1 ORDER BY id DESC LIMIT $2) AS r
JOIN sources s ON s.id = r.source_id
ORDER BY r.id DESC
"""  # noqa: S608  made of constants

NEWEST: Final = 2**63 - 1
"""Above all ids."""


class Rejected(NamedTuple):
    """A sample that was set aside."""

    id: int
    rejected_at: str
    source_id: int
    labels: dict[str, str]
    metric: str
    timestamp_ms: int
    """Since the Unix epoch."""
    value: float
    reason: str


async def rejected(connection: Connection, before: int, limit: int) -> list[Rejected]:
    """The newest samples whose ids are below one."""
    with translated():
        rows = await connection.fetch(REJECTED, before, limit)
    return [Rejected(**{**row, "labels": read_labels(row["labels"])}) for row in rows]
