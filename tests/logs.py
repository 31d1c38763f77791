"""Rows of `app_logs` for tests of views and reports."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import asyncpg

from tests.cluster import keep_keys
from tests.waiting import until

START = datetime(2025, 3, 3, 9, tzinfo=UTC)
"""A full hour, long ago."""

Log = tuple[int, datetime, int, timedelta]
"""Source, time, app_status, and how much earlier ocr_value is."""

GIVE_LINES = (
    """UPDATE sources SET labels = labels || ('{"line": "' || chr(64 + id) || '"}')::jsonb"""
)
"""Gives each source a label: A, B and so on."""

HAS_TIMESCALEDB = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')"

HAS_SUMMARY = "SELECT to_regclass('app_status_hourly_stored') IS NOT NULL"

REFRESHING = """
SELECT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'Refresh Continuous Aggregate%'
)
"""


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def logs(
    source: int, statuses: Iterable[int], *, start: datetime = START, step: float = 5
) -> list[Log]:
    """Return rows of a source, one every `step` seconds, with ocr_value a second earlier."""
    return [
        (source, start + seconds(step * place), status, seconds(1))
        for place, status in enumerate(statuses)
    ]


async def add_sources(connection: asyncpg.Connection, count: int, *, first: int = 1) -> None:
    """Add sources with ids from `first` on, of instances cam-1 and so on."""
    await connection.executemany(
        "INSERT INTO sources (labels, digest) VALUES ($1, $2)",
        [
            (json.dumps({"instance": f"cam-{number}", "job": "factory"}), str(number).encode())
            for number in range(first, first + count)
        ],
    )
    await keep_keys(connection)


async def add_logs(connection: asyncpg.Connection, rows: Iterable[Log]) -> None:
    """Store rows."""
    await connection.copy_records_to_table(
        "app_logs",
        columns=("source_id", "created_at", "app_status", "ocr_value"),
        records=[(source, at, status, at - delay) for source, at, status, delay in rows],
    )


async def stop_refreshing(connection: asyncpg.Connection) -> None:
    """Stop TimescaleDB's refreshes of the summary, if any, so that only the test refreshes it."""
    if await connection.fetchval(HAS_SUMMARY):
        await connection.execute(
            "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs "
            "WHERE proc_name = 'policy_refresh_continuous_aggregate'"
        )

        async def idle() -> bool:
            return not await connection.fetchval(REFRESHING)

        await until(idle)


async def refresh(connection: asyncpg.Connection) -> None:
    """Refresh the summary, where TimescaleDB maintains it."""
    if await connection.fetchval(HAS_SUMMARY):
        job = await connection.fetchval(
            "SELECT job_id FROM timescaledb_information.jobs "
            "WHERE proc_name = 'policy_refresh_continuous_aggregate'"
        )
        await connection.execute(f"CALL run_job({job})")


async def has_timescaledb(connection: asyncpg.Connection) -> bool:
    return bool(await connection.fetchval(HAS_TIMESCALEDB))
