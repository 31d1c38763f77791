"""The HTTP connection of one client: aiohttp's request handler with additional limits."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

from aiohttp import StreamReader, web

from receiver.http.connections import Cause, Connections

MAX_HEAD: Final = 32 * 1024
"""Maximum size of a request line and headers in bytes; aiohttp's limits allow a megabyte."""
HEAD_END: Final = b"\r\n\r\n"
LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*0*(\d{1,18})", re.IGNORECASE)
CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked", re.IGNORECASE)
LINE_END: Final = b"\r\n"
MIN_LINE: Final = 32
"""Minimum length of a line of a chunked body in bytes: a chunk is two lines, and a chunk of a few
bytes costs a hundred times as much as its bytes."""
SHORT_LINES: Final = 4_000
"""Maximum number of shorter lines in a request."""
LAST_CHUNK: Final = b"0\r\n\r\n"
MAX_HELD: Final = 64 * 1024
"""Maximum bytes of later requests that are kept until the request in flight is answered."""
TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)


class Peer(web.RequestHandler):
    """A connection, from when it is accepted to its end.

    aiohttp gets one request at a time, so that the limits hold for each. What a client sends before
    its request is answered is held until then. If that is too much, or its beginning is unknown, as
    only aiohttp finds the end of a chunked request, the connection is closed after the answer:
    clients repeat the other requests then (RFC 9112, section 9.3.2). So is a connection on which
    aiohttp has found another end of a request than this class.

    Args:
        server: Answers the requests.
        connections: Counts the connection.
        arguments: Passed on to aiohttp's protocol.
    """

    __slots__ = (
        "_answered",
        "_body",
        "_chunked",
        "_connections",
        "_head",
        "_held",
        "_in_head",
        "_left",
        "_line",
        "_requests",
        "_short",
        "_tail",
        "opening",
    )

    _body: StreamReader | None
    _held: bytes
    _left: int
    """Bytes of the request that are still to come, if it is not chunked."""
    _tail: bytes
    """The last bytes of a chunked request."""

    def __init__(self, server: web.Server, connections: Connections, **arguments: Any) -> None:  # noqa: ANN401  aiohttp's
        super().__init__(server, loop=asyncio.get_running_loop(), **arguments)
        self.opening: asyncio.Task[None] | None = None
        """Task that opens the connection; ends after the TLS handshake."""
        self._connections = connections
        self._line: asyncio.Transport | None = None
        self._requests = 0
        self._expect_head()
        connections.add(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to read requests."""
        self._line = cast("asyncio.Transport", transport)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Pass data on to aiohttp, unless headers are too large or chunks too small."""
        if self._in_head and self._read_head(data):
            self._connections.count_closed(Cause.HEADERS)
            self._refuse_head()
        elif self._in_head or not data:
            # aiohttp also goes on with data that it has buffered, by passing nothing.
            self._pass_on(data)
        elif self._has_arrived():
            self._hold(data)
        elif self._chunked and self._has_short_lines(data):
            self._connections.count_closed(Cause.CHUNKS)
            self.hang_up()
        elif self._chunked:
            size = len(LAST_CHUNK)
            self._tail = (self._tail + data[-size:])[-size:]
            self._pass_on(data)
        else:
            own, following = data[: self._left], data[self._left :]
            self._left -= len(own)
            if own:
                self._pass_on(own)
            if following:
                self._hold(following)
        self._proceed()

    def _pass_on(self, data: bytes) -> None:
        super().data_received(data)
        if self._body is None and self._messages:
            _, self._body = self._messages[0]
            self._connections.refresh(self)

    def _refuse_head(self) -> None:
        if self.transport is not None:
            self.transport.write(TOO_LARGE)
        self.force_close()

    def _has_arrived(self) -> bool:
        """Return whether the whole request has arrived, as aiohttp judges."""
        return self._body is not None and self._body.is_eof()

    def _is_misread(self) -> bool:
        """Return whether aiohttp has got more or less than the request that has arrived."""
        unknown = self._chunked and self._tail != LAST_CHUNK
        return unknown or self._left > 0 or self._request_count > self._requests

    def _hold(self, data: bytes) -> None:
        if len(self._held) + len(data) <= MAX_HELD:
            self._held += data
        else:
            self._held = b""
            self.close()

    def _proceed(self) -> None:
        """Go on to the next request if this one has arrived and is answered."""
        if self._in_head or not (self._answered and self._has_arrived()):
            return
        if self._is_misread():
            self.close()
            return
        held = self._held
        self._expect_head()
        if held:
            self.data_received(held)

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

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response; then the rest of the request's body and the next request may follow."""
        self._connections.refresh(self)
        finished = await super().finish_response(request, resp, start_time)
        self._answered = True
        self._connections.refresh(self)
        self._proceed()
        return finished

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the connection from being replaced while its request is in flight."""
        with self._connections.kept(self):
            yield

    def _expect_head(self) -> None:
        self._in_head = True
        self._head = b""
        self._held = b""
        self._chunked = False
        self._short = 0
        self._tail = b""
        self._answered = False
        self._left = 0
        self._body = None

    def _read_head(self, data: bytes) -> bool:
        """Look for the end of the headers; return whether they are too large."""
        most = MAX_HEAD + len(HEAD_END)
        before = len(self._head)
        self._head += data[: most - before]
        # Empty lines before a request are ignored.
        content = self._head.lstrip(LINE_END)
        head, end, _ = content.partition(HEAD_END)
        if not end:
            return len(self._head) == most
        self._in_head = False
        self._requests += 1
        self._chunked = CHUNKED.search(head) is not None
        if not self._chunked:
            length = LENGTH.search(head)
            size = len(self._head) - len(content) + len(head) + len(HEAD_END)
            self._left = size - before + (int(length[1]) if length else 0)
        self._head = b""
        return False

    def _has_short_lines(self, data: bytes) -> bool:
        """Count the lines that are too short; return whether there are too many."""
        self._short += max(0, data.count(LINE_END) - len(data) // MIN_LINE)
        return self._short > SHORT_LINES


@contextmanager
def kept(request: web.Request) -> Iterator[None]:
    """Keep the connection of a request from being replaced within this context."""
    peer = request.protocol
    if isinstance(peer, Peer):
        with peer.kept():
            yield
    else:
        yield
