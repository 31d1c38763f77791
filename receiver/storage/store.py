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
from receiver.storage.writing.pending import settle_waiting
from receiver.storage.writing.records import Contents
from receiver.storage.writing.rehearsal import rehearse, write_and_take_back
from receiver.storage.writing.sources import keep_all_keys
from receiver.storage.writing.writer import Options, Writer
from receiver.telemetry.metrics import Metrics

Duty: TypeAlias = Callable[[], Awaitable[None]]

logger = logging.getLogger(__name__)


class Store:
    """Commits samples and keeps the database in order.

    Entering returns at once; the database is then waited for in the background (`opening`), and
    until it is there nothing can be stored.

    Args:
        settings: All of them.
        arriving: How many requests are in flight that have not called `store` yet.
        metrics: Where to count.
    """

    def __init__(
        self, settings: Settings, arriving: Callable[[], int], metrics: Metrics | None = None
    ) -> None:
        self._settings = settings
        self._metrics = metrics or Metrics()
        self.database = Database(settings)
        self.reachable = False
        """Whether rows could be stored when it was tried last."""
        self._trouble: str | None = None
        """Why none could be, where that is the fault of the tables or of rights."""
        self._refused = False
        """Whether the last batch was refused for a reason that is none of its rows'."""
        self._writing_back = asyncio.Lock()
        self._rehearsals = count()
        self._last_rehearsal = -1
        """The number of the one that `_trouble` is of."""
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
        """Return when the samples are committed.

        Raises:
            UnavailableError: they are not; sending them again is safe.
        """
        self._require_open()
        return await self.queue.store(samples)

    def _require_open(self) -> None:
        if not self._open:
            raise DatabaseUnavailableError("the database has not answered yet")

    async def _write(self, contents: Contents) -> None:
        # One limit for all that a batch may take, redoing and dividing included: the sender must
        # have an answer before it gives up and sends the same again.
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
        """Remember whether rows can be stored."""
        try:
            yield
        except DatabaseUnavailableError:
            self.reachable = False
            raise
        self.reachable = True

    async def check(self) -> None:
        """Check that samples can be stored now.

        Raises:
            UnavailableError: they cannot.
        """
        self._require_open()
        with self._noticing():
            await self.database.check()
            await self.database.check_nodes()
            await self._rehearse()

    async def _rehearse(self) -> None:
        """Check that the tables are as storing rows needs them; log when that changes.

        Raises:
            StatementRefusedError: they are not.
            DatabaseUnavailableError: it cannot be found out.
        """
        number = next(self._rehearsals)
        # One transaction for each table: a change of several must not end in a deadlock.
        async with self.database.connection() as connection:
            catalogue = self._settings.catalogue
            trouble = await declaration_obstacle(connection, catalogue)
            trouble = trouble or await rehearse(connection, catalogue)
        if trouble is None and self._refused:
            # One at a time: two that both have a chunk made would wait for each other.
            async with self._writing_back, self.database.transaction() as connection:
                trouble = await write_and_take_back(connection, self._settings.catalogue)
        # One that began earlier may end later, with what no longer holds.
        if number > self._last_rehearsal:
            self._last_rehearsal = number
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
            before_sleep=tell_of_absence,
        ):
            with attempt:
                await self.database.open()
                await bring_up(self._settings)
        self._open = self.reachable = True
        logger.info("the database is ready", extra={"event": "ready"})

    async def _maintain(self) -> None:
        await asyncio.wait({self.opening})
        troubles: dict[Duty, str] = {}
        duties: tuple[Duty, ...] = (self._observe,)
        while self._open:
            with suppress(ReceiverError):
                await self.check()
            for duty in duties:
                try:
                    await duty()
                except ReceiverError as error:
                    # Once for each trouble: a right that is missing stays so for days.
                    if troubles.get(duty) != str(error):
                        logger.warning("maintenance failed and will be tried again: %s", error)
                    troubles[duty] = str(error)
                else:
                    troubles.pop(duty, None)
            await asyncio.sleep(self._settings.maintenance_interval.total_seconds())
            # Deletion comes last: it may take as long as it is until the next round.
            duties = (
                self._settle,
                self._keep_keys,
                self._observe,
                self._keep_reports,
                self._make_parts,
                self._delete_old,
            )

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


def tell_of_absence(attempt: RetryCallState) -> None:
    """Say that the database is waited for."""
    error = attempt.outcome.exception() if attempt.outcome else None
    logger.warning("waiting for the database: %s", error, extra={"fault": "opening"})
