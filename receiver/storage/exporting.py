"""Reads a range of `app_logs`, with what its codes and sources mean, as a stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from receiver.storage.database import Connection, translated

COLUMNS: Final = (
    *("id", "created_at", "app_status", "error_name", "description", "ocr_value", "source_id"),
    "labels",
)
AT_ONCE: Final = 20_000
"""Rows that are in memory."""

# In the order of an index, so that the first rows come at once.
_SELECT: Final = """
SELECT l.id, {created_at} AS created_at, l.app_status, e.name AS error_name, e.description,
    {ocr_value} AS ocr_value, l.source_id, s.labels::text AS labels
FROM app_logs l
JOIN error_codes e ON e.code = l.app_status
JOIN sources s ON s.id = l.source_id
WHERE l.created_at >= $1::text::timestamptz AND l.created_at < $2::text::timestamptz
  AND s.labels @> $3::text::jsonb
ORDER BY l.created_at, l.source_id
"""
SELECT_AS_TEXT: Final = _SELECT.format(created_at="l.created_at", ocr_value="l.ocr_value")

# Times in microseconds since the Unix epoch; 64 bits end thirty years before TIMESTAMPTZ does.
_MICROSECONDS: Final = """
CASE WHEN l.{0} < '294247-01-01 00:00Z' THEN (EXTRACT(EPOCH FROM l.{0}) * 1000000)::bigint END
"""
SELECT_AS_NUMBERS: Final = _SELECT.format(
    created_at=_MICROSECONDS.format("created_at"), ocr_value=_MICROSECONDS.format("ocr_value")
)


class Selection(NamedTuple):
    """Which rows."""

    start: datetime
    end: datetime
    """Not included."""
    labels: Mapping[str, str]
    """What a source must have."""

    def arguments(self) -> tuple[str, str, str]:
        """For the statements."""
        return self.start.isoformat(), self.end.isoformat(), json.dumps(dict(self.labels))


async def copy_csv(
    connection: Connection, selection: Selection, output: Callable[[bytes], Awaitable[None]]
) -> int:
    """Hand over the rows as CSV with a header; says how many there were.

    Raises:
        ReceiverError: as `translated` does.
    """
    with translated():
        status = await connection.copy_from_query(
            SELECT_AS_TEXT, *selection.arguments(), output=output, format="csv", header=True
        )
    return int(status.removeprefix("COPY "))


async def read_batches(
    connection: Connection, selection: Selection
) -> AsyncIterator[list[tuple[object, ...]]]:
    """The rows in lists, times in microseconds since the Unix epoch; None after the year 294246.

    Raises:
        ReceiverError: as `translated` does.
    """
    with translated():
        async with connection.transaction(readonly=True):
            cursor = await connection.cursor(SELECT_AS_NUMBERS, *selection.arguments())
            while rows := await cursor.fetch(AT_ONCE):
                yield [tuple(row) for row in rows]
