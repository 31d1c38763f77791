"""An unreadable body is an error of the request; any other failure is not."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, cast

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from receiver.errors import BadRequestError
from receiver.http.arriving import Arriving
from receiver.http.body import BodyLimits, read_body

LIMITS = BodyLimits(100, timedelta(seconds=5), 1)


class Line(BaseProtocol):
    """The parts of a connection that a request uses."""

    ssl_context = peername = sockname = None


async def read(transport: asyncio.Transport | None) -> bytes:
    line = Line(asyncio.get_running_loop())
    content = StreamReader(line, 2**16, loop=asyncio.get_running_loop())
    headers = {"Content-Length": "10"}
    request = make_mocked_request("POST", "/", headers, payload=content, protocol=cast("Any", line))
    line.transport = transport
    return await read_body(request, LIMITS, Arriving(1000))


async def test_a_connection_that_is_gone_before_its_body_is_read_is_no_fault_of_ours() -> None:
    with pytest.raises(BadRequestError, match="connection was lost after 0 bytes"):
        await read(None)


async def test_an_unknown_fault_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: StreamReader) -> bytes:
        raise RuntimeError("something else")

    monkeypatch.setattr(StreamReader, "iter_any", fail)
    with pytest.raises(RuntimeError, match="something else"):
        await read(asyncio.Transport())
