"""HTTP at the level of bytes, for senders that disconnect at the worst moments."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import NamedTuple, Self

from receiver.http.paths import WRITE as WRITE_PATH
from tests.receivers import HEADERS

HOST = "127.0.0.1"
RESET = struct.pack("ii", 1, 0)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str


class Link:
    """A connection to a receiver, reopened whenever it is closed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()

    async def open(self) -> None:
        if self._streams is None:
            self._streams = await asyncio.open_connection(HOST, self.port)

    def cut(self, *, reset: bool = False) -> None:
        """Close the connection cleanly, or with a reset."""
        streams, self._streams = self._streams, None
        if streams is None:
            return
        _, writer = streams
        if reset:
            own: socket.socket = writer.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()

    async def send(self, data: bytes) -> None:
        await self.open()
        assert self._streams is not None
        _, writer = self._streams
        writer.write(data)
        await writer.drain()

    async def answer(self) -> Answer:
        assert self._streams is not None
        reader, _ = self._streams
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        text = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            self.cut()
        return Answer(int(first.split()[1]), headers, text.decode())

    async def closed(self) -> bytes:
        """Wait until the other side closes the connection; return the bytes received until then."""
        assert self._streams is not None
        try:
            return await self._streams[0].read()
        except ConnectionError:
            return b""

    async def post(self, body: bytes) -> Answer:
        await self.send(post_bytes(body))
        return await self.answer()

    async def get(self, path: str) -> Answer:
        await self.send(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        return await self.answer()


def post_bytes(body: bytes, length: int | None = None) -> bytes:
    """Build a complete write request."""
    headers = {"Host": HOST, **HEADERS, "Content-Length": str(length or len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {WRITE_PATH} HTTP/1.1\r\n{lines}\r\n".encode() + body


async def post(port: int, body: bytes) -> Answer:
    """Send one request on its own connection."""
    async with Link(port) as link:
        return await link.post(body)


async def get(port: int, path: str) -> Answer:
    async with Link(port) as link:
        return await link.get(path)
