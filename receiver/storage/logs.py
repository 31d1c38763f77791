"""Commits a batch: pairs to `app_logs`, halves to where they wait, everything else set aside."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Final

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random

from receiver.errors import (
    ConflictingTransactionError,
    DuplicateRowError,
    MissingReferenceError,
    RefusedByDatabaseError,
    WideBatchError,
)
from receiver.model import Fate, Fates, Metric, Reason
from receiver.pairing import POSTGRES_EPOCH_MS
from receiver.storage import queries
from receiver.storage.database import Connection, Database
from receiver.storage.pending import meet, settle_repeated
from receiver.storage.records import (
    COPY_COLUMNS,
    Contents,
    HalfRecord,
    LogRecord,
    RejectedRecord,
    encode_copy,
    half_records,
    log_records,
    rejected_records,
)
from receiver.storage.sources import resolve_sources

logger = logging.getLogger(__name__)

MAX_KNOWN_CODES: Final = 10_000
ATTEMPTS: Final = 5
CHUNKS_AT_ONCE: Final = 100
"""Chunks that one transaction may have to create: a second or two, and a thousand locks."""


class LogWriter:
    """Commits batches.

    Args:
        database: Where to.
        names: What the two metrics are called.
        chunk_interval: Time range of one chunk.
        count: Is told after each commit what became of its samples.
    """

    def __init__(
        self,
        database: Database,
        names: Mapping[Metric, str],
        chunk_interval: timedelta = timedelta(days=1),
        count: Callable[[Fates], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._count = count
        self._names = names
        self._widest = max(1, chunk_interval // timedelta(milliseconds=1)) * CHUNKS_AT_ONCE
        self._known_codes: set[int] = set()

    async def write(self, contents: Contents) -> None:
        """Commit everything, whatever it takes.

        What the database refuses is divided until the entry at fault stands alone; that one is set
        aside, and everything else is stored. What spans too many chunks is divided too, so that a
        sender that tries again gets further each time.

        Raises:
            UnavailableError: not everything is committed; writing the same again is safe.
        """
        try:
            await self._write_undivided(contents)
        except WideBatchError:
            for part in contents.by_time(self._widest):
                await self.write(part)
        except RefusedByDatabaseError as error:
            if contents.size() > 1:
                for part in contents.split():
                    await self.write(part)
            elif contents.rejected:
                raise
            else:
                logger.warning(
                    "set aside a sample, for %s", error, extra={"fault": "refused_by_database"}
                )
                await self._write_undivided(contents.set_aside())

    async def _write_undivided(self, contents: Contents) -> None:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(ConflictingTransactionError),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random(0, 0.05),
            reraise=True,
        ):
            with attempt:
                try:
                    await self._transact(contents, copy=True)
                except DuplicateRowError:
                    await self._redo(contents)
                except MissingReferenceError:
                    self._forget(contents)
                    await self._redo(contents)

    async def _redo(self, contents: Contents) -> None:
        try:
            await self._transact(contents, copy=False)
        except (DuplicateRowError, MissingReferenceError) as error:
            # Not a key of ours: somebody has added a constraint, which these data break.
            raise RefusedByDatabaseError(str(error)) from error

    def _forget(self, contents: Contents) -> None:
        # Somebody has deleted or renumbered a source or a code.
        self._known_codes.clear()
        for source in contents.sources():
            source.id = None

    async def _transact(self, contents: Contents, *, copy: bool) -> None:
        """Write everything in one transaction; its locks come in one order for all transactions.

        That order is: pending halves, error codes, logs, rejected samples, each sorted.
        """
        await resolve_sources(self._database, contents.sources())
        logs, halves = log_records(contents.rows), half_records(contents.halves)
        self._check_span(logs)
        self._check_span(halves)
        codes = {log[2] for log in logs}
        if copy and not (halves or contents.rejected) and codes <= self._known_codes:
            # The hot path: COPY alone is a transaction too, for one round trip instead of three.
            async with self._database.connection() as connection:
                await copy_logs(connection, logs)
            self._count(Fates({Fate.STORED: 2 * len(logs), Fate.DUPLICATE: contents.repeated}))
            return
        rejected = rejected_records(contents.rejected, self._names)
        waiting: list[HalfRecord] = []
        fates = Fates({Fate.DUPLICATE: contents.repeated})
        async with self._database.transaction() as connection:
            if halves:
                met = await meet(connection, halves, self._names)
                logs = sorted(logs + met.completed)
                codes |= {log[2] for log in met.completed}
                waiting = met.waiting
                rejected += met.conflicts
                fates[Fate.DUPLICATE] += met.repeated
            await self._register_codes(connection, codes)
            if not (logs and copy):
                await connection.execute(queries.MARK_WAL)
            if logs and copy:
                await copy_logs(connection, logs)
                fates[Fate.STORED] += 2 * len(logs)
            elif logs:
                inserted, conflicts = await self._insert(connection, logs)
                fates[Fate.STORED] += 2 * inserted
                fates[Fate.DUPLICATE] += 2 * (len(logs) - inserted) - len(conflicts)
                rejected += conflicts
            if waiting:
                settled = await settle_repeated(connection, waiting, self._names)
                fates += settled.fates()
            if rejected:
                fates += await set_aside(connection, rejected)
        self._remember_codes(codes)
        self._count(fates)

    def _check_span(self, records: Sequence[LogRecord | HalfRecord]) -> None:
        if records and records[-1][0] - records[0][0] > self._widest * 1000:
            raise WideBatchError

    async def _register_codes(self, connection: Connection, codes: set[int]) -> None:
        if unknown := codes - self._known_codes:
            await connection.execute(queries.REGISTER_CODES, list(unknown))

    def _remember_codes(self, codes: set[int]) -> None:
        # Called after the commit: before it, nothing is certain to be there.
        if len(self._known_codes) > MAX_KNOWN_CODES:
            self._known_codes.clear()
        self._known_codes |= codes

    async def _insert(
        self, connection: Connection, logs: list[LogRecord]
    ) -> tuple[int, list[RejectedRecord]]:
        """Store rows of which some are there; returns how many were not, and what contradicts."""
        columns = tuple(zip(*logs, strict=True))[:4]
        status: str = await connection.execute(queries.INSERT_LOGS, *columns)
        inserted = int(status.removeprefix("INSERT 0 "))
        if inserted == len(logs):
            return inserted, []
        await connection.execute(queries.PLAN_FOR_BOUNDS)
        conflicts: list[RejectedRecord] = []
        missing: list[LogRecord] = []
        for place, other_status, other_ocr in await connection.fetch(
            queries.FIND_CONFLICTS, *columns, logs[0][0], logs[-1][0]
        ):
            if other_status is None:
                missing.append(logs[place - 1])
                continue
            created_at, source_id, app_status, _, sample = logs[place - 1]
            timestamp = created_at // 1000 + POSTGRES_EPOCH_MS
            for differs, metric, value in (
                (other_status, Metric.STATUS, float(app_status)),
                (other_ocr, Metric.OCR, sample),
            ):
                if differs:
                    name = self._names[metric]
                    conflicts.append((source_id, name, timestamp, value, Reason.CONFLICT))
        # All are missing where a trigger of somebody's discards them.
        if 0 < len(missing) < len(logs):
            more, others = await self._insert(connection, missing)
            return inserted + more, conflicts + others
        return inserted, conflicts


async def set_aside(connection: Connection, rejected: list[RejectedRecord]) -> Fates:
    """Keep samples that can be no row; those that were set aside before are duplicates."""
    counts = await connection.fetch(queries.REJECT_SAMPLES, *zip(*rejected, strict=True))
    fates = Fates({Reason(reason): count for reason, count in counts})
    fates[Fate.DUPLICATE] = len(rejected) - fates.total()
    return fates


async def copy_logs(connection: Connection, logs: list[LogRecord]) -> None:
    """Store rows of which none is there yet."""
    await connection.copy_to_table(
        "app_logs", source=encode_copy(logs), columns=COPY_COLUMNS, format="binary"
    )
