"""Group commit: requests that arrive while a transaction runs share the next one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from datetime import timedelta
from typing import Final, NamedTuple, Self

from receiver.errors import DatabaseUnavailableError, ReceiverError, ShuttingDownError
from receiver.rows.batch import MILLISECOND, Batch, Outcomes
from receiver.rows.model import Sample
from receiver.storage.writing.gathering import Gathering, Joined, clear, renew
from receiver.storage.writing.parting import MAX_REFUSED, MAX_SAMPLES, chunks_of, part
from receiver.storage.writing.records import Contents

logger = logging.getLogger(__name__)

LONGEST_WAIT: Final = 0.5
"""Maximum seconds to wait for another commit: if it takes longer, the database has a problem."""
LONGEST_GROWTH: Final = 0.025
"""Maximum seconds for which a batch grows while others are being committed."""
DAY: Final = timedelta(days=1)
FAULT: Final = "a batch could not be written"


class Batching(NamedTuple):
    """How requests are batched."""

    delay: timedelta
    """How long an incomplete row may wait for its other samples."""
    writers: int
    """How many transactions may run at once."""
    chunk_interval: timedelta = DAY
    """Time range of one chunk."""
    time_limit: timedelta = DAY
    """How long a request may take to commit its parts."""


class GroupCommit:
    """Stores the samples of many requests in few transactions.

    A lone request commits at once: there is no timer on the idle path. The commit waits only if a
    row is incomplete and other requests may bring its other samples: first while another batch is
    being committed, since its senders send more as soon as they are answered, and then at most for
    the batching delay. Rows that are still incomplete are passed on to the next batch, as long as
    that lets other requests be answered, and finally wait in the database. While other batches are
    being committed, a batch also grows until it has as many requests as they have, for
    `LONGEST_GROWTH` at most. A large request commits in parts, with other requests in between.

    Args:
        write: Commits one batch.
        arriving: Counts the requests in flight that have not called `store` yet.
        make_batch: Makes an empty batch.
        batching: How requests are batched.
        are_suspect: Returns whether the database may refuse some samples, which makes a commit
            slow.
    """

    def __init__(
        self,
        write: Callable[[Contents], Awaitable[None]],
        arriving: Callable[[], int],
        make_batch: Callable[[], Batch],
        batching: Batching,
        are_suspect: Callable[[Collection[Sample]], bool] = lambda _: False,
    ) -> None:
        self._write = write
        self._are_suspect = are_suspect
        self._arriving = arriving
        self._make_batch = make_batch
        self._linger = batching.delay.total_seconds()
        self._writers = batching.writers
        self._width = max(1, batching.chunk_interval // MILLISECOND)
        self._time_limit = batching.time_limit
        self._turn = asyncio.Lock()
        self._waiting = asyncio.Event()
        self._changed = asyncio.Event()
        self._committing: set[Gathering] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._without_room = 0
        self._closed = False

    async def __aenter__(self) -> Self:
        self._gathering = Gathering(self._make_batch())
        self._tasks = [asyncio.create_task(self._run()) for _ in range(self._writers)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._closed = True
        self._gathering.closed.set()
        self._gathering.committed.set_result(ShuttingDownError())

    @property
    def requests(self) -> int:
        """Return how many requests wait for their commit."""
        joined = sum(len(one.joined) for one in (self._gathering, *self._committing))
        return joined + self._without_room

    @property
    def oldest_age(self) -> float:
        """Return how many seconds the oldest request in a batch has waited; 0 without any."""
        now = asyncio.get_running_loop().time()
        since = min(one.since for one in (self._gathering, *self._committing))
        return max(0.0, now - since)

    async def store(self, samples: Collection[Sample]) -> Outcomes:
        """Store samples; return when they are committed.

        Raises:
            UnavailableError: they are not committed; sending them again is safe.
        """
        clock = asyncio.get_running_loop().time
        start = clock()
        outcomes = Outcomes()
        suspect = self._are_suspect(samples)

        def limit() -> int:
            slow = suspect or outcomes.rejected > outcomes.accepted
            return MAX_REFUSED if slow else MAX_SAMPLES

        async for some in part(samples, self._width, limit):
            if outcomes != Outcomes() and clock() - start > self._time_limit.total_seconds():
                raise DatabaseUnavailableError(
                    f"not all of the request could be committed within {self._time_limit} "
                    "(RECEIVER_COMMIT_TIMEOUT); send it again for the rest"
                )
            outcomes = outcomes.plus(await self._store(some))
        return outcomes

    async def _store(self, samples: Collection[Sample]) -> Outcomes:
        joined = await self._join(samples)
        if joined.has_news:
            self._gathering.crowded |= bool(self._committing)
            self._changed.set()
            self._waiting.set()
            await joined.wait()
        return joined.outcomes

    async def _join(self, samples: Collection[Sample]) -> Joined:
        chunks = chunks_of(samples, self._width)
        self._without_room += 1
        try:
            while not self._closed and not self._gathering.has_room(samples, chunks):
                await self._gathering.closed.wait()
        finally:
            self._without_room -= 1
        if self._closed:
            raise ShuttingDownError
        return self._gathering.join(samples, chunks)

    async def _run(self) -> None:
        while True:
            await self._commit_next()

    async def _commit_next(self) -> None:
        # One writer gathers at a time, so that it knows whether the others are committing.
        async with self._turn:
            await self._waiting.wait()
            await self._wait_for_others()
            gathering, self._gathering = self._gathering, Gathering(self._make_batch())
            contents = self._close(gathering)
        if contents is not None:
            await self._commit(gathering, contents)

    def _close(self, gathering: Gathering) -> Contents | None:
        """Close a batch and return what to commit, if anything."""
        batch, contents = gathering.batch, None
        try:
            batch.close()
            if self._linger and batch.is_incomplete:
                gathering.pass_on(self._gathering)
            if batch:
                contents = contents_of(batch)
            else:
                # All rows were passed on to the next batch, and the requests wait for that one.
                gathering.committed.set_result(None)
        except Exception as error:
            logger.exception(FAULT, extra={"fault": type(error).__name__})
            fail(gathering, error)
        gathering.closed.set()
        if not self._gathering.joined:
            self._waiting.clear()
        return contents

    async def _wait_for_others(self) -> None:
        await self._wait_while(self._has_few, LONGEST_GROWTH)
        await self._wait_for_rest(lambda: bool(self._committing), LONGEST_WAIT)
        await self._wait_for_rest(
            lambda: self._gathering.crowded or self._arriving() > 0, self._linger
        )

    def _has_few(self) -> bool:
        """Return whether the batch has fewer requests than those that are being committed.

        With many senders, half of them are answered while the others send: two transactions run at
        a time, and a few large ones cost the database much less than many small ones. A lone
        request does not wait for a large one.
        """
        return len(self._gathering.joined) < sum(len(one.joined) for one in self._committing)

    async def _wait_for_rest(self, others_may_come: Callable[[], bool], seconds: float) -> None:
        """Wait as long as rows are incomplete and their other samples may come."""
        await self._wait_while(
            lambda: self._gathering.batch.is_incomplete and others_may_come(), seconds
        )

    async def _wait_while(self, should_wait: Callable[[], bool], seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while should_wait():
                    self._changed.clear()
                    await self._changed.wait()

    async def _commit(self, gathering: Gathering, contents: Contents) -> None:
        committed = gathering.committed
        self._committing.add(gathering)
        try:
            await self._write(contents)
        except asyncio.CancelledError:
            committed.set_result(ShuttingDownError())
            raise
        except ReceiverError as error:
            committed.set_result(renew(error))
            clear(error)
        except Exception as error:
            logger.exception(FAULT, extra={"fault": type(error).__name__})
            fail(gathering, error)
        else:
            committed.set_result(None)
        finally:
            self._committing.remove(gathering)
            self._changed.set()


def contents_of(batch: Batch) -> Contents:
    """Return what a closed batch writes."""
    return Contents(
        batch.rows(),
        batch.incomplete(),
        batch.rejected,
        batch.broken(),
        batch.repeated,
        batch.assembled(),
    )


def fail(gathering: Gathering, error: Exception) -> None:
    """Answer the requests of a batch with an error that must not happen."""
    gathering.committed.set_result(ReceiverError(f"internal error: {error!r}"))
    clear(error)
