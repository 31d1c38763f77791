"""Commits batches: rows to their tables, incomplete ones to `pending_rows`, others as rejected."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from datetime import timedelta
from enum import Enum, auto
from functools import partial
from typing import Final, NamedTuple
from weakref import WeakSet

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random

from receiver.config.catalogue import digest
from receiver.errors import (
    ConflictingTransactionError,
    MissingReferenceError,
    RefusedByDatabaseError,
    StatementRefusedError,
)
from receiver.rows.model import Row, Sample, Source
from receiver.rows.reasons import Fate, Fates, Reason
from receiver.rows.tables import Catalogue, Table
from receiver.storage.connection.database import Connection, Database
from receiver.storage.schema.declaration import declaration_obstacle
from receiver.storage.writing.chunks import Chunks
from receiver.storage.writing.codes import ensure_codes, make_codes
from receiver.storage.writing.contradicting import take_back
from receiver.storage.writing.each import FEW_CONNECTIONS, REFUSALS
from receiver.storage.writing.inserting import (
    Written,
    add,
    copy_rows,
    insert_each,
    insert_rows,
    samples_stored,
    stored,
)
from receiver.storage.writing.pending import Met, meet, places_of
from receiver.storage.writing.records import (
    ORDER,
    Blocks,
    Contents,
    Record,
    Records,
    Refusal,
    RejectedRecord,
    count_samples,
    rejected_records,
    to_records,
)
from receiver.storage.writing.references import References
from receiver.storage.writing.rejecting import reject_samples
from receiver.storage.writing.repeats import Repeats
from receiver.storage.writing.settling import settle, take_samples
from receiver.storage.writing.sources import Sources

logger = logging.getLogger(__name__)

ATTEMPTS: Final = 5
COPY_REST: Final = 60.0
"""Seconds without COPY after the database has refused it for a reason other than the rows."""
MAX_SHOWN: Final = 200
"""Characters of labels that are logged."""

# Selects one row if the declaration in force is the receiver's, and none otherwise. Writes a few
# bytes of WAL: a transaction that finds everything stored already would write none, and then its
# commit would wait for no synchronous standby, although the transaction that stored the rows may
# have become visible before a standby confirmed it.
CONFIRM: Final = """
SELECT pg_logical_emit_message(true, 'receiver', '') FROM receiver_tables
WHERE digest = decode('{digest}', 'hex')
"""
CONFIRMED: Final = "SELECT 1"
"""The status of `CONFIRM` if it selects a row."""


class Options(NamedTuple):
    """How batches are written."""

    chunk_interval: timedelta = timedelta(days=1)
    """Time range of one chunk."""
    new_sources: int | None = None
    """Maximum number added in an hour, as for codes and chunks; None: any number."""
    new_codes: int | None = None
    new_chunks: int | None = None
    checks_batches: bool = True
    """Whether references are checked once per batch, where that is possible."""


DEFAULTS: Final = Options()


class How(Enum):
    """How rows are written."""

    COPY = auto()
    """No row is stored yet; the fastest way."""
    INSERT = auto()
    """Some rows may be stored already."""
    EACH = auto()
    """The database may refuse some rows."""


class Writer:
    """Commits batches.

    Args:
        database: The database to write to.
        catalogue: The tables.
        count: Takes the outcomes of the samples, after each commit.
        options: How batches are written.
    """

    def __init__(
        self,
        database: Database,
        catalogue: Catalogue,
        count: Callable[[Fates], None] = lambda _: None,
        options: Options = DEFAULTS,
    ) -> None:
        self._database = database
        self._catalogue = catalogue
        self._tables = catalogue.by_name
        self._confirm = CONFIRM.format(digest=digest(catalogue).hex())
        self._count = count
        self._sources = Sources(database, options.new_sources)
        self._codes = make_codes(database, catalogue, options.new_codes)
        self._ensure = partial(ensure_codes, self._codes)
        self._chunks = Chunks(database, options.chunk_interval, options.new_chunks)
        self._references = References(database, enabled=options.checks_batches)
        self._repeats = Repeats()
        # Sources of which the database has refused a row: their rows must not slow down all others.
        self._suspects: WeakSet[Source] = WeakSet()
        self._copy_rests_until = 0.0

    def are_suspect(self, samples: Collection[Sample]) -> bool:
        """Return whether the database has refused a row of a source of these samples."""
        return bool(self._suspects) and any(
            series.source in self._suspects for series, _, _ in samples
        )

    async def write(self, contents: Contents) -> None:
        """Commit everything, by whatever way works; store what the database refuses as rejected.

        Raises:
            UnavailableError: not everything is committed; writing the same contents again is safe.
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
            # Together with rows that can be stored, it shows whether the suspect rows are at fault.
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
        # Somebody may have deleted or renumbered a source or a code.
        outdated = how is How.EACH
        while True:
            try:
                await self._transact(await self._admit(contents, outdated=outdated), how)
            except REFUSALS as error:
                if how is How.EACH:
                    raise
                if isinstance(error, StatementRefusedError) and how is How.COPY:
                    self._rest_copy()
                refused = isinstance(error, RefusedByDatabaseError)
                how = How.INSERT if how is How.COPY and not refused else How.EACH
                outdated = how is How.EACH or isinstance(error, MissingReferenceError)
            else:
                return

    def _rest_copy(self) -> None:
        # With row-level security, or a column of another type, INSERT may work where COPY does not.
        self._copy_rests_until = time.monotonic() + COPY_REST

    async def _admit(self, contents: Contents, *, outdated: bool) -> Contents:
        """Add the sources and codes that rows refer to; reject rows for which that fails.

        Args:
            contents: Rows and rejected samples.
            outdated: Whether to look up known sources and codes, too.
        """
        if outdated:
            for codes_of_table in self._codes.values():
                codes_of_table.forget()
        sources = contents.sources()
        refused: dict[Source, Refusal] = {
            source: Refusal(Reason.LABEL, source.misfit) for source in sources if source.misfit
        }
        refused |= await self._sources.resolve(sources, outdated=outdated)
        codes = {
            name: await self._codes[name].resolve(some) for name, some in contents.codes().items()
        }
        chunks = await self._chunks.resolve(contents.timestamps())
        if not (refused or chunks or any(codes.values())):
            return contents

        def refuse(row: Row) -> Refusal | None:
            timestamp, source, values = row
            table = source.table
            if refusal := refused.get(source) or chunks.get(self._chunks.of(table, timestamp)):
                return refusal
            for column in table.codes:
                value = values[column.slot]
                if value is not None and int(value) in codes[column.codes]:
                    refusal = codes[column.codes][int(value)]
                    return refusal._replace(column=column)
            return None

        return contents.without(refuse)

    async def _transact(self, contents: Contents, how: How) -> None:
        """Write everything in one transaction, which takes locks in the order of all transactions.

        The order is: pending rows, codes, the tables by name, rejected samples, each sorted. Only a
        code that somebody has deleted may be locked after a table.
        """
        fates = Fates(
            {(table, Fate.DUPLICATE): count for table, count in contents.repeated.items()}
        )
        if how is How.COPY and not (contents.incomplete or contents.rejected):
            rows = to_records(contents.rows)
            if is_full(rows):
                if await self._copy(rows, contents.blocks, fates):
                    self._count(fates)
                    return
                # A trigger has discarded some rows: INSERT finds out which.
                how = How.INSERT
        rows = to_records(contents.one_by_one().rows)
        incomplete = to_records(contents.incomplete)
        rejected = await rejected_records(contents.rejected)
        each = how is How.EACH
        async with self._database.transaction(FEW_CONNECTIONS if each else "") as connection:
            written = await self._write_all(connection, contents, rows, incomplete, how)
            rejected += written.rejected
            rejected, repeated = await take_back(connection, self._tables, rejected)
            fates.update(written.fates)
            fates.update(repeated)
            fates.update(await reject_samples(connection, rejected, each=each))
        self._suspect(contents, rejected)
        self._count(fates)

    async def _copy(self, rows: Records, blocks: Blocks, fates: Fates) -> bool:
        """Copy rows of which no sample may be waiting; return whether all of them were stored.

        Args:
            rows: The rows that are not in blocks.
            blocks: The rows in arrays.
            fates: Where to add the outcomes of the samples.
        """
        # Imported here, as numpy takes 10 MiB, which a receiver that has stored nothing yet saves.
        from receiver.storage.writing.copying import gather  # noqa: PLC0415

        arrays = gather(rows, blocks)
        copied = await self._references.copy(arrays)
        if all(copied[table] == len(some) for table, some in arrays.items()):
            for table, some in arrays.items():
                fates.update(samples_stored(table, some.samples.size).fates)
            return True
        for table, count in copied.items():
            fates.update(newly_stored(table, count).fates)
        return False

    async def _write_all(
        self,
        connection: Connection,
        contents: Contents,
        rows: Records,
        incomplete: Records,
        how: How,
    ) -> Written:
        """Write rows to their tables, and incomplete ones to `pending_rows`."""
        each = how is How.EACH
        written = Written(Fates(), [])
        met = Met({}, {}, {}, [], Fates(), {})
        if not each:
            written, incomplete = await self._repeats.take(connection, incomplete)
        if incomplete:
            met = await meet(connection, incomplete, each=each)
            written = add(written, Written(met.fates, met.rejected))
        broken = places_of(contents.broken) | met.broken
        written = add(
            written, await take_samples(connection, rows, broken, self._ensure, each=each)
        )
        if met.completed:
            written.rejected.extend(await self._ensure(connection, met.completed, each=each))
            for table, records in met.completed.items():
                rows[table] = sorted(rows.get(table, []) + records, key=ORDER)
        await self._confirm_declaration(connection)
        for table in sorted({*rows, *met.waiting}, key=lambda table: table.name):
            if table in rows:
                written = add(written, await self._insert(connection, table, rows[table], how))
            if table in met.waiting:
                waiting = met.waiting[table]
                settled = await settle(
                    connection, table, waiting, met.unfit[table], ensure=self._ensure, each=each
                )
                self._repeats.note(table, settled.fates[table.name, Fate.DUPLICATE], len(waiting))
                written = add(written, settled)
        return written

    async def _confirm_declaration(self, connection: Connection) -> None:
        """Check that the declaration in force is still ours, before rows are combined by it.

        Since `pending_rows` was changed before, a migration that changes what waits there has
        committed, or waits for this transaction.

        Raises:
            StatementRefusedError: another declaration is in force.
        """
        if await connection.execute(self._confirm) != CONFIRMED:
            raise StatementRefusedError(await declaration_obstacle(connection, self._catalogue))

    async def _insert(
        self, connection: Connection, table: Table, records: list[Record], how: How
    ) -> Written:
        if how is How.EACH:
            return await insert_each(connection, table, records)
        if how is How.INSERT:
            return await insert_rows(connection, table, records)
        from receiver.storage.writing.copying import from_records  # noqa: PLC0415

        copied = await copy_rows(connection, from_records(table, records))
        if copied == len(records):
            return stored(table, records)
        # A trigger has discarded some rows: INSERT finds out which.
        return add(await insert_rows(connection, table, records), newly_stored(table, copied))

    def _suspect(self, contents: Contents, rejected: list[RejectedRecord]) -> None:
        """Remember the sources of which the database has refused a row, and log why."""
        refused = {
            (record.table, record.source_id): record
            for record in rejected
            if record.reason is Reason.REFUSED
        }
        if not (refused or self._suspects):
            return
        for source in contents.sources():
            if (source.table.name, source.id) in refused:
                self._suspects.add(source)
            else:
                self._suspects.discard(source)
        for record in refused.values():
            labels = record.labels
            logger.warning(
                "the database refuses samples of %s for %s, which are rejected: %s",
                f"source {record.source_id}" if labels is None else labels[:MAX_SHOWN],
                record.table,
                record.detail,
                extra={"fault": "refused_by_database"},
            )


def is_full(rows: Records) -> bool:
    """Return whether every row has a sample of each column, so that none may be waiting."""
    return all(
        count_samples(table, records) == table.width * len(records)
        for table, records in rows.items()
    )


def newly_stored(table: Table, copied: int) -> Written:
    """Count rows that COPY has stored as stored, although INSERT then finds them as duplicates."""
    samples = table.width * copied
    fates = Fates({(table.name, Fate.STORED): samples, (table.name, Fate.DUPLICATE): -samples})
    return Written(fates, [])
