"""Limits the memory of request bodies that are still arriving."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from receiver.errors import OverloadedError


class Arriving:
    """Limits the total size of the bodies that are still arriving.

    Above the limit the body with the highest cost (bytes times seconds held) is evicted: that of
    a sender that stalls or trickles, not one that arrives at once.

    Args:
        max_size: Maximum total size in bytes; a single body may be larger.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._bodies: set[Body] = set()
        self.size = 0

    def __len__(self) -> int:
        return len(self._bodies)

    @contextmanager
    def body(self, give_way: Callable[[], None]) -> Iterator[Body]:
        """Count a body while it arrives.

        Args:
            give_way: Called when the body is evicted: it is no longer counted, and its reader must
                stop soon.
        """
        body = Body(self, give_way)
        self._bodies.add(body)
        try:
            yield body
        finally:
            self.forget(body)

    def grow(self, size: int) -> None:
        """Count bytes that have arrived; evict the costliest bodies while they exceed the limit."""
        self.size += size
        while self.size > self._max_size and len(self._bodies) > 1:
            now = time.monotonic()
            self.forget(most := max(self._bodies, key=lambda body: body.cost(now)))
            most.evict()

    def forget(self, body: Body) -> None:
        """Stop counting a body."""
        if body in self._bodies:
            self._bodies.remove(body)
            self.size -= body.size

    @property
    def refusal(self) -> OverloadedError:
        """The error for senders whose bodies were evicted."""
        return OverloadedError(
            f"the bodies that are still arriving exceed {self._max_size} bytes, and this one has "
            "occupied the most memory for the longest time (RECEIVER_MAX_ARRIVING_SIZE)"
        )


class Body:
    """The part of one body that has arrived."""

    def __init__(self, arriving: Arriving, give_way: Callable[[], None]) -> None:
        self._arriving = arriving
        self._give_way = give_way
        self._since = time.monotonic()
        self.evicted = False
        self.size = 0

    def grow(self, size: int) -> None:
        """Count bytes that have arrived.

        Raises:
            OverloadedError: the body was evicted.
        """
        if not self.evicted:
            self.size += size
            self._arriving.grow(size)
        self.check()

    def check(self) -> None:
        """Check that the body was not evicted.

        Raises:
            OverloadedError: the body was evicted.
        """
        if self.evicted:
            raise self._arriving.refusal

    def cost(self, now: float) -> float:
        """The memory held so far, in bytes times seconds."""
        return self.size * (now - self._since)

    def evict(self) -> None:
        """Mark the body as evicted, and tell its reader to stop."""
        self.evicted = True
        self._give_way()
