"""Incomplete rows in the database: where a sample waits for its other sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final, NamedTuple

from receiver.rows.batch import POSTGRES_EPOCH_MS
from receiver.rows.model import Fate, Fates, Metric, Reason
from receiver.storage import queries
from receiver.storage.connection.database import Connection, Database
from receiver.storage.writing.each import REFUSALS, run_for_each
from receiver.storage.writing.records import KEY, HalfRecord, LogRecord, RejectedRecord
from receiver.storage.writing.registry import DISCARDED
from receiver.storage.writing.rejecting import reject_samples

MOST: Final = 5_000
"""Halves that maintenance settles in one transaction."""


class Met(NamedTuple):
    """What became of halves that were brought to `pending_halves`."""

    completed: list[LogRecord]
    """Complete rows; they are not pending any more."""
    waiting: list[HalfRecord]
    rejected: list[RejectedRecord]
    """Samples that contradict the half that waits, or that the database refuses."""
    repeated: int
    """Samples that repeat the half that waits."""
    broken: list[tuple[int, int]]
    """Keys of those of which the database refuses a sample."""


class Settled(NamedTuple):
    """Halves that were taken out of `pending_halves` without becoming a row."""

    total: int
    rejected: list[RejectedRecord]
    """Samples that contradict a stored row, or whose other sample was rejected or did not come."""
    repeated: int
    """Samples that repeat what is stored, or was rejected before."""


async def meet(
    connection: Connection,
    halves: list[HalfRecord],
    names: Mapping[Metric, str],
    *,
    each: bool = False,
) -> Met:
    """Bring halves to where their other samples may wait; complete the rows that can be.

    Args:
        connection: In a transaction.
        halves: One for each source and time.
        names: What the two metrics are called.
        each: Whether the database may refuse some.
    """
    rejected: list[RejectedRecord] = []
    refused: dict[tuple[int, int], str] = {}
    if each:
        failures = await run_for_each(
            connection, "pending_halves", queries.UPSERT_EACH_HALF, halves
        )
        refused = {KEY(halves[place]): failure.message for place, failure in failures.items()}
        keys = tuple(zip(*(KEY(half) for half in halves if KEY(half) not in refused), strict=True))
        stored = await connection.fetch(queries.FIND_HALVES, *(keys or ((), ())))
    else:
        stored = await connection.fetch(queries.UPSERT_HALVES, *zip(*halves, strict=True))
    completed: list[LogRecord] = []
    waiting: list[HalfRecord] = []
    came_before = conflicts = 0
    sent = {KEY(half): half for half in halves}
    for *columns, was_there in stored:
        half: HalfRecord = tuple(columns)
        if lacks(half, sent[KEY(half)]):
            continue
        created_at, source_id, status, status_sample, ocr_value, ocr_sample = half
        if status is None or ocr_value is None:
            waiting.append(half)
            came_before += was_there
        else:
            completed.append(
                (created_at, source_id, status, ocr_value, status_sample or 0.0, ocr_sample or 0.0)
            )
        contradicting = contradict(sent.pop(KEY(half)), half)
        if contradicting is not None:
            conflicts += 1
            rejected += samples_of(contradicting, names, Reason.CONFLICT)
    if completed:
        done = zip(*map(KEY, completed), strict=True)
        await connection.execute(queries.DELETE_HALVES, *done)
    for key, half in sent.items():
        rejected += samples_of(half, names, Reason.REFUSED, refused.get(key, DISCARDED))
    return Met(completed, waiting, rejected, came_before - conflicts, list(sent))


async def take_others(
    connection: Connection, keys: list[tuple[int, int]], names: Mapping[Metric, str]
) -> list[RejectedRecord]:
    """Take out the samples that wait for others that were rejected; return them as rejected."""
    if not keys:
        return []
    taken = await connection.fetch(queries.TAKE_HALVES, *zip(*keys, strict=True))
    return [
        sample for half in taken for sample in samples_of(tuple(half), names, Reason.WITH_OTHER)
    ]


def lacks(stored: HalfRecord, sent: HalfRecord) -> bool:
    """Return whether what is stored is without the sample that was sent."""
    return any(sent[place] is not None and stored[place] is None for place in (2, 4))


def contradict(sent: HalfRecord, stored: HalfRecord) -> HalfRecord | None:
    """Return what of a half that was sent differs from what waits, if anything does."""
    created_at, source_id, status, status_sample, ocr_value, ocr_sample = sent
    if status is not None and status != stored[2]:
        return created_at, source_id, status, status_sample, None, None
    if ocr_value is not None and ocr_value != stored[4]:
        return created_at, source_id, None, None, ocr_value, ocr_sample
    return None


def samples_of(
    half: HalfRecord, names: Mapping[Metric, str], reason: Reason, detail: str | None = None
) -> Iterator[RejectedRecord]:
    """Turn a half into its rejected samples."""
    created_at, source_id, _, status_sample, _, ocr_sample = half
    timestamp = created_at // 1000 + POSTGRES_EPOCH_MS
    for metric, value in ((Metric.STATUS, status_sample), (Metric.OCR, ocr_sample)):
        if value is not None:
            yield source_id, None, None, names[metric], timestamp, value, reason, detail


async def settle_at_once(
    connection: Connection, halves: list[HalfRecord], names: Mapping[Metric, str]
) -> Settled:
    """Take out those of the transaction's own halves that have nothing to wait for."""
    created_at, source_ids = zip(*sorted(map(KEY, halves)), strict=True)
    return to_settled(
        await connection.fetch(
            queries.SETTLE_AT_ONCE,
            names[Metric.STATUS],
            names[Metric.OCR],
            created_at[0],
            created_at[-1],
            created_at,
            source_ids,
            list({*source_ids}),
        )
    )


def to_settled(rows: Sequence[Sequence[Any]]) -> Settled:
    """Sort out what a statement that settles returns."""
    rejected: list[RejectedRecord] = [
        (source_id, None, None, *sample, None)
        for source_id, *sample in rows
        if sample[-1] is not None
    ]
    return Settled(len(rows), rejected, len(rows) - len(rejected))


async def settle_waiting(
    database: Database, pair_timeout: timedelta, names: Mapping[Metric, str]
) -> Fates:
    """Take out halves that have waited too long, or have nothing to wait for any more.

    Of several replicas only one does this at a time; the others return at once.

    Returns:
        What became of the samples.

    Raises:
        ReceiverError: as `database.translated` does.
    """
    fates = Fates()
    step = partial(settle_some, database, pair_timeout, names)
    while True:
        try:
            total, counts = await step()
        except REFUSALS:
            total, counts = await step(each=True)
        fates += counts
        if total < MOST:
            return fates


async def settle_some(
    database: Database,
    pair_timeout: timedelta,
    names: Mapping[Metric, str],
    *,
    each: bool = False,
) -> tuple[int, Fates]:
    """Take out some in one transaction; return how many, and what became of their samples."""
    async with database.transaction() as connection:
        if not await connection.fetchval(queries.TRY_MAINTENANCE_LOCK):
            return 0, Fates()
        first, last = await connection.fetchrow(queries.WAITING_RANGE)
        settled = to_settled(
            await connection.fetch(
                queries.SETTLE_WAITING,
                names[Metric.STATUS],
                names[Metric.OCR],
                first,
                last,
                pair_timeout,
                MOST,
            )
        )
        fates = await reject_samples(connection, settled.rejected, each=each)
    return settled.total, fates + Fates({Fate.DUPLICATE: settled.repeated})
