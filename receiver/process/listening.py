"""Listens, and accepts connections up to the limit.

asyncio's own server has no limit, and logs an error for each connection without a file descriptor.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Final, cast

from aiohttp import web

from receiver.http.connections import Cause, Connections
from receiver.http.peer import Peer

BACKLOG: Final = 4096
"""Maximum number of connections that wait to be accepted; other clients retry after seconds."""
AT_ONCE: Final = 16
"""Connections that are accepted before other tasks run."""
PAUSE: Final = 0.1
"""Seconds until the next try when the system has no resources for another connection."""
GOODBYE: Final = 5.0
"""Seconds to wait until the client ends a TLS session."""

logger = logging.getLogger(__name__)


class Listener:
    """Accepts connections.

    Args:
        sockets: The bound sockets, which do not listen yet.
        connections: Counts the connections.
        make_peer: Makes the HTTP protocol of a connection.
        tls: The context for HTTPS; None: HTTP.
        handshake_timeout: Seconds a TLS handshake may take.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        connections: Connections,
        make_peer: Callable[[], Peer],
        tls: ssl.SSLContext | None,
        handshake_timeout: float,
    ) -> None:
        self.sockets = sockets
        self._connections = connections
        self._make_peer = make_peer
        self._tls = tls
        self._times: dict[str, float] = {}
        if tls is not None:
            self._times = {
                "ssl_handshake_timeout": handshake_timeout,
                "ssl_shutdown_timeout": GOODBYE,
            }
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._paused = True

    def start(self) -> None:
        """Start to listen.

        Raises:
            OSError: another process listens there.
        """
        for one in self.sockets:
            one.listen(BACKLOG)
        self._connections.on_room = self._resume
        self._resume()

    def close(self) -> None:
        """Stop accepting; open connections are kept."""
        self._connections.on_room = lambda: None
        self._pause()
        for one in self.sockets:
            one.close()
        self.sockets = ()
        for task in self._opening:
            task.cancel()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            for one in self.sockets:
                self._loop.add_reader(one, self._accept, one)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            for one in self.sockets:
                self._loop.remove_reader(one)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(AT_ONCE):
            if (wait := self._connections.wait()) != 0:
                self._wait_for_room(wait)
                return
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._wait_for_resources(error)
                return
            accepted.setblocking(False)
            self._open(accepted)

    def _wait_for_room(self, seconds: float | None) -> None:
        logger.warning(
            "%d connections are open, all new or with a request in flight: further ones wait "
            "(RECEIVER_MAX_CONNECTIONS)",
            len(self._connections),
            extra={"fault": "connections"},
        )
        self._pause()
        if seconds is not None:
            self._loop.call_later(seconds, self._resume)

    def _wait_for_resources(self, error: OSError) -> None:
        logger.warning(
            "cannot accept a connection: %s; closing the one that has been idle longest",
            error.strerror,
            extra={"fault": "accept"},
        )
        self._connections.close_oldest(Cause.ROOM)
        self._pause()
        self._loop.call_later(PAUSE, self._resume)

    def _open(self, accepted: socket.socket) -> None:
        peer = self._make_peer()
        peer.opening = task = self._loop.create_task(self._connect(peer, accepted))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self, peer: Peer, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: peer, accepted, ssl=self._tls, **self._times
            )
        except OSError:
            self._connections.remove(peer)
            self._connections.count_closed(Cause.HANDSHAKE)
        except asyncio.CancelledError:
            self._connections.remove(peer)
            raise
        finally:
            peer.opening = None


class Site(web.BaseSite):
    """A listener that an aiohttp runner starts and stops.

    Args:
        runner: Answers the requests.
        listener: Accepts the connections.
    """

    __slots__ = ("_listener",)

    def __init__(self, runner: web.AppRunner, listener: Listener) -> None:
        super().__init__(runner)
        # The part of a server that aiohttp uses: its sockets, and `close`.
        self._server = cast("asyncio.AbstractServer", listener)
        self._listener = listener

    @property
    def name(self) -> str:
        """The address that it listens on."""
        return ", ".join(str(one.getsockname()) for one in self._listener.sockets)

    async def start(self) -> None:
        """Start to listen.

        Raises:
            OSError: another process listens there.
        """
        await super().start()
        self._listener.start()
