"""Sends an answer in parts, which may turn out to be impossible after the first of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiohttp import web

AT_ONCE = 64 * 1024
"""Bytes of small parts that are sent together."""


class Sending:
    """An answer with status 200 whose parts are sent as they come.

    Args:
        request: What is answered.
        headers: Those of the answer.
        whole: Whether the first call of `send` has all of it, so that its length is known.
    """

    def __init__(self, request: web.Request, headers: Mapping[str, str], *, whole: bool) -> None:
        self._request = request
        self._whole = whole
        self.response = web.StreamResponse(headers=headers)

    async def send(self, parts: Sequence[bytes]) -> None:
        """Send parts, and wait while the client has too much to read.

        Raises:
            ConnectionError: the client has gone.
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
        """End the answer."""
        await self.begin()
        await self.response.write_eof()

    def break_off(self) -> None:
        """End the connection, so that the client cannot take what it has for the whole answer."""
        if self._request.transport is not None:
            self._request.transport.abort()
