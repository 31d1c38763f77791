"""Caches the series that the receiver has seen, by their labels on the wire."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from sys import getsizeof
from typing import Final, Literal, TypeAlias
from weakref import WeakValueDictionary

from receiver.protocol.limits import DEFAULTS, InvalidSeriesError, Limits
from receiver.rows.model import Labels, Series, Source
from receiver.rows.tables import Catalogue, Table

NAME: Final = "__name__"

Key: TypeAlias = bytes
"""Cache key: the encoded labels and the sample's head (1.0), or the joined symbols (2.0)."""

SEPARATOR: Final = "\udcff"
"""Encoded as the byte 0xFF, which no UTF-8 text contains and no label of 1.0 begins with."""

Filtered: TypeAlias = Literal[False]
FILTERED: Final = False
"""Stands for every series that is valid but not kept."""


MAX_SHOWN: Final = 64
MAX_PAIRS: Final = 4096
MAX_PAIR_SIZE: Final = 256
"""Maximum length in characters of a label that is shared among sources."""

# Memory in bytes, without that of strings.
ENTRY_SIZE: Final = 120
SERIES_SIZE: Final = 96
SOURCE_SIZE: Final = 400
SLOT_SIZE: Final = 8
PAIR_SIZE: Final = 80
LABEL_SIZE: Final = 208
"""Memory of a pair and two short strings, in bytes."""


class SeriesCache:
    """Remembers what labels on the wire mean, so that a series is parsed and checked once.

    A series looks the same in every request. Two generations bound the memory without any
    bookkeeping on a hit: a series not seen while a generation filled is forgotten.

    Args:
        catalogue: The tables, which say which series are kept.
        size: Memory for everything remembered about series, in bytes. The cache itself takes half
            of it; the decoders that use it share the other half.
        limits: The limits of a label set.
    """

    def __init__(self, catalogue: Catalogue, size: int, limits: Limits = DEFAULTS) -> None:
        self._by_metric = catalogue.by_metric
        self.keeps: Callable[[str], bool] = catalogue.by_metric.__contains__
        """Returns whether a metric of this name is kept."""
        self.shares_metrics = catalogue.shares_metrics
        """Whether a series may be kept in several tables."""
        self._limits = limits
        self._most = size // 4
        self._taken = 0
        self._young: dict[Key, Series | Filtered] = {}
        self._old: dict[Key, Series | Filtered] = {}
        # Sources of the young generation; many series may share one.
        self._held: set[Source] = set()
        # All series of a row must share one Source object for as long as it is in use.
        self._sources: dict[Table, WeakValueDictionary[Labels, Source]] = {
            table: WeakValueDictionary() for table in catalogue.tables
        }
        self._pairs: dict[tuple[str, str], tuple[str, str]] = {}
        self.size = size
        self.generation = 0
        """Grows when series are forgotten. A decoder that still holds them keeps them in memory."""
        self.made = 0
        """Total size of all sources ever made, in bytes: their memory and their encoded labels."""

    def recall(self) -> Callable[[Key], Series | Filtered | None]:
        """Return a faster `find` that knows only the series of the young generation."""
        return self._young.get

    def find(self, key: Key) -> Series | Filtered | None:
        """Return the series with these labels, None if it is new."""
        known = self._young.get(key)
        if known is None:
            known = self._old.get(key)
            if known is not None:
                self.remember(key, known)
        return known

    def add(self, key: Key, labels: Collection[tuple[str, str]]) -> Series | Filtered:
        """Check a new series and remember it.

        Raises:
            InvalidSeriesError: its labels break the specification or a limit.
        """
        # The key holds all names and values, so a short key needs no check.
        if len(key) > self._limits.max_label_set_size:
            check_size([text for label in labels for text in label], self._limits)
        by_name = check_labels(labels)
        fed = self._by_metric.get(by_name.pop(NAME), ())
        found = [
            Series(column, self._source(table, by_name, key))
            for table, column in fed
            if table.matches is None or table.matches(by_name)
        ]
        known: Series | Filtered = FILTERED
        if found:
            known = found[0]._replace(others=tuple(found[1:]))
        self.remember(key, known)
        return known

    def remember(self, key: Key, known: Series | Filtered) -> None:
        """Remember a series under a key; it may have other keys, too."""
        sources = [] if known is FILTERED else [one.source for one in (known, *known.others)]
        own = ENTRY_SIZE + getsizeof(key) + SERIES_SIZE * len(sources)
        taken = own + self._size_of_new(sources, key)
        if taken > self._most:
            return
        if self._taken + taken > self._most:
            self._old, self._young = self._young, {}
            self._held = set()
            self.generation += 1
            self._taken = 0
            taken = own + self._size_of_new(sources, key)
        self._young[key] = known
        self._held.update(sources)
        self._taken += taken

    def _size_of_new(self, sources: Iterable[Source], key: Key) -> int:
        """Return the memory of the sources that no series of the young generation has."""
        sizes = [size_of(source) for source in sources if source not in self._held]
        return sum(sizes) + (text_size(key) if sizes else 0)

    def _source(self, table: Table, by_name: dict[str, str], key: Key) -> Source:
        labels = tuple(sorted(by_name.items()))
        if table.ignoring:
            labels = tuple(label for label in labels if label[0] not in table.ignoring)
        source = self._sources[table].get(labels)
        if source is None:
            self.made += SOURCE_SIZE + SLOT_SIZE * (len(labels) + len(table.labels)) + len(key)
            # Most labels are shared by many sources.
            find = self._pairs.get
            source = Source(table, tuple([find(pair) or self._share(pair) for pair in labels]))
            self._sources[table][source.labels] = source
        return source

    def _share(self, pair: tuple[str, str]) -> tuple[str, str]:
        """Keep a label to be shared with other sources, unless it is long."""
        self.made += PAIR_SIZE + getsizeof(pair[0]) + getsizeof(pair[1])
        if len(pair[0]) + len(pair[1]) <= MAX_PAIR_SIZE:
            if len(self._pairs) >= MAX_PAIRS:
                self._pairs.clear()
            self._pairs[pair] = pair
        return pair


def join(texts: Iterable[str]) -> Key:
    """Make a key of alternating label names and values."""
    return SEPARATOR.join(["", *texts]).encode("utf-8", "surrogateescape")


def text_size(key: Key) -> int:
    """Return the memory of a key's characters in strings, in bytes: at most four each."""
    return len(key) * (1 if key.translate(None, b"\xff").isascii() else 4)


def size_of(source: Source) -> int:
    """Return the memory of a source without the characters of its labels, in bytes."""
    return SOURCE_SIZE + LABEL_SIZE * len(source.labels) + SLOT_SIZE * len(source.label_values)


def shorten(text: str) -> str:
    """Shorten a label name or value for an error message."""
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def check_size(texts: Sequence[str], limits: Limits) -> None:
    """Check the total size of alternating label names and values in UTF-8.

    Raises:
        InvalidSeriesError: it is above the limit.
    """
    # Characters first: symbols that are referred to many times would take long to encode.
    size = sum(map(len, texts))
    if size <= limits.max_label_set_size:
        size = sum(len(text.encode()) for text in texts)
    if size > limits.max_label_set_size:
        place = texts.index(max(texts, key=len))
        exceeded = limits.exceeded("max_label_set_size", size)
        raise InvalidSeriesError(f"{exceeded}; the longest is {shorten(texts[place & ~1])!r}")


def check_labels(labels: Collection[tuple[str, str]]) -> dict[str, str]:
    """Check a label set as both specifications demand (sections "Labels", "Series Labels").

    The order of labels does not matter here, so it is not checked. A label with an empty value is
    the same as no label (Prometheus data model), so it is left out.

    Raises:
        InvalidSeriesError: the metric name is missing, or a label name is empty or repeated.
    """
    by_name = dict(labels)
    if len(by_name) < len(labels) or "" in by_name:
        check_names(labels)
    if not by_name.get(NAME):
        raise InvalidSeriesError(f"the label {NAME} is missing")
    if all(by_name.values()):
        return by_name
    return {name: value for name, value in by_name.items() if value}


def check_names(labels: Iterable[tuple[str, str]]) -> None:
    """Check that each label has a name, and no two have the same.

    Raises:
        InvalidSeriesError: a label name is empty or repeated.
    """
    names: set[str] = set()
    for name, value in labels:
        if not name:
            raise InvalidSeriesError(f"a label has no name (its value is {shorten(value)!r})")
        if name in names:
            raise InvalidSeriesError(f"the label {shorten(name)!r} occurs more than once")
        names.add(name)
