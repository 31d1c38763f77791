"""Single requests, and what they leave."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from tests.faults.load import NOW, Pair
from tests.faults.processes import Database
from tests.receivers import Point, encode


def request(number: int, pairs: int = 1) -> bytes:
    """Pairs of applications that no other request speaks of, with labels as long as in life."""
    points: list[Point] = []
    for application in range(pairs):
        who = f"app-{number}-{application}-{secrets.token_hex(40)}"
        points += Pair(who, NOW, 0, NOW * 1000).points("single")
    return encode(points)


@asynccontextmanager
async def stuck(database: Database) -> AsyncIterator[None]:
    """Nothing can be committed: somebody holds the table."""
    connection = await asyncpg.connect(database.url)
    try:
        await connection.execute("BEGIN; LOCK TABLE app_logs IN EXCLUSIVE MODE")
        yield
    finally:
        connection.terminate()


async def stored(url: str) -> int:
    """How many rows there are."""
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM app_logs"))
    finally:
        await connection.close()
