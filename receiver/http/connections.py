"""The open connections of a process, and which of them makes room for a newer one.

Whoever connects gets in: at the limit the connection is closed that has been idle longest, or has
taken longest to complete its request. So nobody keeps others out by holding connections, and each
has the time in which as many others connect as the limit allows. A complete write request is never
closed before it is answered.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Final, Protocol

from aiohttp import web

MAX_RATE: Final = 1000
"""Connections a second that may replace others: more would leave nobody the time for a request."""


class Cause(StrEnum):
    """Why the receiver closes a connection."""

    ROOM = "room"
    """A newer one needs its place."""
    HANDSHAKE = "handshake"
    """Its TLS handshake failed, or took too long."""
    HEADERS = "headers"
    """The headers of its request are too large."""
    CHUNKS = "chunks"
    """Its request's body comes in chunks of a few bytes."""
    UNREAD = "unread"
    """The other side does not take its answer."""


class Closable(Protocol):
    """One connection."""

    def hang_up(self) -> None:
        """Close it at once."""


class Connections:
    """All connections.

    Args:
        limit: How many there may be.
        time_limit: Seconds after which one that completes nothing is closed.
        count_closed: Is given why one is closed.
    """

    def __init__(
        self, limit: int, time_limit: float, count_closed: Callable[[Cause], None]
    ) -> None:
        self._limit = limit
        self._time_limit = time_limit
        self.count_closed = count_closed
        self.on_room: Callable[[], None] = lambda: None
        """Is called when there is, or can be made, room for another."""
        self._idle: OrderedDict[Closable, float] = OrderedDict()
        """Those that may be closed, with the time since when; that of the first is the oldest."""
        self._kept: set[Closable] = set()

    def __len__(self) -> int:
        return len(self._idle) + len(self._kept)

    def wait(self) -> float | None:
        """Seconds until another one may come, if only for one that goes; None if none can go."""
        if len(self) < self._limit:
            return 0
        if not self._idle:
            return None
        oldest = next(iter(self._idle.values()))
        return max(0, oldest + self._limit / MAX_RATE - asyncio.get_running_loop().time())

    def add(self, connection: Closable) -> None:
        """Count a new one; the oldest idle one makes room if there are too many."""
        self._idle[connection] = asyncio.get_running_loop().time()
        if len(self) > self._limit:
            self.close_oldest(Cause.ROOM)

    def remove(self, connection: Closable) -> None:
        """Count one no more."""
        self._idle.pop(connection, None)
        self._kept.discard(connection)
        self.on_room()

    def refresh(self, connection: Closable) -> None:
        """Make one the last to be closed, for it has completed something."""
        if connection in self._idle:
            self._idle[connection] = asyncio.get_running_loop().time()
            self._idle.move_to_end(connection)

    @contextmanager
    def kept(self, connection: Closable) -> Iterator[None]:
        """Keep one from being closed."""
        if self._idle.pop(connection, None) is not None:
            self._kept.add(connection)
        try:
            yield
        finally:
            if connection in self._kept:
                self._kept.remove(connection)
                self._idle[connection] = asyncio.get_running_loop().time()
                self.on_room()

    def close_oldest(self, cause: Cause) -> None:
        """Close the one that has been idle longest, if any is idle."""
        oldest = next(iter(self._idle), None)
        if oldest is not None:
            self.remove(oldest)
            self.count_closed(cause)
            oldest.hang_up()

    async def run(self, _: web.Application) -> AsyncIterator[None]:
        """Close those that have stalled, while the application runs."""

        async def keep_closing() -> None:
            while True:
                self.close_stalled()
                await asyncio.sleep(1)

        closing = asyncio.create_task(keep_closing())
        yield
        closing.cancel()

    def close_stalled(self) -> None:
        """Close those that have completed nothing for too long.

        aiohttp closes by itself what waits for a request, and the body has a time limit of its own:
        what is left does not read its answer.
        """
        before = asyncio.get_running_loop().time() - self._time_limit
        while self._idle and next(iter(self._idle.values())) < before:
            self.close_oldest(Cause.UNREAD)
