"""Answers remote read: evaluates matchers in memory, and reads samples from the database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Final, TypeAlias, TypeVar, TypeVarTuple

from receiver.config.settings import Settings
from receiver.errors import OverloadedError, ReadLimitError
from receiver.protocol.queries import Query, ReadRequest, decode
from receiver.protocol.read_answers import Answer, SamplesAnswer, StreamedAnswer
from receiver.protocol.read_samples import Samples
from receiver.storage.connection.connecting import is_distributed
from receiver.storage.connection.database import Connection
from receiver.storage.reading.known_sources import KnownSources
from receiver.storage.reading.pool import ReadPool
from receiver.storage.reading.series import StoredSeries, choose
from receiver.storage.reading.series_reader import Rows, read_samples
from receiver.storage.reading.series_statement import batches, select_samples
from receiver.storage.reading.series_values import form_of

SLICE: Final = 0.05
"""Seconds of decoding or choosing series after which other reads have their turn."""
MAX_WAITING: Final = 200
"""Maximum number of read requests that wait for their turn; further ones are refused."""

Send: TypeAlias = Callable[[list[bytes]], Awaitable[None]]
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class RemoteReader:
    """Answers read requests.

    Args:
        settings: The receiver's settings, with the database URL and the limits.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool = ReadPool(settings)
        self._sources = KnownSources()
        self._turns = asyncio.Semaphore(settings.max_remote_reads)
        self._waiting = 0
        # One thread for all reads, so that they take no more than one core from writing.
        self._thread = ThreadPoolExecutor(1, "remote read")

    async def close(self) -> None:
        """Close the connections and end the thread."""
        await self._pool.close()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def decode(self, body: bytes) -> ReadRequest:
        """Decode the body of a request.

        Raises:
            BadRequestError: it is malformed, or accepts no supported response type.
            TooLargeError: it exceeds a limit.
            ReadLimitError: it takes too long.
        """
        async with self._in_time():
            return await self._advance(decode(body))

    def answer_to(self, request: ReadRequest) -> Answer:
        """Return an empty answer of the type that a request wants."""
        if request.streamed:
            return StreamedAnswer(self._settings.max_remote_read_frame)
        return SamplesAnswer(self._settings.max_remote_read_size)

    async def read(self, request: ReadRequest, answer: Answer, send: Send) -> int:
        """Write the answer to a request; return how many samples it has.

        Args:
            request: The read request.
            answer: Where to write the results.
            send: Takes the pieces that can be sent; while it runs, nothing more is read.

        Raises:
            ReadLimitError: the answer exceeds a limit.
            OverloadedError: too many requests wait.
            ReceiverError: as `translated` does; whatever `send` raises.
        """
        async with self._in_time(), self._turn():
            async with self._pool.snapshot() as connection:
                await self._refresh(connection)
                reading = Reading(self._settings, self._work, connection, answer, send)
                async with aclosing(reading):
                    for number, query in enumerate(request.queries):
                        await reading.add(number, query, await self._choose(query))
            # The transaction has ended: a client may be slow, or disconnect once it has everything.
            await send(await self._work(answer.finish))
            return reading.count

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        limit = self._settings.remote_read_timeout.total_seconds()
        try:
            async with asyncio.timeout(limit):
                yield
        except TimeoutError as error:
            raise ReadLimitError(
                f"the answer took longer than {limit:g} s (RECEIVER_REMOTE_READ_TIMEOUT)"
            ) from error

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._waiting >= MAX_WAITING:
            raise OverloadedError(
                f"{self._waiting} read requests are already waiting (RECEIVER_MAX_REMOTE_READS)"
            )
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turns.release()

    async def _refresh(self, connection: Connection) -> None:
        sources = KnownSources() if self._sources.is_outdated else self._sources
        await sources.refresh(connection)
        self._sources = sources

    async def _choose(self, query: Query) -> list[StoredSeries]:
        steps = choose(
            self._settings.catalogue, self._sources, query, self._settings.max_remote_read_series
        )
        return await self._advance(steps)

    async def _advance(self, steps: Iterator[T | None]) -> T:
        work: Callable[[], T | None] = partial(advance, steps)
        while (found := await self._work(work)) is None:
            pass
        return found

    async def _work(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, function, *arguments)


class Reading:
    """Reads the answer to one request.

    Args:
        settings: The receiver's settings, with the limits.
        work: Runs a function in the thread.
        connection: Must be in a transaction.
        answer: Where to write the results.
        send: Takes the pieces that can be sent.
    """

    def __init__(
        self,
        settings: Settings,
        work: Callable[..., Awaitable[list[bytes]]],
        connection: Connection,
        answer: Answer,
        send: Send,
    ) -> None:
        self._limit = settings.max_remote_read_samples
        self._work = work
        self._connection = connection
        self._answer = answer
        self._send = send
        self._encoding: asyncio.Task[None] | None = None
        self.count = 0
        """Samples so far."""

    async def add(self, number: int, query: Query, series: Sequence[StoredSeries]) -> None:
        """Add the result of a query."""
        self._answer.begin(number, [one.labels for one in series])
        distributed = await is_distributed(self._connection)
        for place, some in batches(series):
            form = form_of(stored.column for stored in some[0].places)
            rows = Rows(query, form, place)
            statement = select_samples(some, query, distributed=distributed)
            await read_samples(self._connection, statement, rows, self._take)
        await self._encoded()
        await self._send(await self._work(self._answer.end))

    async def _take(self, samples: Samples) -> None:
        if not len(samples.times):
            return
        self.count += len(samples.times)
        if self.count > self._limit:
            raise ReadLimitError(
                f"the answer has more than {self._limit} samples "
                "(RECEIVER_MAX_REMOTE_READ_SAMPLES); ask for fewer series or a shorter range"
            )
        await self._encoded()
        # Encodes while the next samples arrive.
        self._encoding = asyncio.create_task(self._encode(samples))

    async def _encode(self, samples: Samples) -> None:
        await self._send(await self._work(self._answer.add, samples))

    async def _encoded(self) -> None:
        """Wait until all samples so far are encoded and sent."""
        if self._encoding is not None:
            encoding, self._encoding = self._encoding, None
            await encoding

    async def aclose(self) -> None:
        """Stop encoding, if the answer has ended early."""
        if self._encoding is not None:
            self._encoding.cancel()
            await asyncio.gather(self._encoding, return_exceptions=True)


def advance(steps: Iterator[T | None]) -> T | None:
    """Run steps for a slice of time; return the result if the last step was reached, else None."""
    end = time.monotonic() + SLICE
    for found in steps:
        if found is not None or time.monotonic() > end:
            return found
    raise AssertionError("the last step yields what is wanted")
