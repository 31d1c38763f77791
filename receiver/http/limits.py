"""How much may be in flight at once: bodies that still arrive, and requests that are complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from receiver.errors import OverloadedError
from receiver.http.arriving import Arriving


class InFlight:
    """Counts the requests in flight and refuses the ones too many.

    A request takes a place when its body is there: whoever sends slowly keeps none from others.

    Args:
        max_requests: Complete requests at once.
        max_size: Bytes of all of them, compressed and decompressed.
        max_arriving_size: Bytes of the bodies that are not complete yet.
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
        """Requests whose samples are not known yet."""
        return len(self.bodies) + self._undecoded

    def check(self) -> None:
        """Check that there is a place, before any of a request's body is read.

        Raises:
            OverloadedError: there is none.
        """
        if self.requests >= self._max_requests:
            raise OverloadedError(
                f"{self.requests} requests are in flight, which is the limit "
                "(RECEIVER_MAX_IN_FLIGHT_REQUESTS)"
            )

    @contextmanager
    def admit(self) -> Iterator[Admission]:
        """Count a complete request in, and out again when it is answered.

        Raises:
            OverloadedError: there are too many.
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
        """Take room for more bytes of a request that holds some already.

        Raises:
            OverloadedError: there is none; a request that is alone always gets it.
        """
        if self.size > held and self.size + size > self._max_size:
            raise OverloadedError(
                f"the requests in flight hold {self.size} bytes, {size} more would exceed "
                f"{self._max_size} (RECEIVER_MAX_IN_FLIGHT_SIZE)"
            )
        self.size += size

    def decoded(self) -> None:
        """Count a request whose samples are known now."""
        self._undecoded -= 1


class Admission:
    """One complete request's part of what is in flight."""

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self._arrived = False
        self.size = 0

    def claim(self, size: int) -> None:
        """Take room for bytes of the request, before they are there.

        Raises:
            OverloadedError: there is none.
        """
        self._in_flight.claim(size, self.size)
        self.size += size

    def arrive(self) -> None:
        """Say that the request's samples are known: nobody needs to wait for them any more."""
        if not self._arrived:
            self._arrived = True
            self._in_flight.decoded()
