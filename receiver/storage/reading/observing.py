"""Observes what the database holds, for the metrics; maintenance does so in each round."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from receiver.rows.model import Newest, Observed
from receiver.rows.tables import Catalogue, Table
from receiver.storage.connection.connecting import is_distributed
from receiver.storage.connection.database import FOLLOW_KEY, Database
from receiver.storage.connection.places import quote

MAX_SOURCES: Final = 300
"""Maximum number of sources whose newest row is looked up: those that were added last."""
GONE: Final = timedelta(days=1)
"""A source whose newest row is older than this counts as gone rather than silent."""
LARGEST_LABELS: Final = 64 * 1024
"""Stored size in bytes above which a label set is not read: reading one of 30 MiB takes a tenth of
a second each time. No properly configured sender has such label sets."""

# How many incomplete rows of each table wait, and for how many seconds the oldest has.
OBSERVE_PENDING: Final = """
SELECT table_name, count(*),
    COALESCE(EXTRACT(EPOCH FROM now() - min(arrived_at)), 0)::double precision
FROM pending_rows GROUP BY table_name
"""

COUNT_SOURCES: Final = "SELECT count(*) FROM sources"


def newest_rows(table: Table) -> str:
    """Write the statement for the newest row of each of the $1 sources that were added last.

    Rows that are older than $2 or in the future are left out. The statement reads one entry of the
    primary key for each source; the bounds on the time exclude all other chunks.
    """
    return f"""
SELECT s.id, COALESCE(left(s.labels ->> 'job', 100), ''),
    COALESCE(left(s.labels ->> 'instance', 100), ''),
    EXTRACT(EPOCH FROM l.created_at)::double precision
FROM (
    SELECT id, CASE WHEN pg_column_size(labels) <= {LARGEST_LABELS} THEN labels END AS labels
    FROM sources ORDER BY id DESC LIMIT $1
) s
CROSS JOIN LATERAL (
    SELECT source_id, created_at FROM {quote(table.name)}
    WHERE source_id >= s.id AND source_id <= s.id
      AND created_at > now() - $2::interval AND created_at <= now()
    ORDER BY source_id DESC, created_at DESC LIMIT 1
) l
ORDER BY s.id
"""


def newest_distributed(table: Table) -> str:
    """Write the same statement for a table that Citus distributes."""
    return f"""
SELECT s.id, COALESCE(left(s.labels ->> 'job', 100), ''),
    COALESCE(left(s.labels ->> 'instance', 100), ''),
    EXTRACT(EPOCH FROM l.created_at)::double precision
FROM source_keys k
JOIN (
    SELECT id, CASE WHEN pg_column_size(labels) <= {LARGEST_LABELS} THEN labels END AS labels
    FROM sources
) s ON s.id = k.id
JOIN LATERAL (
    SELECT source_id, created_at FROM {quote(table.name)}
    WHERE source_id >= k.id AND source_id <= k.id
      AND created_at > now() - $2::interval AND created_at <= now()
    ORDER BY source_id DESC, created_at DESC LIMIT 1
) l ON l.source_id = k.id
WHERE k.id >= COALESCE((SELECT id FROM sources ORDER BY id DESC OFFSET $1 - 1 LIMIT 1), 0)
ORDER BY s.id
"""


async def observe(database: Database, catalogue: Catalogue) -> Observed:
    """Count incomplete rows, and find the newest row of each source in each table.

    Raises:
        ReceiverError: as `database.translated` does.
    """
    async with database.transaction() as connection:
        waiting = await connection.fetch(OBSERVE_PENDING)
        sources = await connection.fetchval(COUNT_SOURCES)
        await connection.execute(FOLLOW_KEY)
        write = newest_distributed if await is_distributed(connection) else newest_rows
        newest = [
            Newest(table.name, *row)
            for table in catalogue.tables
            for row in await connection.fetch(write(table), MAX_SOURCES, GONE)
        ]
    pending = dict.fromkeys((table.name for table in catalogue.tables), 0)
    pending |= {name: count for name, count, _ in waiting}
    oldest = max((age for _, _, age in waiting), default=0.0)
    return Observed(pending, oldest, sources, max(0, sources - MAX_SOURCES), newest)
