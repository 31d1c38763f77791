"""Remembers orders of series in bounded memory, and when to pause learning more of them."""

from __future__ import annotations

from collections.abc import Mapping
from random import randrange
from typing import Generic, NamedTuple, Protocol, TypeVar


class Order(Protocol):
    """Consecutive series, in the order in which they came."""

    @property
    def size(self) -> int:
        """Memory that it takes, in bytes."""


OrderT = TypeVar("OrderT", bound=Order)


class Learned(NamedTuple):
    """What is remembered about an order."""

    places: Mapping[bytes, int]
    """Indexes of some of its series, by the keys of the series."""
    size: int
    """Memory that the order and its places take, in bytes."""


class Remembered(Generic[OrderT]):
    """Orders of series, with the places of some of the series in them.

    Args:
        most: Maximum memory, in bytes.
        place_size: Memory per place in bytes, without the key of its series.
    """

    def __init__(self, most: int, place_size: int) -> None:
        self._most = most
        self._place_size = place_size
        self.learned: dict[OrderT, Learned] = {}
        """All orders."""
        self.places: dict[bytes, tuple[OrderT, int]] = {}
        """The order in which a series came before, and its index there, by the series' key."""
        self.size = 0
        """Memory taken, in bytes."""

    def __bool__(self) -> bool:
        """Return whether any order is remembered."""
        return bool(self.learned)

    def find(self, key: bytes) -> tuple[OrderT | None, int]:
        """Return the order in which a series came before and its index there; -1 if unknown."""
        return self.places.get(key, (None, -1))

    def add(
        self, order: OrderT, places: Mapping[bytes, int], largest: int | None = None
    ) -> list[OrderT]:
        """Remember an order unless it is too large; return the orders forgotten to make room.

        Args:
            order: The order of the series.
            places: Indexes of some of its series, by the keys of the series.
            largest: Maximum memory for this order, in bytes; None: all of it.
        """
        size = order.size + sum(map(len, places)) + self._place_size * len(places)
        if size > self._most or (largest is not None and size > largest):
            return []
        self.size += size
        forgotten: list[OrderT] = []
        while self.size > self._most:
            # Not the oldest, which is the next to come again: none would ever stay that long.
            forgotten.append(list(self.learned)[randrange(len(self.learned))])  # noqa: S311  no secret
            self.forget(forgotten[-1])
        self.learned[order] = Learned(places, size)
        self.places.update({key: (order, place) for key, place in places.items()})
        return forgotten

    def forget(self, order: OrderT) -> None:
        """Forget a remembered order."""
        places, size = self.learned.pop(order)
        self.size -= size
        for key in places:
            if self.find(key)[0] is order:
                del self.places[key]

    def clear(self) -> None:
        """Forget all orders."""
        self.learned.clear()
        self.places.clear()
        self.size = 0


class Pause:
    """Counts the messages for which to skip what was of no use; each pause is longer."""

    def __init__(self) -> None:
        self._length = self._left = 0

    def waits(self) -> bool:
        """Return whether to skip one more message."""
        waits = self._left > 0
        self._left -= waits
        return waits

    def lengthen(self, most: int) -> None:
        """Begin a longer pause, of at most `most` messages."""
        self._length = self._left = min(2 * self._length + 1, most)

    def shorten(self) -> None:
        """Make the next pause short again, since trying was of use."""
        self._length = 0
