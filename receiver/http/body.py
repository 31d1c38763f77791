"""Reads a request's body within its limits of size, time and rate."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final, NamedTuple

import aiohttp
from aiohttp import HttpVersion11, web

from receiver.errors import (
    BadRequestError,
    LengthRequiredError,
    SlowSenderError,
    TooLargeError,
)
from receiver.http.arriving import Arriving

WINDOW: Final = 10.0
"""Seconds over which the rate of a body is measured: longer than the usual gaps of a network."""


class BodyLimits(NamedTuple):
    """Limits of a request body."""

    max_size: int
    """Bytes."""
    time: timedelta
    """Time from the headers to the last byte."""
    min_rate: int
    """Bytes a second."""


async def read_body(request: web.Request, limits: BodyLimits, arriving: Arriving) -> bytes:
    """Read the whole body.

    Raises:
        LengthRequiredError: the headers do not say where the body ends.
        TooLargeError: it is larger than allowed.
        SlowSenderError: it arrived too slowly or not within the time limit, or stopped arriving.
        OverloadedError: it was evicted to make room for other bodies.
        BadRequestError: it has a transfer encoding other than chunked, or the connection was lost
            before it was complete.
    """
    check_announced_size(request, limits.max_size)
    content = bytearray()
    pace = Pace(limits)
    with arriving.body(pace.stop) as body:
        try:
            async with pace.timeout:
                await send_continue(request)
                async for part in request.content.iter_any():
                    check_size(len(content) + len(part), limits.max_size)
                    body.grow(len(part))
                    content += part
                    pace.advance(len(part))
        except TimeoutError as error:
            body.check()
            raise pace.fault from error
        except (web.RequestPayloadError, aiohttp.ClientError, ConnectionError) as error:
            raise BadRequestError(f"the connection was lost after {len(content)} bytes") from error
        except RuntimeError as error:
            # Raised by aiohttp if the connection was lost before more of the body was awaited.
            if request.transport is not None:
                raise
            raise BadRequestError(f"the connection was lost after {len(content)} bytes") from error
    return bytes(content)


class Pace:
    """The deadline of a body: extended while it arrives at the minimum rate, up to the time limit.

    Args:
        limits: The time limit and the minimum rate.
    """

    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        self._now = asyncio.get_running_loop().time
        self._end = self._now() + limits.time.total_seconds()
        self._share = max(1, int(limits.min_rate * WINDOW))
        self._missing = self._share
        self.timeout = asyncio.timeout_at(self._next)

    @property
    def _next(self) -> float:
        return min(self._end, self._now() + WINDOW)

    def advance(self, size: int) -> None:
        """Extend the deadline if enough bytes arrived within the window."""
        self._missing -= size
        if self._missing <= 0:
            self._missing = self._share
            self.timeout.reschedule(self._next)

    def stop(self) -> None:
        """Let the deadline pass now."""
        if not self.timeout.expired():
            self.timeout.reschedule(self._now())

    @property
    def fault(self) -> SlowSenderError:
        """The error for a body that missed the deadline."""
        if (self.timeout.when() or 0) >= self._end:
            return SlowSenderError(
                f"the body did not arrive within {self._limits.time} (RECEIVER_READ_TIMEOUT)"
            )
        return SlowSenderError(
            f"the body arrived slower than {self._limits.min_rate} bytes a second for {WINDOW:g} s "
            "(RECEIVER_MIN_BODY_RATE)"
        )


def check_announced_size(request: web.Request, limit: int) -> None:
    """Check the size that the headers state, before any of the body is read.

    Raises:
        BadRequestError: the body has a transfer encoding other than chunked.
        LengthRequiredError: the headers do not state the size (RFC 9110, section 15.5.12).
        TooLargeError: the size is above the limit.
    """
    transfer = request.headers.get("Transfer-Encoding")
    if transfer is not None and transfer.lower() != "chunked":
        raise BadRequestError(f"Transfer-Encoding {transfer!r} is not supported; send chunked")
    if request.content_length is not None:
        check_size(request.content_length, limit)
    elif transfer is None:
        raise LengthRequiredError


async def send_continue(request: web.Request) -> None:
    """Send 100 Continue if the sender waits for it (RFC 9110, section 10.1.1)."""
    expected = request.headers.get("Expect", "").lower() == "100-continue"
    if expected and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The final response follows separately.
        request.writer.output_size = 0


async def leave_to_handler(request: web.Request) -> None:
    """Keep aiohttp from sending 100 Continue: the handler may refuse the request by its headers."""
    del request


def check_size(size: int, limit: int) -> None:
    """Check the size of a body, or of its first part, against the limit.

    Raises:
        TooLargeError: it is above the limit.
    """
    if size > limit:
        raise TooLargeError(
            f"the body has {size} bytes or more, the limit is {limit} (RECEIVER_MAX_BODY_SIZE); "
            "send fewer samples per request"
        )
