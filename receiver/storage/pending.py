"""Halves in the database: where a sample waits for its twin."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final, NamedTuple

from receiver.model import Fate, Fates, Metric, Reason
from receiver.pairing import POSTGRES_EPOCH_MS
from receiver.storage import queries
from receiver.storage.database import Connection, Database
from receiver.storage.records import HalfRecord, LogRecord, RejectedRecord

SETTLE_AT_ONCE: Final = 5_000


class Met(NamedTuple):
    """What became of halves that were brought to `pending_halves`."""

    completed: list[LogRecord]
    """Pairs; they are not pending any more."""
    waiting: list[HalfRecord]
    conflicts: list[RejectedRecord]
    """Samples that contradict the half that waits already."""
    repeated: int
    """Samples that repeat it."""


class Settled(NamedTuple):
    """Halves that were taken out of `pending_halves` without becoming a row."""

    total: int
    unpaired: int
    """Set aside because no twin came."""
    conflicts: int
    """Set aside because another value is stored; all others repeat what is stored."""

    def fates(self) -> Fates:
        """What became of their samples, of which each has one."""
        repeated = self.total - self.unpaired - self.conflicts
        return Fates(
            {
                Reason.UNPAIRED: self.unpaired,
                Reason.CONFLICT: self.conflicts,
                Fate.DUPLICATE: repeated,
            }
        )


async def meet(
    connection: Connection, halves: list[HalfRecord], names: Mapping[Metric, str]
) -> Met:
    """Bring halves to where their twins may wait; complete the pairs that meet."""
    completed: list[LogRecord] = []
    waiting: list[HalfRecord] = []
    conflicts: list[RejectedRecord] = []
    came_before = 0
    sent = {half[:2]: half for half in halves}
    stored = await connection.fetch(queries.UPSERT_HALVES, *zip(*halves, strict=True))
    for created_at, source_id, status, ocr_value, sample, was_there in stored:
        if status is None or ocr_value is None:
            waiting.append((created_at, source_id, status, ocr_value, sample))
            came_before += was_there
        else:
            completed.append((created_at, source_id, status, ocr_value, sample))
        half = sent[created_at, source_id]
        timestamp = created_at // 1000 + POSTGRES_EPOCH_MS
        if half[2] is not None and half[2] != status:
            value, name = float(half[2]), names[Metric.STATUS]
            conflicts.append((source_id, name, timestamp, value, Reason.CONFLICT))
        if half[4] is not None and half[3] != ocr_value:
            name = names[Metric.OCR]
            conflicts.append((source_id, name, timestamp, half[4], Reason.CONFLICT))
    if completed:
        created_at, source_ids, *_ = zip(*completed, strict=True)
        await connection.execute(queries.DELETE_HALVES, created_at, source_ids)
    return Met(completed, waiting, conflicts, came_before - len(conflicts))


async def settle_repeated(
    connection: Connection, halves: list[HalfRecord], names: Mapping[Metric, str]
) -> Settled:
    """Take out those of the transaction's own halves whose row is stored already."""
    created_at, source_ids, *_ = zip(*sorted(halves), strict=True)
    await connection.execute(queries.PLAN_FOR_BOUNDS)
    return Settled(
        *await connection.fetchrow(
            queries.SETTLE_REPEATED,
            names[Metric.STATUS],
            names[Metric.OCR],
            created_at[0],
            created_at[-1],
            created_at,
            source_ids,
        )
    )


async def settle_waiting(
    database: Database, pair_timeout: timedelta, names: Mapping[Metric, str]
) -> Settled:
    """Take out halves that have waited too long or whose row came by another way.

    Of several replicas only one does this at a time; the others return at once.

    Raises:
        ReceiverError: as `database.translated` does.
    """
    total = Settled(0, 0, 0)
    while True:
        async with database.transaction() as connection:
            if not await connection.fetchval(queries.TRY_MAINTENANCE_LOCK):
                return total
            first, last = await connection.fetchrow(queries.WAITING_RANGE)
            await connection.execute(queries.PLAN_FOR_BOUNDS)
            settled = Settled(
                *await connection.fetchrow(
                    queries.SETTLE_WAITING,
                    names[Metric.STATUS],
                    names[Metric.OCR],
                    first,
                    last,
                    pair_timeout,
                    SETTLE_AT_ONCE,
                )
            )
        total = Settled(*map(sum, zip(total, settled, strict=True)))
        if settled.total < SETTLE_AT_ONCE:
            return total
