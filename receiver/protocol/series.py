"""Series the receiver has seen, by their labels as they are on the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Literal, TypeAlias
from weakref import WeakValueDictionary

from receiver.model import Labels, Metric, Series, Source

NAME: Final = "__name__"

Key: TypeAlias = bytes | tuple[str, ...]
"""Labels on the wire: their bytes (1.0), or the symbols they refer to (2.0)."""

Filtered: TypeAlias = Literal[False]
FILTERED: Final = False
"""Stands for every series that is valid but not kept."""


MAX_SHOWN: Final = 64
MAX_REMEMBERED: Final = 8192
"""Size of a label set on the wire; a larger one is read anew every time and costs no memory."""


class InvalidSeriesError(ValueError):
    """The labels of a series break the specification; the message says how."""


class SeriesCache:
    """Remembers what labels on the wire mean, so that a series is parsed and checked once.

    A series looks the same in every request. Two generations bound the memory
    without any bookkeeping on a hit: a series not seen while `size` others were is forgotten.

    Args:
        names: The metrics to keep, by their names in `__name__`.
        size: Series to remember.
    """

    def __init__(self, names: dict[str, Metric], size: int) -> None:
        self._names = names
        self._generation = max(1, size // 2)
        self._young: dict[Key, Series | Filtered] = {}
        self._old: dict[Key, Series | Filtered] = {}
        # Both series of an application must get one Source object for as long as one is in use.
        self._sources: WeakValueDictionary[Labels, Source] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def recall(self) -> Callable[[Key], Series | Filtered | None]:
        """What `find` does, for the series of late only, but without its cost."""
        return self._young.get

    def find(self, key: Key) -> Series | Filtered | None:
        """The series with these labels, None if it is new."""
        known = self._young.get(key)
        if known is None:
            known = self._old.get(key)
            if known is not None:
                self._remember(key, known)
        return known

    def add(self, key: Key, labels: Iterable[tuple[str, str]]) -> Series | Filtered:
        """Check a new series and remember it.

        Raises:
            InvalidSeriesError: its labels break the specification.
        """
        by_name = check_labels(labels)
        metric = self._names.get(by_name.pop(NAME))
        known: Series | Filtered = (
            FILTERED if metric is None else Series(metric, self._source(by_name))
        )
        if (len(key) if isinstance(key, bytes) else sum(map(len, key))) <= MAX_REMEMBERED:
            self._remember(key, known)
        return known

    def _remember(self, key: Key, known: Series | Filtered) -> None:
        if len(self._young) >= self._generation:
            self._old, self._young = self._young, {}
        self._young[key] = known

    def _source(self, by_name: dict[str, str]) -> Source:
        labels = tuple(sorted(by_name.items()))
        source = self._sources.get(labels)
        if source is None:
            source = self._sources[labels] = Source(labels)
        return source


def shorten(text: str) -> str:
    """A label's name or value as an error shows it."""
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def check_labels(labels: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Check what both specifications demand of a label set (sections "Labels", "Series Labels").

    The order of labels does not matter here, so it is not checked. A label with an empty value is
    the same as no label (Prometheus data model), so it is left out.

    Raises:
        InvalidSeriesError: no metric name, an empty or a repeated label name.
    """
    by_name: dict[str, str] = {}
    for name, value in labels:
        if not name:
            raise InvalidSeriesError(f"a label has no name (its value is {shorten(value)!r})")
        if name in by_name:
            raise InvalidSeriesError(f"the label {shorten(name)!r} is there more than once")
        by_name[name] = value
    if not by_name.get(NAME):
        raise InvalidSeriesError(f"the label {NAME} is missing")
    return {name: value for name, value in by_name.items() if value}
