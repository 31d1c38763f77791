"""Streams a response in parts; a failure after the first part can only abort the connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiohttp import web

AT_ONCE = 64 * 1024
"""Size in bytes up to which small parts are joined before they are sent."""


class Sending:
    """A response with status 200 whose parts are sent as they are produced.

    Args:
        request: The request to respond to.
        headers: The headers of the response.
        whole: Whether the first call of `send` has the whole body, so that its length is known.
    """

    def __init__(self, request: web.Request, headers: Mapping[str, str], *, whole: bool) -> None:
        self._request = request
        self._whole = whole
        self.response = web.StreamResponse(headers=headers)

    async def send(self, parts: Sequence[bytes]) -> None:
        """Send parts, and wait while the client has too much unread data.

        Raises:
            ConnectionError: the client has disconnected.
        """
        if not parts:
            return
        if self._whole:
            self.response.content_length = sum(map(len, parts))
        await self.begin()
        joined = bytearray()
        for part in parts:
            joined += part
            if len(joined) >= AT_ONCE:
                await self.response.write(bytes(joined))
                joined.clear()
        await self.response.write(bytes(joined))

    async def begin(self) -> None:
        """Send the headers, if they are not sent yet."""
        if not self.response.prepared:
            await self.response.prepare(self._request)

    async def finish(self) -> None:
        """End the response."""
        await self.begin()
        await self.response.write_eof()

    def break_off(self) -> None:
        """Abort the connection, so that the client does not take a partial response as complete."""
        if self._request.transport is not None:
            self._request.transport.abort()
