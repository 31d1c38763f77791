"""The table `rejected_samples`: what can be no row."""

from __future__ import annotations

import logging
from collections import Counter

from receiver.model import Fate, Fates, Reason
from receiver.storage import queries
from receiver.storage.database import Connection
from receiver.storage.each import UNIQUE_VIOLATION, run_for_each
from receiver.storage.records import RejectedRecord, pieces

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
    fates[Fate.DUPLICATE] = len(rejected) - fates.total()
    return fates


async def reject_each(connection: Connection, rejected: list[RejectedRecord]) -> Fates:
    """Keep those samples that the database does not refuse."""
    failures = await run_for_each(
        connection, "rejected_samples", queries.REJECT_EACH_SAMPLE, rejected
    )
    fates = Fates(
        Counter(Reason(row[6]) for place, row in enumerate(rejected) if place not in failures)
    )
    for place, (code, _, message) in failures.items():
        if code == UNIQUE_VIOLATION:
            fates[Fate.DUPLICATE] += 1
            continue
        fates[Fate.DISCARDED] += 1
        source_id, _, labels, metric, timestamp, value, reason, _ = rejected[place]
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
    return fates
