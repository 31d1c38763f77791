"""Commits a batch: rows to `app_logs`, incomplete rows to where they wait, all else as rejected."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from enum import Enum, auto
from typing import Final, NamedTuple
from weakref import WeakSet

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random

from receiver.errors import (
    ConflictingTransactionError,
    MissingReferenceError,
    RefusedByDatabaseError,
    StatementRefusedError,
)
from receiver.rows.model import Fate, Fates, Half, Metric, Reason, Row, Sample, Source
from receiver.storage import queries
from receiver.storage.connection.database import Connection, Database
from receiver.storage.writing.chunks import Chunks
from receiver.storage.writing.codes import Codes
from receiver.storage.writing.each import REFUSALS
from receiver.storage.writing.inserting import (
    Inserted,
    copy_logs,
    insert_each,
    insert_logs,
    samples_of,
)
from receiver.storage.writing.pending import meet, settle_at_once, take_others
from receiver.storage.writing.records import (
    KEY,
    Contents,
    HalfRecord,
    LogRecord,
    Refusal,
    RejectedRecord,
    half_records,
    key_records,
    log_records,
    rejected_records,
)
from receiver.storage.writing.references import References
from receiver.storage.writing.rejecting import reject_samples
from receiver.storage.writing.sources import Sources

logger = logging.getLogger(__name__)

ATTEMPTS: Final = 5
COPY_REST: Final = 60.0
"""Seconds without COPY after the database has refused it, whatever the rows."""
MAX_SHOWN: Final = 200
"""Characters of labels that are logged."""


class Options(NamedTuple):
    """How batches are written."""

    chunk_interval: timedelta = timedelta(days=1)
    """Time range of one chunk."""
    new_sources: int | None = None
    """How many may be added in an hour, as of codes and chunks; None: any number."""
    new_codes: int | None = None
    new_chunks: int | None = None
    checks_batches: bool = True
    """Whether references are checked once a batch, where that is possible."""


DEFAULTS: Final = Options()


class How(Enum):
    """How rows are written."""

    COPY = auto()
    """None is there yet: the fastest."""
    INSERT = auto()
    """Some may be there."""
    EACH = auto()
    """The database may refuse some."""


class LogWriter:
    """Commits batches.

    Args:
        database: Where to.
        names: What the two metrics are called.
        count: Is given what became of the samples, after each commit.
        options: How to.
    """

    def __init__(
        self,
        database: Database,
        names: Mapping[Metric, str],
        count: Callable[[Fates], None] = lambda _: None,
        options: Options = DEFAULTS,
    ) -> None:
        self._database = database
        self._names = names
        self._count = count
        self._sources = Sources(database, options.new_sources)
        self._codes = Codes(database, options.new_codes)
        self._chunks = Chunks(database, options.chunk_interval, options.new_chunks)
        self._references = References(database, enabled=options.checks_batches)
        # Sources of which the database has refused a row: theirs must not slow down all others.
        self._suspects: WeakSet[Source] = WeakSet()
        self._copy_rests_until = 0.0

    def are_suspect(self, samples: Collection[Sample]) -> bool:
        """Return whether the database has refused something of the source of one of these."""
        return bool(self._suspects) and any(
            series.source in self._suspects for series, _, _ in samples
        )

    async def write(self, contents: Contents) -> None:
        """Commit everything, whatever it takes; what the database refuses, as rejected.

        Raises:
            UnavailableError: not everything is committed; writing the same again is safe.
        """
        usual = How.COPY if time.monotonic() >= self._copy_rests_until else How.INSERT
        if not self._suspects or self._suspects.isdisjoint(contents.sources()):
            await self._write(contents, usual)
            return
        good, suspect = contents.part(lambda source: source not in self._suspects)
        try:
            if good.size():
                await self._write(good, usual)
            await self._write(suspect, How.EACH)
        except StatementRefusedError:
            # Beside those that are stored it can be told whether it is the fault of the others.
            await self._write(contents, How.EACH)

    async def _write(self, contents: Contents, how: How) -> None:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(ConflictingTransactionError),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random(0, 0.05),
            reraise=True,
        ):
            with attempt:
                await self._write_somehow(contents, how)

    async def _write_somehow(self, contents: Contents, how: How) -> None:
        while True:
            if how is How.EACH:
                self._forget(contents)
            try:
                await self._transact(await self._admit(contents), how)
            except REFUSALS as error:
                if how is How.EACH:
                    raise
                if isinstance(error, MissingReferenceError):
                    self._forget(contents)
                if isinstance(error, StatementRefusedError) and how is How.COPY:
                    self._rest_copy()
                refused = isinstance(error, RefusedByDatabaseError)
                how = How.INSERT if how is How.COPY and not refused else How.EACH
            else:
                return

    def _rest_copy(self) -> None:
        # Row-level security, or a column that has another type: INSERT may do where COPY does not.
        self._copy_rests_until = time.monotonic() + COPY_REST

    def _forget(self, contents: Contents) -> None:
        # Somebody may have deleted or renumbered a source or a code.
        self._codes.forget()
        for source in contents.sources():
            source.id = None

    async def _admit(self, contents: Contents) -> Contents:
        """See to what rows refer to; reject those for which that must not or cannot be there."""
        sources = await self._sources.resolve(contents.sources())
        codes = await self._codes.resolve(contents.codes())
        chunks = await self._chunks.resolve(contents.timestamps())
        if not (sources or codes or chunks):
            return contents

        def refuse(entry: Row | Half) -> Refusal | None:
            timestamp, source, status, *_ = entry
            return (
                sources.get(source)
                or chunks.get(self._chunks.of(timestamp))
                or (None if status is None else codes.get(int(status)))
            )

        return contents.without(refuse)

    async def _transact(self, contents: Contents, how: How, copied: int = 0) -> None:
        """Write everything in one transaction; its locks come in one order for all transactions.

        That order is: pending halves, error codes, logs, rejected samples, each sorted.
        """
        logs, halves = log_records(contents.rows), half_records(contents.halves)
        if how is How.COPY and not (halves or contents.rejected):
            copied = await self._references.copy(logs)
            if copied < len(logs):
                await self._transact(contents, How.INSERT, copied)
                return
            self._count(Fates({Fate.STORED: 2 * copied, Fate.DUPLICATE: contents.repeated}))
            return
        each = how is How.EACH
        rejected = rejected_records(contents.rejected, self._names)
        broken = key_records(contents.broken)
        waiting: list[HalfRecord] = []
        fates = Fates({Fate.DUPLICATE: contents.repeated})
        async with self._database.transaction() as connection:
            if halves:
                met = await meet(connection, halves, self._names, each=each)
                logs = sorted(logs + met.completed, key=KEY)
                needed = {log[2] for log in met.completed}
                refused = await self._codes.ensure(connection, needed, each=each)
                rejected += [
                    sample
                    for log in logs
                    if log[2] in refused
                    for sample in samples_of(log, self._names, Reason.REFUSED, refused[log[2]])
                ]
                logs = [log for log in logs if log[2] not in refused]
                waiting = met.waiting
                rejected += met.rejected
                broken += met.broken
                fates[Fate.DUPLICATE] += met.repeated
            rejected += await take_others(connection, sorted(broken), self._names)
            if not (logs and how is How.COPY):
                await connection.execute(queries.MARK_WAL)
            if logs:
                inserted = await self._insert(connection, logs, how)
                stored = inserted.stored + copied
                fates[Fate.STORED] += 2 * stored
                fates[Fate.DUPLICATE] += 2 * (len(logs) - stored) - len(inserted.rejected)
                rejected += inserted.rejected
            if waiting:
                settled = await settle_at_once(connection, waiting, self._names)
                fates[Fate.DUPLICATE] += settled.repeated
                rejected += settled.rejected
            fates += await reject_samples(connection, rejected, each=each)
        self._suspect(contents, rejected)
        self._count(fates)

    async def _insert(self, connection: Connection, logs: list[LogRecord], how: How) -> Inserted:
        if how is How.EACH:
            return await insert_each(connection, logs, self._names)
        if how is How.INSERT:
            return await insert_logs(connection, logs, self._names)
        copied = await copy_logs(connection, logs)
        if copied == len(logs):
            return Inserted(copied, [])
        stored, rejected = await insert_logs(connection, logs, self._names)
        return Inserted(copied + stored, rejected)

    def _suspect(self, contents: Contents, rejected: list[RejectedRecord]) -> None:
        """Remember of which sources the database has refused something, and log why."""
        refused = {record[0]: record for record in rejected if record[6] == Reason.REFUSED}
        if not (refused or self._suspects):
            return
        for source in contents.sources():
            if source.id in refused:
                self._suspects.add(source)
            else:
                self._suspects.discard(source)
        for source_id, _, labels, *_, detail in refused.values():
            logger.warning(
                "the database refuses samples of %s, which are rejected: %s",
                f"source {source_id}" if labels is None else labels[:MAX_SHOWN],
                detail,
                extra={"fault": "refused_by_database"},
            )
