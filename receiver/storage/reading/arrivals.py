"""Whether data arrives, at a glance."""

from __future__ import annotations

from typing import Final, NamedTuple

from receiver.storage.connection.database import Connection, translated

MOST: Final = 200_000
"""What is counted no further than that."""

# How many rows the last minute has, how many halves wait, and how many samples were rejected in
# the last minute; each up to $1.
COUNT: Final = """
SELECT
    (SELECT count(*) FROM (
        SELECT FROM app_logs
        WHERE created_at > now() - INTERVAL '1 minute' AND created_at <= now()
        ORDER BY created_at DESC LIMIT $1
    ) AS logs) AS rows,
    (SELECT count(*) FROM (
        SELECT FROM pending_halves ORDER BY source_id, created_at LIMIT $1
    ) AS halves) AS pending,
    (SELECT count(*) FROM (
        SELECT rejected_at FROM rejected_samples ORDER BY id DESC LIMIT $1
    ) AS rejected WHERE rejected_at > now() - INTERVAL '1 minute') AS rejected
"""

NEWEST: Final = """
SELECT created_at FROM app_logs WHERE created_at <= now() ORDER BY created_at DESC LIMIT 1
"""


class Arrivals(NamedTuple):
    """What has come lately; no number is above `MOST`."""

    rows: int
    """In the last minute."""
    pending: int
    rejected: int
    """In the last minute."""
    newest: str | None
    """Time of the newest row up to now, where the last minute has none."""


async def arrivals(connection: Connection) -> Arrivals:
    """Count what has come lately."""
    with translated():
        counts = await connection.fetchrow(COUNT, MOST)
        newest = None if counts["rows"] else await connection.fetchval(NEWEST)
    return Arrivals(counts["rows"], counts["pending"], counts["rejected"], newest)
