"""Measures the limit of storing: bare COPY of the same rows into the same tables."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import asyncpg

from benchmarks.bodies import INTERVAL, START, labels, value_of
from receiver.rows.columns import POSTGRES_EPOCH_MS
from receiver.rows.tables import Table
from receiver.storage.connection.database import prepare_connection
from receiver.storage.writing.statements import statements_of

TRANSACTION = 1_000
"""Rows per transaction."""

Row = tuple[Any, ...]
"""created_at, source_id, samples, label values."""


async def sources(url: str) -> list[int]:
    """Return the ids of all sources, which the receiver has created."""
    connection = await asyncpg.connect(url)
    try:
        return [row["id"] for row in await connection.fetch("SELECT id FROM sources ORDER BY id")]
    finally:
        await connection.close()


def rows(table: Table, source_ids: Sequence[int], scrapes: Sequence[int]) -> list[Row]:
    """Return the rows of the samples that `bodies.rows` makes for the same targets and scrapes."""
    return [
        (
            (START + scrape * INTERVAL - POSTGRES_EPOCH_MS) * 1000,
            source_id,
            *(column.read(value_of(column, target, scrape)) for column in table.columns),
            *table.read_labels(labels("", target)),
        )
        for scrape in scrapes
        for target, source_id in enumerate(source_ids)
    ]


async def copy(
    url: str, tables: Sequence[Table], scrapes: Sequence[int], targets: int, connections: int = 1
) -> float:
    """Copy rows into all tables, in transactions of `TRANSACTION` rows; return rows per second."""
    source_ids = (await sources(url))[:targets]
    everything = [(table, rows(table, source_ids, scrapes)) for table in tables]
    batches = [
        (table, some[first : first + TRANSACTION])
        for table, some in everything
        for first in range(0, len(some), TRANSACTION)
    ]
    opened = [await asyncpg.connect(url) for _ in range(connections)]
    for connection in opened:
        await prepare_connection(connection)

    async def work(connection: asyncpg.Connection) -> None:
        while batches:
            table, some = batches.pop(0)
            await connection.copy_records_to_table(
                table.name, records=some, columns=statements_of(table).columns
            )

    start = time.perf_counter()
    await asyncio.gather(*map(work, opened))
    seconds = time.perf_counter() - start
    for connection in opened:
        await connection.close()
    return sum(len(some) for _, some in everything) / seconds
