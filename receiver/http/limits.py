"""Limits the requests in flight: bodies that are still arriving, and complete requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from receiver.errors import OverloadedError
from receiver.http.arriving import Arriving


class InFlight:
    """Counts the requests in flight, and refuses those above the limits.

    A request counts once its body is complete, so that slow senders do not use up the limit.

    Args:
        max_requests: Maximum number of complete requests.
        max_size: Maximum total size in bytes, compressed and decompressed.
        max_arriving_size: Maximum total size in bytes of the bodies that are not complete yet.
    """

    def __init__(self, max_requests: int, max_size: int, max_arriving_size: int) -> None:
        self._max_requests = max_requests
        self._max_size = max_size
        self._undecoded = 0
        self.bodies = Arriving(max_arriving_size)
        self.requests = 0
        self.size = 0

    @property
    def arriving(self) -> int:
        """Number of requests that are not decoded yet."""
        return len(self.bodies) + self._undecoded

    def check(self) -> None:
        """Check that another request is allowed, before any of its body is read.

        Raises:
            OverloadedError: too many requests are in flight.
        """
        if self.requests >= self._max_requests:
            raise OverloadedError(
                f"{self.requests} requests are in flight, which is the limit "
                "(RECEIVER_MAX_IN_FLIGHT_REQUESTS)"
            )

    @contextmanager
    def admit(self) -> Iterator[Admission]:
        """Count a complete request until the end of this context.

        Raises:
            OverloadedError: too many requests are in flight.
        """
        self.check()
        admission = Admission(self)
        self.requests += 1
        self._undecoded += 1
        try:
            yield admission
        finally:
            admission.arrive()
            self.requests -= 1
            self.size -= admission.size

    def claim(self, size: int, held: int) -> None:
        """Count more bytes of a request.

        Args:
            size: The bytes to add.
            held: The bytes of the request that are counted already.

        Raises:
            OverloadedError: the limit is exceeded, and other requests are in flight.
        """
        if self.size > held and self.size + size > self._max_size:
            raise OverloadedError(
                f"the requests in flight hold {self.size} bytes, {size} more would exceed "
                f"{self._max_size} (RECEIVER_MAX_IN_FLIGHT_SIZE)"
            )
        self.size += size

    def decoded(self) -> None:
        """Note that a request is decoded."""
        self._undecoded -= 1


class Admission:
    """The share of one complete request in the limits of `InFlight`."""

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self._arrived = False
        self.size = 0

    def claim(self, size: int) -> None:
        """Count bytes of the request, before they are allocated.

        Raises:
            OverloadedError: the limit is exceeded.
        """
        self._in_flight.claim(size, self.size)
        self.size += size

    def arrive(self) -> None:
        """Note that the request is decoded, so that no commit waits for its samples."""
        if not self._arrived:
            self._arrived = True
            self._in_flight.decoded()
