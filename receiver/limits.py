"""How much may be under way at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from receiver.errors import OverloadedError


class InFlight:
    """Counts the requests under way and refuses the ones too many.

    Args:
        max_requests: Requests at once.
        max_size: Decompressed bytes of all of them.
    """

    def __init__(self, max_requests: int, max_size: int) -> None:
        self._max_requests = max_requests
        self._max_size = max_size
        self.requests = 0
        self.size = 0
        self.arriving = 0
        """Requests whose samples are not known yet."""

    @contextmanager
    def admit(self) -> Iterator[Admission]:
        """Count a request in, and out again when it is answered.

        Raises:
            OverloadedError: there are too many.
        """
        if self.requests >= self._max_requests:
            raise OverloadedError(
                f"{self.requests} requests are under way, which is the limit "
                "(RECEIVER_MAX_IN_FLIGHT_REQUESTS)"
            )
        admission = Admission(self)
        self.requests += 1
        self.arriving += 1
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
                f"the requests under way hold {self.size} bytes, {size} more would exceed "
                f"{self._max_size} (RECEIVER_MAX_IN_FLIGHT_SIZE)"
            )
        self.size += size


class Admission:
    """One request's part of what is under way."""

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
            self._in_flight.arriving -= 1
