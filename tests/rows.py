"""Rows of the built-in table, for tests of how batches are stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import asyncpg

from receiver.config.catalogue import built_in
from receiver.rows.columns import POSTGRES_EPOCH_MS
from receiver.rows.model import Key, Rejected, Row, Source, arrange
from receiver.rows.reasons import Reason
from receiver.rows.tables import Column, Table
from receiver.storage.writing.records import Contents

NOW = 1_700_000_000_000
CATALOGUE = built_in()
LOGS = CATALOGUE.by_name["app_logs"]
STATUS, OCR = LOGS.columns


def to_postgres_time(timestamp: int) -> int:
    """Convert milliseconds since the Unix epoch to microseconds since 2000-01-01 UTC."""
    return (timestamp - POSTGRES_EPOCH_MS) * 1000


def source(name: str = "a", table: Table = LOGS) -> Source:
    return Source(table, (("instance", name), ("job", "factory")))


def row(who: Source, timestamp: int = NOW, status: float = 0, later: int = 0) -> Row:
    return timestamp, who, [float(status), NOW / 1000 + later]


def status_alone(who: Source, timestamp: int = NOW, status: float = 0) -> Row:
    return timestamp, who, [float(status), None]


def ocr_alone(who: Source, timestamp: int = NOW, later: int = 0) -> Row:
    return timestamp, who, [None, NOW / 1000 + later]


def not_a_number(who: Source, timestamp: int = NOW, column: Column = STATUS) -> Rejected:
    return Rejected(who, column, timestamp, float("nan"), Reason.NOT_A_NUMBER)


def contents(*entries: Row | Rejected, broken: Sequence[Key] = ()) -> Contents:
    """Build the contents of a batch from its rows and rejected samples."""
    rejected = [entry for entry in entries if isinstance(entry, Rejected)]
    rows = [entry for entry in entries if not isinstance(entry, Rejected)]
    return Contents(
        arrange(row for row in rows if not row[1].table.lacks(row[2])),
        arrange(row for row in rows if row[1].table.lacks(row[2])),
        rejected,
        broken,
        Counter(),
    )


async def count(connection: asyncpg.Connection, table: str) -> int:
    return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))
