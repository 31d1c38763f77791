"""Group commit: requests that arrive while a transaction runs share the next one."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from datetime import timedelta
from typing import Final, Self

from receiver.errors import ReceiverError, ShuttingDownError
from receiver.model import Sample
from receiver.pairing import Outcome
from receiver.storage.gathering import Gathering
from receiver.storage.records import Contents

logger = logging.getLogger(__name__)

PATIENCE: Final = 0.5
"""Seconds. A commit that takes longer is not waited for: the database has troubles of its own."""


class GroupCommit:
    """Stores the samples of many requests in few transactions.

    A lone request commits at once: there is no timer on the idle path. Only where a sample lacks
    its twin and other requests may bring it, the commit waits for them: while another batch is
    committed, for its senders send what comes next as soon as they are answered, and then at most
    `linger`. What is still alone then is left to the next batch, as long as that lets others be
    answered, and at last waits in the database.

    Args:
        write: Commits one batch.
        arriving: How many requests are under way that have not called `store` yet.
        ocr_unit: Microseconds in one unit of the OCR metric.
        linger: How long a lone sample may wait for its twin.
        writers: How many transactions may run at once.
    """

    def __init__(
        self,
        write: Callable[[Contents], Awaitable[None]],
        arriving: Callable[[], int],
        *,
        ocr_unit: int,
        linger: timedelta,
        writers: int,
    ) -> None:
        self._write = write
        self._arriving = arriving
        self._ocr_unit = ocr_unit
        self._linger = linger.total_seconds()
        self._writers = writers
        self._turn = asyncio.Lock()
        self._waiting = asyncio.Event()
        self._changed = asyncio.Event()
        self._committing: set[Gathering] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    async def __aenter__(self) -> Self:
        self._gathering = Gathering(self._ocr_unit)
        self._tasks = [asyncio.create_task(self._run()) for _ in range(self._writers)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._closed = True
        self._gathering.committed.set_exception(ShuttingDownError())

    @property
    def requests(self) -> int:
        """How many requests wait for their commit."""
        return sum(len(one.joined) for one in (self._gathering, *self._committing))

    @property
    def oldest_age(self) -> float:
        """Seconds that the first of them has waited; 0 if there is none."""
        now = asyncio.get_running_loop().time()
        since = min(one.since for one in (self._gathering, *self._committing))
        return max(0.0, now - since)

    async def store(self, samples: Collection[Sample]) -> Counter[Outcome]:
        """Return when the samples are committed.

        Raises:
            UnavailableError: they are not; sending them again is safe.
        """
        if self._closed:
            raise ShuttingDownError
        joined = self._gathering.join(samples)
        if joined.has_news:
            self._gathering.crowded |= bool(self._committing)
            self._changed.set()
            self._waiting.set()
            await joined.wait()
        return joined.outcomes

    async def _run(self) -> None:
        while True:
            # One writer gathers at a time, so that it knows of all others whether they commit.
            async with self._turn:
                await self._waiting.wait()
                await self._wait_for_twins()
                gathering, self._gathering = self._gathering, Gathering(self._ocr_unit)
                if self._linger and gathering.batch.has_halves:
                    gathering.pass_on(self._gathering)
                if not self._gathering.joined:
                    self._waiting.clear()
            if gathering.batch:
                await self._commit(gathering)

    async def _wait_for_twins(self) -> None:
        await self._wait_while(lambda: bool(self._committing), PATIENCE)
        await self._wait_while(
            lambda: self._gathering.crowded or self._arriving() > 0, self._linger
        )

    async def _wait_while(self, twins_may_come: Callable[[], bool], seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._gathering.batch.has_halves and twins_may_come():
                    self._changed.clear()
                    await self._changed.wait()

    async def _commit(self, gathering: Gathering) -> None:
        batch, committed = gathering.batch, gathering.committed
        self._committing.add(gathering)
        try:
            await self._write(
                Contents(batch.rows, list(batch.halves()), batch.rejected, batch.repeated)
            )
        except asyncio.CancelledError:
            committed.set_exception(ShuttingDownError())
            raise
        except ReceiverError as error:
            committed.set_exception(error)
        except Exception as error:
            logger.exception("a batch could not be written", extra={"fault": type(error).__name__})
            committed.set_exception(ReceiverError(f"internal error: {error!r}"))
        else:
            committed.set_result(None)
        finally:
            self._committing.remove(gathering)
            self._changed.set()
