"""Sends captured requests again, and retries as Prometheus does."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import aiohttp
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_result,
    stop_before_delay,
    wait_exponential,
)

from receiver.clients.capture import REPLAY_HEADER, CapturedRequest, ReplayIntoCaptureError
from receiver.clients.failures import without_ssl
from receiver.security.access import PUBLIC, Access

# Prometheus' own min_backoff, max_backoff and remote_timeout.
BACKOFF: Final = wait_exponential(multiplier=0.03, max=5)
TIMEOUT: Final = aiohttp.ClientTimeout(total=30)
NO_ANSWER: Final = 0


class Answer(NamedTuple):
    """The result of a request."""

    status: int
    text: str
    retry_after: int = 0

    @property
    def good(self) -> bool:
        """Whether the request arrived and was accepted."""
        return 200 <= self.status < 300

    @property
    def temporary(self) -> bool:
        """Whether a retry may succeed."""
        return self.status == NO_ANSWER or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR

    @property
    def final(self) -> bool:
        """Whether the following requests would get the same response."""
        return self.temporary or self.status == ReplayIntoCaptureError.status


class Sender:
    """Sends several requests at once.

    Args:
        url: The address to send to.
        connections: Number of connections.
        retry_for: Seconds after which a request is no longer retried.
        access: Headers and TLS settings.
    """

    def __init__(
        self, url: str, connections: int, retry_for: float, access: Access = PUBLIC
    ) -> None:
        self._url = url
        self._access = access
        self._connections = connections
        self._gave_up = False
        self._retrying = AsyncRetrying(
            retry=retry_if_result(lambda answer: answer.temporary),
            wait=lambda state: result(state).retry_after or BACKOFF(state),
            stop=stop_before_delay(retry_for),
            retry_error_callback=result,
        )

    async def send(
        self, requests: Iterator[CapturedRequest], heard: Callable[[Answer], None]
    ) -> None:
        """Send requests until there are no more, or until one cannot be delivered."""
        connector = aiohttp.TCPConnector(limit=self._connections, ssl=self._access.context())
        # Headers that aiohttp would add, which the captured request did not have.
        omitted = ("Content-Type", "User-Agent")
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=TIMEOUT,
            skip_auto_headers=omitted,
            headers={**self._access.headers, REPLAY_HEADER: "1"},
        ) as session:
            lanes = [self._send(requests, session, heard) for _ in range(self._connections)]
            await asyncio.gather(*lanes)

    async def _send(
        self,
        requests: Iterator[CapturedRequest],
        session: aiohttp.ClientSession,
        heard: Callable[[Answer], None],
    ) -> None:
        while not self._gave_up and (request := next(requests, None)):
            answer: Answer = await self._retrying(post, session, self._url, request)
            self._gave_up |= answer.final
            heard(answer)


def result(state: RetryCallState) -> Any:  # noqa: ANN401  as tenacity has it
    """Return the result of the last attempt."""
    assert state.outcome is not None  # noqa: S101  there was a try
    return state.outcome.result()


async def post(session: aiohttp.ClientSession, url: str, request: CapturedRequest) -> Answer:
    """Send one request once."""
    try:
        async with session.post(
            url, data=request.body, headers=request.headers, allow_redirects=False
        ) as response:
            return Answer(
                response.status,
                (await response.text(errors="replace")).strip(),
                header_number(response, "Retry-After"),
            )
    except TimeoutError:
        return Answer(NO_ANSWER, f"no answer within {TIMEOUT.total:.0f} s")
    except aiohttp.ClientError as error:
        return Answer(NO_ANSWER, without_ssl(error) or type(error).__name__)


def header_number(response: aiohttp.ClientResponse, header: str) -> int:
    """Return the number in a header, 0 if there is none."""
    text = response.headers.get(header, "")
    return int(text) if text.isdecimal() else 0


class Tally:
    """Counts responses.

    Args:
        total: The expected number of responses.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.counts: Counter[int] = Counter()
        self._good = 0
        self._start = time.monotonic()
        self._seconds = 0.0

    def count(self, answer: Answer) -> None:
        """Count a response."""
        self.counts[answer.status] += 1
        self._good += answer.good
        self._seconds = time.monotonic() - self._start

    @property
    def complete(self) -> bool:
        """Whether every request was accepted."""
        return self._good == self.total

    @property
    def rate(self) -> str:
        """The rate of requests, as text."""
        return f"{self.counts.total() / (self._seconds or 1.0):,.1f} requests/s"

    def summary(self) -> str:
        """Return the results in one line."""
        sent = self.counts.total()
        parts = [f"{count} × {name(status)}" for status, count in sorted(self.counts.items())]
        if sent < self.total:
            parts.append(f"{self.total - sent} not sent")
        statuses = ", ".join(parts) or "nothing to send"
        return f"{sent} requests in {self._seconds:.1f} s ({self.rate}): {statuses}"


def name(status: int) -> str:
    """Return a status as text."""
    return "no answer" if status == NO_ANSWER else str(status)
