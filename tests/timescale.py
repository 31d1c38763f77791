"""Helpers for tests of TimescaleDB."""

from __future__ import annotations

import asyncpg
import pytest

FIND_VERSION = "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"


async def require_timescaledb(connection: asyncpg.Connection, oldest: tuple[int, ...] = ()) -> None:
    """Skip the test on a server without TimescaleDB, or with a version before `oldest`."""
    version = await connection.fetchval(FIND_VERSION)
    if version is None:
        pytest.skip("this server has no TimescaleDB; RECEIVER_TEST_DATABASE_URL can name one")
    if tuple(map(int, version.split("-")[0].split("."))) < oldest:
        pytest.skip(f"TimescaleDB {version} cannot do this")


async def require_compression(connection: asyncpg.Connection) -> None:
    """Skip the test where `app_logs` cannot be compressed."""
    await require_timescaledb(connection, (2, 16))
    if await connection.fetchval("SHOW timescaledb.license") != "timescale":
        pytest.skip("this TimescaleDB has the Apache license")


async def compress(connection: asyncpg.Connection) -> None:
    """Compress all chunks of `app_logs`."""
    await connection.execute("SELECT compress_chunk(chunk) FROM show_chunks('app_logs') chunk")
