"""Limits the open connections of a process.

A new connection is always accepted: at the limit it replaces the one that has been idle longest or
has taken longest to complete its request. So holding connections does not keep others out. The
connection of a complete write request is never closed before the request is answered.
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
"""Maximum number of replaced connections per second: more would leave no time for a request."""


class Cause(StrEnum):
    """Why the receiver closes a connection."""

    ROOM = "room"
    """A newer connection replaces it."""
    HANDSHAKE = "handshake"
    """The TLS handshake failed or took too long."""
    HEADERS = "headers"
    """The request headers are too large."""
    CHUNKS = "chunks"
    """The request body has chunks of a few bytes."""
    UNREAD = "unread"
    """The client does not read the response."""


class Closable(Protocol):
    """A connection that can be closed."""

    def hang_up(self) -> None:
        """Close it at once."""


class Connections:
    """Counts the open connections, and closes idle ones for newer ones.

    Args:
        limit: Maximum number of connections.
        time_limit: Seconds after which a connection that completes nothing is closed.
        count_closed: Called with the cause when a connection is closed.
    """

    def __init__(
        self, limit: int, time_limit: float, count_closed: Callable[[Cause], None]
    ) -> None:
        self._limit = limit
        self._time_limit = time_limit
        self.count_closed = count_closed
        self.on_room: Callable[[], None] = lambda: None
        """Called when another connection can be accepted."""
        self._idle: OrderedDict[Closable, float] = OrderedDict()
        """Connections that may be closed, with the time since which each is idle; oldest first."""
        self._kept: set[Closable] = set()

    def __len__(self) -> int:
        return len(self._idle) + len(self._kept)

    def wait(self) -> float | None:
        """Return the seconds until a connection can be accepted; None if none can be replaced."""
        if len(self) < self._limit:
            return 0
        if not self._idle:
            return None
        oldest = next(iter(self._idle.values()))
        return max(0, oldest + self._limit / MAX_RATE - asyncio.get_running_loop().time())

    def add(self, connection: Closable) -> None:
        """Count a new connection; close the oldest idle one if there are too many."""
        self._idle[connection] = asyncio.get_running_loop().time()
        if len(self) > self._limit:
            self.close_oldest(Cause.ROOM)

    def remove(self, connection: Closable) -> None:
        """Stop counting a connection."""
        self._idle.pop(connection, None)
        self._kept.discard(connection)
        self.on_room()

    def refresh(self, connection: Closable) -> None:
        """Move a connection that has completed something to the end of the closing order."""
        if connection in self._idle:
            self._idle[connection] = asyncio.get_running_loop().time()
            self._idle.move_to_end(connection)

    @contextmanager
    def kept(self, connection: Closable) -> Iterator[None]:
        """Keep a connection from being closed within this context."""
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
        """Close the connection that has been idle longest, if any is idle."""
        oldest = next(iter(self._idle), None)
        if oldest is not None:
            self.remove(oldest)
            self.count_closed(cause)
            oldest.hang_up()

    async def run(self, _: web.Application) -> AsyncIterator[None]:
        """Close stalled connections while the application runs."""

        async def keep_closing() -> None:
            while True:
                self.close_stalled()
                await asyncio.sleep(1)

        closing = asyncio.create_task(keep_closing())
        yield
        closing.cancel()

    def close_stalled(self) -> None:
        """Close connections that have completed nothing for too long.

        aiohttp itself closes connections that wait for a request, and bodies have their own time
        limit: only clients that do not read their responses remain.
        """
        before = asyncio.get_running_loop().time() - self._time_limit
        while self._idle and next(iter(self._idle.values())) < before:
            self.close_oldest(Cause.UNREAD)
