"""A fair queue: no sender waits longer because another one sends more."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Takes turns between addresses, and within an address between users.

    Args:
        limit: Maximum number of entries.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: OrderedDict[str, OrderedDict[bytes, deque[T]]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, address: str, user: bytes, entry: T) -> T | None:
        """Add an entry.

        Returns:
            The entry that is dropped if the queue is full: the latest one of the address and user
            with the most entries, which may be the new one itself.
        """
        self._waiting.setdefault(address, OrderedDict()).setdefault(user, deque()).append(entry)
        self._length += 1
        return self._drop() if self._length > self._limit else None

    def take(self) -> T:
        """Remove the entry whose turn it is.

        Raises:
            LookupError: the queue is empty.
        """
        address, users = self._waiting.popitem(last=False)
        user, entries = users.popitem(last=False)
        entry = entries.popleft()
        self._length -= 1
        # After its turn, an address goes to the end.
        if entries:
            users[user] = entries
        if users:
            self._waiting[address] = users
        return entry

    def _drop(self) -> T:
        # If several have the most entries, choose the one whose turn is last.
        address, users = max(reversed(self._waiting.items()), key=lambda item: count(item[1]))
        user, entries = max(reversed(users.items()), key=lambda item: len(item[1]))
        entry = entries.pop()
        self._length -= 1
        if not entries:
            del users[user]
        if not users:
            del self._waiting[address]
        return entry


def count(users: OrderedDict[bytes, deque[T]]) -> int:
    """Return the number of entries of an address."""
    return sum(map(len, users.values()))
