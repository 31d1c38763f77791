"""The HTTP connection of one client: aiohttp's request handler with additional limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias, cast

from aiohttp import StreamReader, web

from receiver.http.connections import Cause, Connections

MAX_HEAD: Final = 32 * 1024
"""Maximum size of a request line and headers in bytes; aiohttp's limits allow a megabyte."""
HEAD_END: Final = b"\r\n\r\n"
LINE_END: Final = b"\r\n"
MIN_LINE: Final = 32
"""Minimum length of a line of a chunked body in bytes: a chunk is two lines, and a chunk of a few
bytes costs a hundred times as much as its bytes."""
SHORT_LINES: Final = 4_000
"""Maximum number of shorter lines in a request."""
TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Peer(web.RequestHandler):
    """A connection, from when it is accepted to its end.

    Args:
        server: Answers the requests.
        connections: Counts the connection.
        arguments: Passed on to aiohttp's protocol.
    """

    __slots__ = (
        "_chunked",
        "_connections",
        "_head",
        "_in_head",
        "_line",
        "_rest",
        "_short",
        "opening",
    )

    def __init__(self, server: web.Server, connections: Connections, **arguments: Any) -> None:  # noqa: ANN401  aiohttp's
        super().__init__(server, loop=asyncio.get_running_loop(), **arguments)
        self.opening: asyncio.Task[None] | None = None
        """Task that opens the connection; ends after the TLS handshake."""
        self._connections = connections
        self._line: asyncio.Transport | None = None
        self._rest: StreamReader | None = None
        """The body of an answered request, part of which may still arrive."""
        self._expect_head()
        connections.add(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to read requests."""
        self._line = cast("asyncio.Transport", transport)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Pass data on to aiohttp, unless headers are too large or chunks too small."""
        if self._rest is not None and self._rest.is_eof():
            self._expect_head()
        if self._in_head and self._read_head(data):
            self._connections.count_closed(Cause.HEADERS)
            if self.transport is not None:
                self.transport.write(TOO_LARGE)
            self.force_close()
        elif self._chunked and self._has_short_lines(data):
            self._connections.count_closed(Cause.CHUNKS)
            self.hang_up()
        else:
            super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop counting the connection, whichever side closed it."""
        self._connections.remove(self)
        super().connection_lost(exc)

    def hang_up(self) -> None:
        """Close the connection at once, without waiting for the client."""
        if self._line is not None:
            self._line.abort()
        elif self.opening is not None:
            self.opening.cancel()

    def begin(self) -> None:
        """Note that the headers of a request are complete."""
        self._in_head = False
        self._rest = None
        self._connections.refresh(self)

    def end(self, body: StreamReader) -> None:
        """Note that a request is answered: the rest of its body and the next request may follow."""
        self._rest = body
        self._connections.refresh(self)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the connection from being replaced while its request is in flight."""
        with self._connections.kept(self):
            yield

    def _expect_head(self) -> None:
        self._in_head = True
        self._head = b""
        self._chunked = False
        self._short = 0
        self._rest = None

    def _read_head(self, data: bytes) -> bool:
        """Look for the end of the headers; return whether they are too large."""
        most = MAX_HEAD + len(HEAD_END)
        self._head += data[: most - len(self._head)]
        head, end, _ = self._head.partition(HEAD_END)
        if not end:
            return len(head) == most
        self._in_head = False
        self._chunked = b"chunked" in head.lower()
        self._head = b""
        return False

    def _has_short_lines(self, data: bytes) -> bool:
        """Count the lines that are too short; return whether there are too many."""
        self._short += max(0, data.count(LINE_END) - len(data) // MIN_LINE)
        return self._short > SHORT_LINES


@web.middleware
async def follow(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Notify the connection when a request begins and ends."""
    peer = request.protocol
    if not isinstance(peer, Peer):
        return await handler(request)
    peer.begin()
    try:
        return await handler(request)
    finally:
        peer.end(request.content)


@contextmanager
def kept(request: web.Request) -> Iterator[None]:
    """Keep the connection of a request from being replaced within this context."""
    peer = request.protocol
    if isinstance(peer, Peer):
        with peer.kept():
            yield
    else:
        yield
