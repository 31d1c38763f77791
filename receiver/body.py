"""Reads a request's body within its limits of size and time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import aiohttp
from aiohttp import HttpVersion11, web

from receiver.errors import (
    BadRequestError,
    LengthRequiredError,
    RequestTimeoutError,
    TooLargeError,
)


async def read_body(
    request: web.Request, limit: int, time_limit: timedelta, claim: Callable[[int], None]
) -> bytes:
    """Read the whole body; `claim` is asked for room before each part of it is kept.

    Raises:
        LengthRequiredError: the headers do not say where the body ends.
        TooLargeError: it has more than `limit` bytes.
        RequestTimeoutError: it did not arrive within the time.
        BadRequestError: it broke off.
        OverloadedError: `claim` found no room.
    """
    check_announced_size(request, limit)
    await tell_to_continue(request)
    body = bytearray()
    try:
        async with asyncio.timeout(time_limit.total_seconds()):
            async for part in request.content.iter_any():
                check_size(len(body) + len(part), limit)
                claim(len(part))
                body += part
    except TimeoutError as error:
        raise RequestTimeoutError(
            f"the body did not arrive within {time_limit} (RECEIVER_READ_TIMEOUT)"
        ) from error
    except (web.RequestPayloadError, aiohttp.ClientError, ConnectionError) as error:
        raise BadRequestError(f"the body broke off after {len(body)} bytes") from error
    return bytes(body)


def check_announced_size(request: web.Request, limit: int) -> None:
    """Check what the headers say of the body, before any of it is read.

    Raises:
        LengthRequiredError: they say nothing (RFC 9110, section 15.5.12).
        TooLargeError: it is above the limit.
    """
    if request.content_length is not None:
        check_size(request.content_length, limit)
    elif "Transfer-Encoding" not in request.headers:
        raise LengthRequiredError


async def tell_to_continue(request: web.Request) -> None:
    """Ask for the body if the sender waits for that (RFC 9110, section 10.1.1)."""
    expected = request.headers.get("Expect", "").lower() == "100-continue"
    if expected and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # What follows is a response of its own.
        request.writer.output_size = 0


async def leave_to_handler(request: web.Request) -> None:
    """Keep aiohttp from asking for a body that the handler may refuse by its headers."""
    del request


def check_size(size: int, limit: int) -> None:
    """Check a body, or what has come of it, against the limit.

    Raises:
        TooLargeError: it is above the limit.
    """
    if size > limit:
        raise TooLargeError(
            f"the body has {size} bytes or more, the limit is {limit} (RECEIVER_MAX_BODY_SIZE); "
            "send fewer samples a request"
        )
