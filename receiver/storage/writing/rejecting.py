"""The table `rejected_samples`: what can be no row."""

from __future__ import annotations

import logging

from receiver.rows.model import Fate, Fates, Reason
from receiver.storage import queries
from receiver.storage.connection.database import Connection
from receiver.storage.writing.each import run_for_each
from receiver.storage.writing.records import RejectedRecord, pieces
from receiver.storage.writing.registry import DISCARDED

logger = logging.getLogger(__name__)


async def reject_samples(
    connection: Connection, rejected: list[RejectedRecord], *, each: bool = False
) -> Fates:
    """Keep samples that can be no row; those that were rejected before are duplicates.

    Args:
        connection: In a transaction.
        rejected: The samples.
        each: Whether the database may refuse some. Those are logged: there is nowhere else to keep
            them, and to fail for them would keep all others of their sender from being stored.
    """
    fates = Fates()
    reject = reject_each if each else reject_all
    for piece in pieces(rejected, size_of):
        fates += await reject(connection, piece)
    return fates


def size_of(record: RejectedRecord) -> int:
    """Return how many characters the labels of a rejected sample have."""
    return len(record[2] or "")


async def reject_all(connection: Connection, rejected: list[RejectedRecord]) -> Fates:
    """Keep samples, none of which the database refuses."""
    counts = await connection.fetch(queries.REJECT_SAMPLES, *zip(*rejected, strict=True))
    fates = Fates({Reason(reason): count for reason, count in counts})
    missing = len(rejected) - fates.total()
    lost = await find_discarded(connection, rejected) if missing else set()
    for place in lost:
        tell_of_loss(rejected[place], DISCARDED)
    fates[Fate.DISCARDED] = len(lost)
    fates[Fate.DUPLICATE] = missing - len(lost)
    return fates


async def reject_each(connection: Connection, rejected: list[RejectedRecord]) -> Fates:
    """Keep those samples that the database does not refuse."""
    failures = await run_for_each(
        connection, "rejected_samples", queries.REJECT_EACH_SAMPLE, rejected
    )
    lost = await find_discarded(connection, rejected)
    fates = Fates()
    for place, row in enumerate(rejected):
        if place in lost:
            fates[Fate.DISCARDED] += 1
            tell_of_loss(row, failures[place].message if place in failures else DISCARDED)
        elif place in failures:
            # One with the same key is there.
            fates[Fate.DUPLICATE] += 1
        else:
            fates[Reason(row[6])] += 1
    return fates


async def find_discarded(connection: Connection, rejected: list[RejectedRecord]) -> set[int]:
    """Return the places of those samples that the table does not have."""
    columns = list(zip(*rejected, strict=True))
    keys = columns[0], columns[1], *columns[3:7]
    return {place for (place,) in await connection.fetch(queries.FIND_DISCARDED, *keys)}


def tell_of_loss(record: RejectedRecord, message: str) -> None:
    """Log a sample that is kept nowhere."""
    source_id, _, labels, metric, timestamp, value, reason, _ = record
    logger.error(
        "a rejected sample is lost, for rejected_samples refuses it: %s; %s=%r at %d ms of "
        "%s, rejected as %s",
        message,
        metric,
        value,
        timestamp,
        f"source {source_id}" if labels is None else labels[:200],
        reason,
        extra={"fault": "rejected_samples"},
    )
