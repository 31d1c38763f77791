"""Samples and rows in numpy arrays, many at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from receiver.rows.columns import Flags, Floats, Integers
from receiver.rows.model import Row, Sample, Series, Source
from receiver.rows.tables import Column, Table

Keys: TypeAlias = NDArray[np.uint64]
"""Keys of the rows of a table: the number of the source and the time, as one integer."""
Objects: TypeAlias = NDArray[np.object_]

TIME_BITS: Final = 42
"""Bits of a time in milliseconds, until the year 2109."""
source_of: Final = itemgetter(1)
"""Returns the source of a series."""


class KeptSeries:
    """Kept series in order, and what all samples of a series share.

    Args:
        series: The series; each counts for its own table, not for others that its metric feeds.
    """

    def __init__(self, series: Sequence[Series]) -> None:
        tables = [source.table for _, source, _ in series]
        self.series: Objects = np.fromiter(series, object, len(series))
        self.sources = np.fromiter((one.source.number for one in series), np.int64, len(series))
        self.slots = np.fromiter((one.column.slot for one in series), np.int64, len(series))
        self.tables: dict[Table, Flags | None] = dict.fromkeys(tables)
        """Tables of the series, each with flags for its own series; None: all."""
        if len(self.tables) > 1:
            for table in self.tables:
                own = (one is table for one in tables)
                self.tables[table] = np.fromiter(own, np.bool_, len(series))

    @property
    def size(self) -> int:
        """Memory that it takes, in bytes."""
        arrays = self.series, self.sources, self.slots, *self.tables.values()
        return sum(one.nbytes for one in arrays if one is not None)


def keys_of(sources: Integers, times: Integers) -> Keys:
    """Return the keys of rows, from the numbers of their sources and their times."""
    return sources.view(np.uint64) << np.uint64(TIME_BITS) ^ times.view(np.uint64)


class Points(NamedTuple):
    """Samples of a table's series, as arrays of the same length."""

    series: Objects
    sources: Integers
    """Numbers of the sources of the series."""
    slots: Integers
    times: Integers
    """Milliseconds since the Unix epoch, below 2 ** 42."""
    values: Floats

    @property
    def keys(self) -> Keys:
        """Return the key of each sample's row."""
        return keys_of(self.sources, self.times)

    def only(self, which: Flags | Integers | slice) -> Points:
        """Return some of the samples."""
        return Points(
            self.series[which],
            self.sources[which],
            self.slots[which],
            self.times[which],
            self.values[which],
        )

    def joined(self, others: Points) -> Points:
        """Return these samples followed by others."""
        return Points(
            np.concatenate([self.series, others.series]),
            np.concatenate([self.sources, others.sources]),
            np.concatenate([self.slots, others.slots]),
            np.concatenate([self.times, others.times]),
            np.concatenate([self.values, others.values]),
        )

    def samples(self) -> list[Sample]:
        """Return the samples as a list."""
        arrays = self.series, self.times, self.values
        return list(zip(*(one.tolist() for one in arrays), strict=True))


class Block(Collection[Sample]):
    """Samples of kept series.

    Args:
        known: The series of the samples, and possibly others.
        places: Index in `known` of each sample's series.
        times: In milliseconds since the Unix epoch, below 2 ** 42.
        values: One for each time.
    """

    def __init__(
        self, known: KeptSeries, places: slice | Integers, times: Integers, values: Floats
    ) -> None:
        self.known = known
        self.places = places
        self.times = times
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._points.samples())

    def __contains__(self, sample: object) -> bool:
        return any(one == sample for one in self)

    @cached_property
    def instants(self) -> set[int]:
        """Return the distinct times."""
        times = self.times
        return {*times[:1].tolist(), *times[1:][times[1:] != times[:-1]].tolist()}

    @property
    def _points(self) -> Points:
        known, places = self.known, self.places
        fixed = known.series[places], known.sources[places], known.slots[places]
        return Points(*fixed, self.times, self.values)

    def by_table(self) -> Iterator[tuple[Table, Points]]:
        """Yield the samples of each table."""
        for table, own in self.known.tables.items():
            yield table, self._points if own is None else self._points.only(own[self.places])


def find_codes(values: Floats, column: Column) -> list[int]:
    """Return the distinct codes of rows in a column, sorted; every row must have one."""
    found: list[int] = np.unique(values[:, column.slot].astype(np.int64)).tolist()
    return found


class RowBlock(NamedTuple):
    """Complete rows of a table, as arrays with one entry per row."""

    keys: Keys
    times: Integers
    """Milliseconds since the Unix epoch."""
    series: Objects
    """A series of each row's source."""
    values: Floats
    """One value for each column of the table."""

    @property
    def sources(self) -> list[Source]:
        """Return the source of each row."""
        return list(map(source_of, self.series.tolist()))

    def only(self, which: Flags) -> RowBlock:
        """Return some of the rows."""
        return RowBlock(self.keys[which], self.times[which], self.series[which], self.values[which])

    def codes(self, column: Column) -> set[int]:
        """Return the codes that the rows have in a column."""
        return {*find_codes(self.values, column)}

    def rows(self) -> Iterator[Row]:
        """Yield the rows one by one."""
        return zip(self.times.tolist(), self.sources, self.values.tolist(), strict=True)

    def samples(self) -> Iterator[Sample]:
        """Yield the samples of the rows."""
        for timestamp, source, values in self.rows():
            for column, value in source.table.samples(values):
                yield Series(column, source), timestamp, value
