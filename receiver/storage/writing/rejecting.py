"""Stores rejected samples in the table `rejected_samples`."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

from receiver.rows.reasons import Fate, Fates, Reason
from receiver.storage.connection.connecting import is_distributed
from receiver.storage.connection.database import Connection
from receiver.storage.writing.distributed import FIND_KEPT, SAMPLES
from receiver.storage.writing.each import run_for_each
from receiver.storage.writing.records import RejectedRecord, pieces
from receiver.storage.writing.registry import DISCARDED

logger = logging.getLogger(__name__)

_REJECT: Final = """
INSERT INTO rejected_samples (source_id, source_digest, source_labels, metric, timestamp_ms, value,
    reason, detail, table_name, column_name)
"""

# Returns the table and the reason of each sample that was not rejected before.
REJECT_SAMPLES: Final = f"""
{_REJECT}
SELECT source_id, digest, labels::jsonb, metric, timestamp_ms, value, reason, detail, table_name,
    column_name
FROM unnest(
    $1::int[], $2::bytea[], $3::text[], $4::text[], $5::bigint[], $6::double precision[],
    $7::text[], $8::text[], $9::text[], $10::text[]
) AS sample (source_id, digest, labels, metric, timestamp_ms, value, reason, detail,
    table_name, column_name)
ORDER BY timestamp_ms, source_id, digest, metric, value, reason, table_name
ON CONFLICT DO NOTHING
RETURNING table_name, reason
"""

# The same, where the database may refuse some; fails for those that were rejected before.
REJECT_EACH_SAMPLE: Final = f"""
{_REJECT}
SELECT (sample ->> 0)::int, decode(sample ->> 1, 'hex'), (sample ->> 2)::jsonb, sample ->> 3,
    (sample ->> 4)::bigint, (sample ->> 5)::double precision, sample ->> 6, sample ->> 7,
    sample ->> 8, sample ->> 9
FROM unnest($1) AS sample
ORDER BY 5, 1, 2, 4, 6, 7, 9
"""

# The places in the list of the samples that are not stored.
FIND_DISCARDED: Final = f"""
SELECT sample.place - 1 FROM {SAMPLES}
LEFT JOIN LATERAL (
    SELECT true AS there FROM rejected_samples r
    WHERE (r.source_id, r.metric, r.timestamp_ms, r.value, r.reason, r.table_name)
        = (sample.source_id, sample.metric, sample.timestamp_ms, sample.value, sample.reason,
           sample.table_name)
    LIMIT 1
) AS with_source ON true
LEFT JOIN LATERAL (
    SELECT true AS there FROM rejected_samples r
    WHERE (r.source_digest, r.metric, r.timestamp_ms, r.value, r.reason, r.table_name)
        = (sample.digest, sample.metric, sample.timestamp_ms, sample.value, sample.reason,
           sample.table_name)
      AND r.source_id IS NULL
    LIMIT 1
) AS without_source ON true
WHERE COALESCE(with_source.there, without_source.there) IS NULL
"""


async def reject_samples(
    connection: Connection, rejected: list[RejectedRecord], *, each: bool = False
) -> Fates:
    """Store rejected samples; those that were rejected before are duplicates.

    Args:
        connection: Must be in a transaction.
        rejected: The samples.
        each: Whether the database may refuse some. These are logged: there is nowhere else to store
            them, and failing would keep all other samples of their sender from being stored.
    """
    fates = Fates()
    reject = reject_each if each else reject_all
    for piece in pieces(rejected, size_of):
        fates += await reject(connection, piece)
    return fates


def size_of(record: RejectedRecord) -> int:
    """Return how many characters the labels of a rejected sample have."""
    return len(record.labels or "")


async def for_tables(connection: Connection, statement: str, source: str) -> str:
    """Return the statement, with the additional distribution column where Citus has added it.

    Args:
        connection: The session.
        statement: Inserts samples.
        source: The expression that it inserts as `source_id`.
    """
    if not await is_distributed(connection):
        return statement
    statement = statement.replace("column_name)", "column_name, shard_key)", 1)
    return statement.replace("\nFROM", f", COALESCE({source}, 0)\nFROM", 1)


async def reject_all(connection: Connection, rejected: list[RejectedRecord]) -> Fates:
    """Store rejected samples of which the database refuses none."""
    reject = await for_tables(connection, REJECT_SAMPLES, "source_id")
    added = await connection.fetch(reject, *zip(*rejected, strict=True))
    fates = Fates((table, Reason(reason)) for table, reason in added)
    if fates.total() == len(rejected):
        return fates
    lost = await find_discarded(connection, rejected)
    for place in lost:
        log_loss(rejected[place], DISCARDED)
    all_of = Counter(record.table for record in rejected)
    lost_of = Counter(rejected[place].table for place in lost)
    for table, number in all_of.items():
        kept = sum(count for (name, _), count in fates.items() if name == table)
        fates[table, Fate.DISCARDED] = lost_of[table]
        fates[table, Fate.DUPLICATE] = number - kept - lost_of[table]
    return fates


async def reject_each(connection: Connection, rejected: list[RejectedRecord]) -> Fates:
    """Store those rejected samples that the database does not refuse."""
    missing = await find_discarded(connection, rejected)
    there = [place for place in range(len(rejected)) if place not in missing]
    # Every existing sample would fail. One of them is tried to show that the statement itself
    # works.
    example = there[:1] if missing else []
    tried = [rejected[place] for place in sorted(missing.union(example))]
    fates = Fates((rejected[place].table, Fate.DUPLICATE) for place in there[len(example) :])
    if tried:
        fates.update(await try_each(connection, tried))
    return fates


async def try_each(connection: Connection, rejected: list[RejectedRecord]) -> Fates:
    """Store those rejected samples that the database does not refuse; most are not stored yet."""
    reject = await for_tables(connection, REJECT_EACH_SAMPLE, "(sample ->> 0)::int")
    failures = await run_for_each(connection, "rejected_samples", reject, rejected)
    lost = await find_discarded(connection, rejected)
    fates = Fates()
    for place, row in enumerate(rejected):
        if place in lost:
            fates[row.table, Fate.DISCARDED] += 1
            log_loss(row, failures[place].message if place in failures else DISCARDED)
        elif place in failures:
            # A sample with the same key exists.
            fates[row.table, Fate.DUPLICATE] += 1
        else:
            fates[row.table, row.reason] += 1
    return fates


async def find_discarded(connection: Connection, rejected: list[RejectedRecord]) -> set[int]:
    """Return the places of the samples that the table does not have."""
    columns = list(zip(*rejected, strict=True))
    keys = columns[0], columns[1], *columns[3:7], columns[8]
    if await is_distributed(connection):
        kept = {place for (place,) in await connection.fetch(FIND_KEPT, *keys)}
        return {*range(len(rejected))} - kept
    return {place for (place,) in await connection.fetch(FIND_DISCARDED, *keys)}


def log_loss(record: RejectedRecord, message: str) -> None:
    """Log a rejected sample that is lost."""
    labels = record.labels
    logger.error(
        "a rejected sample is lost, since rejected_samples refuses it: %s; %s=%r at %d ms of "
        "%s, rejected as %s",
        message,
        record.metric,
        record.value,
        record.timestamp,
        f"source {record.source_id}" if labels is None else labels[:200],
        record.reason,
        extra={"fault": "rejected_samples"},
    )
