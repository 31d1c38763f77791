"""The table `app_logs`: complete rows, each source and time once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from receiver.rows.batch import POSTGRES_EPOCH_MS
from receiver.rows.model import Metric, Reason
from receiver.storage import queries
from receiver.storage.connection.database import Connection
from receiver.storage.writing.each import UNIQUE_VIOLATION, run_for_each
from receiver.storage.writing.records import (
    COPY_COLUMNS,
    KEY,
    LogRecord,
    RejectedRecord,
    encode_copy,
)
from receiver.storage.writing.registry import DISCARDED

FIND_KEY: Final = """
SELECT COALESCE(min(conname), 'app_logs_pkey') FROM pg_constraint
WHERE conrelid = to_regclass('app_logs') AND contype = 'p'
"""


class Inserted(NamedTuple):
    """What became of rows; those that are neither were stored already."""

    stored: int
    rejected: list[RejectedRecord]
    """Samples of the others that cannot be stored."""


class Compared(NamedTuple):
    """What the table has of rows."""

    conflicts: list[RejectedRecord]
    """Samples of which it has other values."""
    missing: list[int]
    """The places of the rows that it does not have."""


async def copy_logs(connection: Connection, logs: list[LogRecord]) -> int:
    """Store rows of which none is there yet; return how many a trigger did not discard."""
    status: str = await connection.copy_to_table(
        "app_logs", source=encode_copy(logs), columns=COPY_COLUMNS, format="binary"
    )
    return int(status.removeprefix("COPY "))


async def insert_logs(
    connection: Connection, logs: list[LogRecord], names: Mapping[Metric, str]
) -> Inserted:
    """Store rows of which some may be there; of several with one key, the first.

    Args:
        connection: In a transaction.
        logs: The rows, sorted by their keys.
        names: What the two metrics are called.
    """
    firsts = [next(same) for _, same in groupby(logs, KEY)]
    status: str = await connection.execute(queries.INSERT_LOGS, *columns(firsts))
    stored = int(status.removeprefix("INSERT 0 "))
    if stored == len(logs):
        return Inserted(stored, [])
    conflicts, places = await compare(connection, logs, names)
    missing = [logs[place] for place in places]
    if not missing:
        return Inserted(stored, conflicts)
    # Where all are missing, it is no fault of TimescaleDB's (see FIND_CONFLICTS): a trigger has
    # discarded them, or given them other keys.
    again = insert_logs if len(missing) < len(logs) else insert_each
    more, rejected = await again(connection, missing, names)
    return Inserted(stored + more, conflicts + rejected)


async def insert_each(
    connection: Connection, logs: list[LogRecord], names: Mapping[Metric, str]
) -> Inserted:
    """Store rows of which the database may refuse some.

    The arguments are those of `insert_logs`.

    Raises:
        StatementRefusedError: it refuses all, for a reason that is none of theirs.
    """
    failures = await run_for_each(
        connection, "app_logs", queries.INSERT_EACH_LOG, [log[:4] for log in logs]
    )
    key = await connection.fetchval(FIND_KEY)
    # That of a chunk has its number before its name.
    there = {
        place
        for place, (code, constraint, _) in failures.items()
        if code == UNIQUE_VIOLATION and constraint.endswith(key)
    }
    conflicts, missing = await compare(connection, logs, names)
    refused = {
        place: failures[place].message if place in failures else DISCARDED
        for place in missing
        # A row that is there under another key was given it by a trigger.
        if place not in there
    }
    rejected = [
        sample
        for place, message in refused.items()
        for sample in samples_of(logs[place], names, Reason.REFUSED, message)
    ]
    return Inserted(len(logs) - len(there) - len(refused), conflicts + rejected)


async def compare(
    connection: Connection, logs: list[LogRecord], names: Mapping[Metric, str]
) -> Compared:
    """Find out which rows the table does not have, and which it has with other values."""
    conflicts: list[RejectedRecord] = []
    missing: list[int] = []
    sources = list({log[1] for log in logs})
    for place, other_status, other_ocr in await connection.fetch(
        queries.FIND_CONFLICTS, *columns(logs), logs[0][0], logs[-1][0], sources
    ):
        if other_status is None:
            missing.append(place - 1)
            continue
        status, ocr = samples_of(logs[place - 1], names, Reason.CONFLICT)
        conflicts += [status] * other_status + [ocr] * other_ocr
    return Compared(conflicts, missing)


def columns(logs: Sequence[LogRecord]) -> tuple[tuple[object, ...], ...]:
    """Turn rows into the columns of the table."""
    return tuple(zip(*logs, strict=True))[:4]


def samples_of(
    log: LogRecord, names: Mapping[Metric, str], reason: Reason, detail: str | None = None
) -> Iterator[RejectedRecord]:
    """Turn a row into its two samples, as rejected."""
    created_at, source_id, _, _, status_sample, ocr_sample = log
    timestamp = created_at // 1000 + POSTGRES_EPOCH_MS
    for metric, value in ((Metric.STATUS, status_sample), (Metric.OCR, ocr_sample)):
        yield source_id, None, None, names[metric], timestamp, value, reason, detail
