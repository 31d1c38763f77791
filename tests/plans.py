"""Stores many rows, and inspects the plans of queries that read them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from receiver.storage.connection.connecting import is_distributed
from tests.logs import add_logs, add_sources, logs

ROWS = 120_000
SOURCES = 40
NOW = datetime.now(UTC).replace(microsecond=0)
TWO_DAYS = timedelta(days=2)
BEGINNING = NOW - TWO_DAYS

EVENING = (NOW - timedelta(hours=18)).replace(hour=18, minute=0, second=0)
"""The last 18:00. If rows end there, the newest chunk is never empty or small, whatever the time of
day: a small chunk, such as just after midnight, is rightly read by a sequential scan."""


async def add_many(connection: asyncpg.Connection, sources: int, end: datetime = NOW) -> None:
    """Store two days of rows, and four more sources whose last rows are at the beginning.

    Args:
        connection: A connection to a database without sources.
        sources: Number of sources that the rows are spread over.
        end: Time of the newest row.
    """
    await add_sources(connection, sources, first=5)
    await connection.execute(
        """
        INSERT INTO app_logs (source_id, created_at, app_status, ocr_value)
        SELECT 5 + i % $1, $3::timestamptz - i * INTERVAL '1.44 s', (i / 977 % 7 = 0)::int, $3
        FROM generate_series(1, $2::int) AS i ORDER BY 2
        """,
        sources,
        ROWS,
        end,
    )
    gone = [row for source in range(1, 5) for row in logs(source, [0, 0], start=end - TWO_DAYS)]
    await add_logs(connection, gone)
    await connection.execute("VACUUM ANALYZE")


def nodes(plan: object) -> Iterator[dict[str, Any]]:
    """Yield all nodes of a plan, including those of all shards where Citus distributes it."""
    if isinstance(plan, dict):
        if "Node Type" in plan:
            yield plan
        plan = [*plan.values()]
    if isinstance(plan, list):
        for part in plan:
            yield from nodes(part)


# The table or its chunks, and their indexes.
NAMES = """
WITH logs AS (
    SELECT 'app_logs'::regclass AS relation
    UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = 'app_logs'::regclass
)
SELECT relname FROM pg_class
WHERE oid IN (SELECT relation FROM logs)
   OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid IN (SELECT relation FROM logs))
"""


async def explain(
    connection: asyncpg.Connection, query: str, *arguments: object
) -> list[dict[str, Any]]:
    """Run a query; return all nodes of its plan."""
    await connection.execute("SET citus.explain_all_tasks = on")
    ((text,),) = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", *arguments)
    return list(nodes(json.loads(text)[0]["Plan"]))


async def scans_of_logs(
    connection: asyncpg.Connection, query: str, *arguments: object
) -> list[dict[str, Any]]:
    """Run a query; return the plan nodes that read app_logs."""
    names = {name for (name,) in await connection.fetch(NAMES)}
    scans = [
        node
        for node in await explain(connection, query, *arguments)
        if names.intersection(
            without_shard(node.get(kind, "")) for kind in ("Relation Name", "Index Name")
        )
    ]
    # A shard may have no rows, and thus no statistics.
    empty = [scan for scan in scans if scan["Node Type"] == "Seq Scan" and not rows_read([scan])]
    return [scan for scan in scans if scan["Actual Loops"] and scan not in empty]


def without_shard(name: str) -> str:
    """Strip the shard number that Citus adds to a name."""
    return re.sub(r"_\d{6,}$", "", name)


async def count_shards(connection: asyncpg.Connection) -> int:
    """Return the number of shards of app_logs, each scanned separately; 1 without Citus."""
    if not await is_distributed(connection):
        return 1
    statement = "SELECT count(*) FROM pg_dist_shard WHERE logicalrelid = 'app_logs'::regclass"
    return int(await connection.fetchval(statement))


def rows_read(scans: list[dict[str, Any]]) -> int:
    """Return the number of rows read, including those filtered out."""
    return sum(
        round((scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0)) * scan["Actual Loops"])
        for scan in scans
        if scan["Node Type"] != "Bitmap Index Scan" and scan.get("Custom Plan Provider") is None
    )


def visits(plan: list[dict[str, Any]]) -> int:
    """Return the number of rows handled by all nodes of a plan, including those filtered out."""
    removed = ("Filter", "Join Filter", "Index Recheck")
    rows = (
        (node["Actual Rows"] + sum(node.get(f"Rows Removed by {why}", 0) for why in removed))
        * node["Actual Loops"]
        for node in plan
    )
    total: int = round(sum(rows))
    return total
