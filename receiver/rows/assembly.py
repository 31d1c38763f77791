"""Makes rows from arrays of samples, all at once, with numpy.

`Batch` makes rows sample by sample. When many samples come together, sorting finds their rows
instead: the samples of a row have the same key, and a row is complete if each column of its table
occurs once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import Final

import numpy as np

from receiver.rows.blocks import TIME_BITS, Keys, Points, RowBlock, keys_of
from receiver.rows.columns import ColumnType, Flags
from receiver.rows.model import Key, Sample
from receiver.rows.tables import Table

NUMBERS: Final = 1 << 64 - TIME_BITS
"""Number of consecutively made sources whose row keys are all distinct."""
WIDEST: Final = 60
"""Maximum number of columns of a table that can each have one bit of an integer."""


class Assembly:
    """Makes complete rows from many samples at once.

    A row is either here or among those that `Batch` makes sample by sample, never in both.

    Args:
        table: The table of the rows.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self._open: Points | None = None
        # For each open sample, whether its row lacks a required sample.
        self._lacks = np.zeros(0, np.bool_)
        self._times: set[int] = set()
        self.rows: list[RowBlock] = []
        """Complete rows."""

    @property
    def is_incomplete(self) -> bool:
        """Whether a row lacks a required sample."""
        return self._open is not None and bool(self._lacks.any())

    @property
    def number_lacking(self) -> int:
        """Number of samples whose row lacks a required one."""
        return 0 if self._open is None else int(np.count_nonzero(self._lacks))

    def __bool__(self) -> bool:
        return bool(self.rows) or self._open is not None

    def add(
        self, points: Points, instants: Collection[int], elsewhere: Collection[Key]
    ) -> list[Sample]:
        """Take samples; return those that have to be added one by one.

        Args:
            points: The samples, all at accepted times.
            instants: Their times, and possibly others.
            elsewhere: Keys of the rows that are made sample by sample.
        """
        if self.table.width > WIDEST:
            return points.samples()
        left: list[Sample] = []
        usual = are_usual(self.table, points)
        if elsewhere or not usual.all():
            keys = points.keys
            there = np.isin(keys, np.concatenate([keys[~usual], encode_keys(elsewhere)]))
            left, points = points.only(there).samples(), points.only(~there)
        together = points if self._open is None else self._open.joined(points)
        if not len(points.times) or np.ptp(together.sources) >= NUMBERS:
            return left + points.samples()
        self._times.update(instants)
        self._assemble(together)
        return left

    def _assemble(self, points: Points) -> None:
        """Make complete rows; samples of other rows stay open."""
        keys = points.keys
        if (keys[1:] < keys[:-1]).any():
            # A stable sort: samples of a row stay in the order in which they came.
            order = np.argsort(keys, kind="stable")
            points, keys = points.only(order), keys[order]
        firsts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        counts = np.diff(firsts, append=len(keys))
        bits = 1 << points.slots
        # `width` powers of two add up to `width` ones only if each occurs once.
        ones = np.add.reduceat(bits, firsts) == (1 << self.table.width) - 1
        whole = ones & (counts == self.table.width)
        self._open = None
        if whole.all():
            self._make_rows(points)
            return
        taken = np.repeat(whole, counts)
        self._make_rows(points.only(taken))
        required = (1 << self.table.required) - 1
        there = np.bitwise_or.reduceat(bits, firsts)[~whole] & required
        self._open = points.only(~taken)
        self._lacks = np.repeat(there != required, counts[~whole])

    def _make_rows(self, points: Points) -> None:
        """Make complete rows from samples that are grouped by row."""
        if not len(points.times):
            return
        width = self.table.width
        slots = points.slots.reshape(-1, width)
        values = np.empty(slots.shape)
        values[np.arange(len(slots))[:, np.newaxis], slots] = points.values.reshape(-1, width)
        some = points.only(slice(None, None, width))
        self.rows.append(RowBlock(some.keys, some.times, some.series, values))

    def take(self, keys: Collection[Key]) -> list[Sample]:
        """Remove the samples of these rows, and return them."""
        keys = [key for key in keys if key[0] in self._times]
        if not keys:
            return []
        wanted = encode_keys(keys)
        taken: list[Sample] = []
        for place, rows in enumerate(self.rows):
            there = np.isin(rows.keys, wanted)
            if there.any():
                taken += rows.only(there).samples()
                self.rows[place] = rows.only(~there)
        self.rows = [rows for rows in self.rows if len(rows.keys)]
        if self._open is not None:
            there = np.isin(self._open.keys, wanted)
            taken += self._open.only(there).samples()
            self._keep_open(~there)
        return taken

    def _keep_open(self, which: Flags) -> None:
        if self._open is not None and which.any():
            self._open, self._lacks = self._open.only(which), self._lacks[which]
        else:
            self._open = None

    def close(self) -> list[Sample]:
        """Remove and return the samples whose rows have to be made sample by sample.

        Complete rows, each occurring once, and rows that lack a required sample stay.
        """
        taken: list[Sample] = []
        keys = [one.keys for one in self.rows]
        if self._open is not None:
            keys.append(np.unique(self._open.keys))
        if self.rows and len(keys) > 1 and has_twice(np.concatenate(keys)):
            taken = [sample for rows in self.rows for sample in rows.samples()]
            self.rows = []
            self._lacks[:] = False
        if self._open is not None:
            taken += self._open.only(~self._lacks).samples()
            self._keep_open(self._lacks)
        return taken

    def lacks(self, keys: Keys) -> bool:
        """Return whether one of these rows is here and lacks a required sample."""
        if not self.is_incomplete or self._open is None:
            return False
        # They are sorted, and this is asked once for each request of a batch.
        lacking = self._open.keys[self._lacks]
        places = np.searchsorted(lacking, keys).clip(max=len(lacking) - 1)
        return bool((lacking[places] == keys).any())

    def take_lacking(self, keys: Sequence[Keys] | None = None) -> Points | None:
        """Remove and return the samples of rows that lack a required one; None if there are none.

        Args:
            keys: Keys of the rows to consider, in several arrays; None: all rows.
        """
        if self._open is None:
            return None
        wanted = self._lacks
        if keys is not None:
            wanted = wanted & np.isin(self._open.keys, np.concatenate(keys))
        if not wanted.any():
            return None
        taken = self._open.only(wanted)
        self._keep_open(~wanted)
        return taken


def encode_keys(keys: Collection[Key]) -> Keys:
    """Encode keys of rows as `Points.keys` does."""
    sources = np.fromiter((source.number for _, source in keys), np.int64, len(keys))
    return keys_of(sources, np.fromiter((timestamp for timestamp, _ in keys), np.int64, len(keys)))


def are_usual(table: Table, points: Points) -> Flags:
    """Return which values are usual values of their columns."""
    usual = np.ones(len(points.values), np.bool_)
    with np.errstate(invalid="ignore"):  # a stale marker is a signaling NaN
        for type_, others in types_of(table):
            usual &= type_.takes_all(points.values) | others[points.slots]
    return usual


@cache
def types_of(table: Table) -> list[tuple[ColumnType, Flags]]:
    """Return the column types of a table, each with flags for the columns of other types."""
    types = {column.type for column in table.columns}
    return [(one, np.array([column.type != one for column in table.columns])) for one in types]


def has_twice(keys: Keys) -> bool:
    """Return whether a key occurs more than once."""
    keys = np.sort(keys)
    return bool((keys[1:] == keys[:-1]).any())
