"""The storage as the rest of the receiver sees it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from itertools import count
from typing import Self, TypeAlias

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from receiver.config.settings import Settings
from receiver.errors import DatabaseUnavailableError, ReceiverError, StatementRefusedError
from receiver.rows.batch import Batch, Outcomes, TimeWindow
from receiver.rows.model import Sample
from receiver.rows.reasons import Reason
from receiver.storage.connection.database import Database, translated
from receiver.storage.reading.observing import observe
from receiver.storage.schema.declaration import declaration_obstacle
from receiver.storage.schema.keeping import keep_reports
from receiver.storage.schema.partitions import make_next_parts
from receiver.storage.schema.retention import delete_old
from receiver.storage.schema.revisions import check_schema, migrate
from receiver.storage.writing.group_commit import Batching, GroupCommit
from receiver.storage.writing.records import Contents
from receiver.storage.writing.rehearsal import rehearse, write_and_take_back
from receiver.storage.writing.settling import settle_waiting
from receiver.storage.writing.sources import keep_all_keys
from receiver.storage.writing.writer import Options, Writer
from receiver.telemetry.metrics import Metrics

Duty: TypeAlias = Callable[[], Awaitable[None]]

logger = logging.getLogger(__name__)


class Store:
    """Stores samples and maintains the database.

    Entering returns at once; a background task (`opening`) then waits for the database, and until
    it is ready nothing can be stored.

    Args:
        settings: The receiver's settings.
        arriving: Returns how many requests in flight have not called `store` yet.
        metrics: The metrics to update.
    """

    def __init__(
        self, settings: Settings, arriving: Callable[[], int], metrics: Metrics | None = None
    ) -> None:
        self._settings = settings
        self._metrics = metrics or Metrics()
        self.database = Database(settings)
        self.reachable = False
        """Whether the database was available at the last attempt to use it."""
        self._declared = False
        """Whether the declaration in force is this receiver's."""
        self._obstacle: str | None = None
        """Why nothing may be stored, if another declaration is in force."""
        self._trouble: str | None = None
        """Why no row can be stored, if tables or privileges are at fault."""
        self._refused = False
        """Whether the last batch was refused for a reason other than its rows."""
        self._writing_back = asyncio.Lock()
        self._rehearsals = count()
        self._last_rehearsal = -1
        """The number of the rehearsal that `_trouble` is the result of."""
        self._writer = Writer(
            self.database,
            settings.catalogue,
            self._metrics.count_fates,
            Options(
                settings.chunk_interval,
                settings.max_new_sources,
                settings.max_new_codes,
                settings.max_new_chunks,
                settings.reference_checks == "batch",
            ),
        )
        window = TimeWindow(settings.max_sample_age, settings.max_sample_lead)
        self.queue = GroupCommit(
            self._write,
            arriving,
            partial(Batch, window),
            Batching(
                settings.pair_linger,
                settings.writers,
                settings.chunk_interval,
                settings.commit_timeout,
            ),
            self._writer.are_suspect,
        )
        self._resources = AsyncExitStack()
        self._open = False
        self._absence = "the database has not answered yet"
        """Why the database has not been opened."""

    async def __aenter__(self) -> Self:
        self._resources.push_async_callback(self.database.close)
        await self._resources.enter_async_context(self.queue)
        self.opening = asyncio.create_task(self._wait_for_database())
        self._maintenance = asyncio.create_task(self._maintain())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._open = False
        self.opening.cancel()
        self._maintenance.cancel()
        await asyncio.gather(self.opening, self._maintenance, return_exceptions=True)
        await self._resources.aclose()

    async def store(self, samples: Collection[Sample]) -> Outcomes:
        """Store samples; return when they are committed.

        Args:
            samples: The samples of a request that the tables take. If there are none, the database
                is not used, but tables that are declared differently may take some.

        Raises:
            UnavailableError: they are not committed; sending them again is safe.
        """
        if not samples:
            if self._obstacle is not None:
                raise StatementRefusedError(self._obstacle)
            return Outcomes()
        self._require_open()
        return await self.queue.store(samples)

    def _require_open(self) -> None:
        if not self._open:
            raise DatabaseUnavailableError(self._absence)

    async def _write(self, contents: Contents) -> None:
        # One time limit for the whole batch, including retries and splitting: the sender must have
        # an answer before it gives up and sends the same samples again.
        with self._metrics.time_commit(contents.row_count()), self._noticing(), translated():
            async with asyncio.timeout(self._settings.commit_timeout.total_seconds()):
                if self._trouble is not None:
                    await self._rehearse()
                try:
                    await self._writer.write(contents)
                except StatementRefusedError:
                    self._refused = True
                    raise
                self._refused = False

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        """Record whether the database is available."""
        try:
            yield
        except DatabaseUnavailableError:
            self.reachable = False
            raise
        self.reachable = True

    async def check(self) -> None:
        """Check that samples can be stored now.

        Raises:
            UnavailableError: they cannot be stored.
        """
        self._require_open()
        with self._noticing():
            await self.database.check()
            await self.database.check_nodes()
            await self._rehearse()

    async def _rehearse(self) -> None:
        """Check that rows can be stored in the tables; log when that changes.

        Raises:
            StatementRefusedError: they cannot be stored.
            DatabaseUnavailableError: the check cannot be made.
        """
        number = next(self._rehearsals)
        # One transaction for each table: a single one could deadlock with a transaction that
        # changes several tables.
        async with self.database.connection() as connection:
            catalogue = self._settings.catalogue
            obstacle = await declaration_obstacle(connection, catalogue)
            trouble = obstacle or await rehearse(connection, catalogue)
        if trouble is None and self._refused:
            # One at a time: two transactions that both create a chunk would wait for each other.
            async with self._writing_back, self.database.transaction() as connection:
                trouble = await write_and_take_back(connection, self._settings.catalogue)
        # A rehearsal that began earlier may end later, with an outdated result.
        if number > self._last_rehearsal:
            self._last_rehearsal = number
            self._declared, self._obstacle = obstacle is None, obstacle
            self._note(trouble)
        if trouble is not None:
            raise StatementRefusedError(trouble)

    def _note(self, trouble: str | None) -> None:
        if trouble != self._trouble:
            if trouble is None:
                logger.info("rows can be stored again", extra={"event": "storing"})
            else:
                logger.error("no row can be stored: %s", trouble, extra={"event": "not storing"})
        self._trouble = trouble

    async def _wait_for_database(self) -> None:
        bring_up = migrate if self._settings.migrate_on_start else check_schema
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(DatabaseUnavailableError),
            wait=wait_exponential(multiplier=0.1, max=5),
            before_sleep=self._note_absence,
        ):
            with attempt:
                await self.database.open()
                await bring_up(self._settings)
        self._open = self.reachable = True
        logger.info("the database is ready", extra={"event": "ready"})

    def _note_absence(self, attempt: RetryCallState) -> None:
        error = attempt.outcome.exception() if attempt.outcome else None
        self._absence = str(error)
        logger.warning("waiting for the database: %s", error, extra={"fault": "opening"})

    async def _maintain(self) -> None:
        await asyncio.wait({self.opening})
        troubles: dict[Duty, str] = {}
        duties: tuple[Duty, ...] = (self._observe,)
        while self._open:
            with suppress(ReceiverError):
                await self.check()
            for duty in duties:
                # The declaration in force may have samples wait, and rows be kept, for other times.
                if not self._declared and duty in self._by_declaration:
                    continue
                try:
                    await duty()
                except ReceiverError as error:
                    # Log each failure once: a missing privilege may stay missing for days.
                    if troubles.get(duty) != str(error):
                        logger.warning("maintenance failed and will be retried: %s", error)
                    troubles[duty] = str(error)
                except Exception:
                    logger.exception("maintenance failed and will be retried")
                else:
                    troubles.pop(duty, None)
            await asyncio.sleep(self._settings.maintenance_interval.total_seconds())
            # Deletion comes last: it may take until the next round.
            duties = (
                self._settle,
                self._keep_keys,
                self._observe,
                self._keep_reports,
                self._make_parts,
                self._delete_old,
            )

    @property
    def _by_declaration(self) -> tuple[Duty, ...]:
        return (self._settle, self._keep_reports, self._make_parts, self._delete_old)

    async def _settle(self) -> None:
        fates = await settle_waiting(
            self.database, self._settings.catalogue, self._settings.pair_timeout
        )
        self._metrics.count_fates(fates)
        unpaired, conflicts = (
            sum(count for (_, fate), count in fates.items() if fate is reason)
            for reason in (Reason.UNPAIRED, Reason.CONFLICT)
        )
        if unpaired or conflicts:
            logger.warning(
                "rejected %d samples of rows that stayed incomplete, %d that contradict a row",
                unpaired,
                conflicts,
            )

    async def _keep_keys(self) -> None:
        await keep_all_keys(self.database)

    async def _keep_reports(self) -> None:
        await keep_reports(self.database, self._settings)

    async def _make_parts(self) -> None:
        await make_next_parts(self.database, self._settings.catalogue.tables)

    async def _delete_old(self) -> None:
        await delete_old(self.database, self._settings)

    async def _observe(self) -> None:
        self._metrics.show_observed(await observe(self.database, self._settings.catalogue))
