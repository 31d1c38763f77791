"""Bodies that are not complete yet: how much they may hold, and which of them gives way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from receiver.errors import OverloadedError


class Arriving:
    """Bounds the bytes of all bodies that still arrive.

    Above the limit the body gives way that has held most for longest, by bytes times seconds: that
    is whoever stalls or trickles, not the newcomer whose body comes at once.

    Args:
        max_size: Bytes of all of them; a body that is alone may have more.
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
            give_way: Is called when the body has to give way to others; it is counted no more, and
                whoever reads it must end soon.
        """
        body = Body(self, give_way)
        self._bodies.add(body)
        try:
            yield body
        finally:
            self.forget(body)

    def grow(self, size: int) -> None:
        """Take room for bytes that have come, from other bodies if need be."""
        self.size += size
        while self.size > self._max_size and len(self._bodies) > 1:
            now = time.monotonic()
            self.forget(most := max(self._bodies, key=lambda body: body.cost(now)))
            most.evict()

    def forget(self, body: Body) -> None:
        """Count a body no more."""
        if body in self._bodies:
            self._bodies.remove(body)
            self.size -= body.size

    @property
    def refusal(self) -> OverloadedError:
        """What to answer to those that gave way."""
        return OverloadedError(
            f"the bodies that are still arriving exceed {self._max_size} bytes, and this one has "
            "held most for longest (RECEIVER_MAX_ARRIVING_SIZE)"
        )


class Body:
    """What has come of one body."""

    def __init__(self, arriving: Arriving, give_way: Callable[[], None]) -> None:
        self._arriving = arriving
        self._give_way = give_way
        self._since = time.monotonic()
        self.evicted = False
        self.size = 0

    def grow(self, size: int) -> None:
        """Count bytes that have come.

        Raises:
            OverloadedError: the body has given way to others.
        """
        if not self.evicted:
            self.size += size
            self._arriving.grow(size)
        self.check()

    def check(self) -> None:
        """Check that the body has not given way to others.

        Raises:
            OverloadedError: it has.
        """
        if self.evicted:
            raise self._arriving.refusal

    def cost(self, now: float) -> float:
        """How much it has held for how long, in bytes times seconds."""
        return self.size * (now - self._since)

    def evict(self) -> None:
        """Make way for others."""
        self.evicted = True
        self._give_way()
