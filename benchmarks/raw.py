"""The limit of storing: COPY of the same rows into the same table, with nothing around it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import asyncpg

from benchmarks.bodies import INTERVAL, OCR_DELAY_MS, START, status_of
from receiver.rows.batch import to_postgres_time
from receiver.storage.connection.database import prepare_connection
from receiver.storage.writing.records import COPY_COLUMNS

TRANSACTION = 1_000
"""Rows in one."""

Row = tuple[int, int, int, int]


async def sources(url: str) -> list[int]:
    """The ids of all sources, which the receiver has made."""
    connection = await asyncpg.connect(url)
    try:
        return [row["id"] for row in await connection.fetch("SELECT id FROM sources ORDER BY id")]
    finally:
        await connection.close()


def rows(source_ids: Sequence[int], scrapes: Sequence[int]) -> list[Row]:
    """The rows that `bodies.pairs` makes of the same targets and scrapes."""
    return [
        (
            to_postgres_time(START + scrape * INTERVAL),
            source_id,
            status_of(target, scrape),
            to_postgres_time(START + scrape * INTERVAL - OCR_DELAY_MS),
        )
        for scrape in scrapes
        for target, source_id in enumerate(source_ids)
    ]


async def copy(url: str, everything: Sequence[Row], connections: int = 1) -> float:
    """Rows a second, in transactions of `TRANSACTION` rows."""
    batches = [
        everything[first : first + TRANSACTION] for first in range(0, len(everything), TRANSACTION)
    ]
    opened = [await asyncpg.connect(url) for _ in range(connections)]
    for connection in opened:
        await prepare_connection(connection)

    async def work(connection: asyncpg.Connection) -> None:
        while batches:
            await connection.copy_records_to_table(
                "app_logs", records=batches.pop(0), columns=COPY_COLUMNS
            )

    start = time.perf_counter()
    await asyncio.gather(*map(work, opened))
    seconds = time.perf_counter() - start
    for connection in opened:
        await connection.close()
    return len(everything) / seconds
