"""Single requests, and the rows that they store."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from tests.faults.load import NOW, Pair
from tests.faults.processes import Database
from tests.receivers import Point, encode


def request(number: int, pairs: int = 1) -> bytes:
    """Build a request with pairs of its own applications, with labels of realistic length."""
    points: list[Point] = []
    for application in range(pairs):
        who = f"app-{number}-{application}-{secrets.token_hex(40)}"
        points += Pair(who, NOW, 0, NOW * 1000).points("single")
    return encode(points)


@asynccontextmanager
async def stuck(database: Database) -> AsyncIterator[None]:
    """Lock the table in another transaction, so that nothing can be committed."""
    connection = await asyncpg.connect(database.url)
    try:
        await connection.execute("BEGIN; LOCK TABLE app_logs IN EXCLUSIVE MODE")
        yield
    finally:
        connection.terminate()


async def stored(url: str) -> int:
    """Return the number of rows."""
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM app_logs"))
    finally:
        await connection.close()
