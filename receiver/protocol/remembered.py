"""Remembers orders in which series came, in bounded memory, and when not to learn more of them."""

from __future__ import annotations

from collections.abc import Mapping
from random import randrange
from typing import Generic, NamedTuple, Protocol, TypeVar


class Order(Protocol):
    """Series that came one after the other."""

    @property
    def size(self) -> int:
        """Memory that it takes, in bytes."""


OrderT = TypeVar("OrderT", bound=Order)


class Learned(NamedTuple):
    """What is remembered of an order."""

    places: Mapping[bytes, int]
    """Where some of its series are, by what tells them from others."""
    size: int
    """Memory that both take, in bytes."""


class Remembered(Generic[OrderT]):
    """Orders, and where some of their series are in them.

    Args:
        most: Memory to take, in bytes.
        place_size: Bytes of memory that a place takes, beside what tells its series from others.
    """

    def __init__(self, most: int, place_size: int) -> None:
        self._most = most
        self._place_size = place_size
        self.learned: dict[OrderT, Learned] = {}
        """All orders."""
        self.places: dict[bytes, tuple[OrderT, int]] = {}
        """In which order some series came before, and at what place."""
        self.size = 0
        """Memory taken, in bytes."""

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.learned)

    def find(self, key: bytes) -> tuple[OrderT | None, int]:
        """Return in which order a series came before, and at what place; -1 if it is not known."""
        return self.places.get(key, (None, -1))

    def add(
        self, order: OrderT, places: Mapping[bytes, int], largest: int | None = None
    ) -> list[OrderT]:
        """Remember an order, if it is not too large; return those that are forgotten for it.

        Args:
            order: Series that came one after the other.
            places: Where some of them are, by what tells them from others.
            largest: Memory that it may take, in bytes; None: all that there is.
        """
        size = order.size + sum(map(len, places)) + self._place_size * len(places)
        if size > self._most or (largest is not None and size > largest):
            return []
        self.size += size
        forgotten: list[OrderT] = []
        while self.size > self._most:
            # Not the oldest, which is the next to come: then none would stay until it comes again.
            forgotten.append(list(self.learned)[randrange(len(self.learned))])  # noqa: S311  no secret
            self.forget(forgotten[-1])
        self.learned[order] = Learned(places, size)
        self.places.update({key: (order, place) for key, place in places.items()})
        return forgotten

    def forget(self, order: OrderT) -> None:
        """Forget an order that is there."""
        places, size = self.learned.pop(order)
        self.size -= size
        for key in places:
            if self.find(key)[0] is order:
                del self.places[key]

    def clear(self) -> None:
        """Forget all."""
        self.learned.clear()
        self.places.clear()
        self.size = 0


class Pause:
    """For how many messages not to try what was of no use; each time it is longer."""

    def __init__(self) -> None:
        self._length = self._left = 0

    def waits(self) -> bool:
        """Return whether to leave out one more message."""
        waits = self._left > 0
        self._left -= waits
        return waits

    def lengthen(self, most: int) -> None:
        """Begin a longer one, of at most so many messages."""
        self._length = self._left = min(2 * self._length + 1, most)

    def shorten(self) -> None:
        """Have the next one be short: it was of use."""
        self._length = 0
