"""Samples to rows: the samples of one label set and time, one for each column of the table.

The series of one scrape share timestamp and labels (all but `__name__`), which is what makes them a
row, as in PromQL's one-to-one vector matching. Nothing here does I/O.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Final, NamedTuple

from receiver.rows.columns import (
    END_TIMESTAMP,
    MIN_TIMESTAMP,
    POSTGRES_EPOCH_MS,
    is_stale_marker,
)
from receiver.rows.model import Key, Rejected, Row, Sample, Source
from receiver.rows.reasons import Reason
from receiver.rows.tables import Column, Table, Values

MIN_TIMESTAMP_MS: Final = MIN_TIMESTAMP // 1000 + POSTGRES_EPOCH_MS
END_TIMESTAMP_MS: Final = END_TIMESTAMP // 1000 + POSTGRES_EPOCH_MS
MILLISECOND: Final = timedelta(milliseconds=1)


class Outcomes(NamedTuple):
    """What became of the samples of a request when they arrived."""

    accepted: int = 0
    rejected: int = 0
    stale: Mapping[str, int] = MappingProxyType({})
    """Stale markers, by table."""

    def plus(self, other: Outcomes) -> Outcomes:
        """Return the sum."""
        return Outcomes(
            self.accepted + other.accepted,
            self.rejected + other.rejected,
            Counter(self.stale) + Counter(other.stale),
        )


class TimeWindow:
    """How far a sample's time may lie from the present.

    Args:
        max_age: How old a sample may be; None: any age.
        max_lead: How far it may lie in the future; None: any time.
        now: Tells the time, in seconds since the Unix epoch.
    """

    def __init__(
        self,
        max_age: timedelta | None = None,
        max_lead: timedelta | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._max_age = None if max_age is None else max_age // MILLISECOND
        self._max_lead = None if max_lead is None else max_lead // MILLISECOND
        self._now = now

    def judge(self, timestamp: int) -> Reason | None:
        """Return why a sample of this time (milliseconds since the Unix epoch) is rejected."""
        if not MIN_TIMESTAMP_MS <= timestamp < END_TIMESTAMP_MS:
            return Reason.TIMESTAMP_OUT_OF_RANGE
        lead = timestamp - int(self._now() * 1000)
        if self._max_age is not None and -lead > self._max_age:
            return Reason.TOO_OLD
        if self._max_lead is not None and lead > self._max_lead:
            return Reason.TOO_FAR_AHEAD
        return None


ANY_TIME: Final = TimeWindow()


class Batch:
    """The samples that commit together: rows, complete or not, and rejected samples.

    Args:
        window: Which times are accepted.
    """

    def __init__(self, window: TimeWindow = ANY_TIME) -> None:
        self._window = window
        # By timestamp, since the samples of a scrape share theirs.
        self._rows: defaultdict[int, dict[Source, Values]] = defaultdict(dict)
        self._incomplete = 0
        # Rows of which a required sample was rejected for its value.
        self._broken: set[Key] = set()
        self.rejected: list[Rejected] = []
        self.repeated: Counter[str] = Counter()
        """Samples that only repeat others of the batch, by table."""

    def __bool__(self) -> bool:
        return bool(self.rejected) or any(self._rows.values())

    @property
    def is_incomplete(self) -> bool:
        """Whether a row lacks a required sample."""
        return self._incomplete > 0

    def add(self, samples: Collection[Sample]) -> Outcomes:
        """Take the samples of one request; return what became of them."""
        # One loop, without a call or a counter more than it takes: it runs once a sample.
        before, at = len(self.rejected), None
        stale: Counter[str] = Counter()
        for (column, source, _), timestamp, value in samples:
            if timestamp != at:
                at = timestamp
                fault = self._window.judge(timestamp)
                rows = self._rows[timestamp]
            reason = column.check(value)
            if reason is not None or fault is not None:
                if value != value and is_stale_marker(value):  # noqa: PLR0124  a NaN
                    stale[source.table.name] += 1
                    continue
                if fault is not None or not column.special:
                    self._refuse(source, column, timestamp, value, reason, fault)
                    continue
            values = rows.get(source)
            if values is None:
                table = source.table
                rows[source] = values = table.empty.copy()
                values[column.slot] = value
                self._incomplete += table.required > 1 or not column.required
            elif (other := values[column.slot]) is None:
                values[column.slot] = value
                if column.required and (None not in values or not source.table.lacks(values)):
                    self._incomplete -= 1
            elif other == value or column.agree(other, value):
                self.repeated[source.table.name] += 1
            else:
                self._reject(source, column, timestamp, value, Reason.CONFLICT)
        rejected = len(self.rejected) - before
        return Outcomes(len(samples) - stale.total() - rejected, rejected, stale)

    def _refuse(  # noqa: PLR0913, PLR0917  what a sample has
        self,
        source: Source,
        column: Column,
        timestamp: int,
        value: float,
        reason: Reason | None,
        fault: Reason | None,
    ) -> None:
        """Reject a sample for its value or its time."""
        if reason is None or column.special:
            reason = fault
        elif fault is None and column.required:
            self._broken.add((timestamp, source))
        if reason is not None:
            self._reject(source, column, timestamp, value, reason)

    def has_incomplete(self, samples: Iterable[Sample]) -> bool:
        """Return whether the row of one of these samples is incomplete."""
        return any(self._lacks((timestamp, series.source)) for series, timestamp, _ in samples)

    def _lacks(self, key: Key) -> bool:
        timestamp, source = key
        values = self._rows[timestamp].get(source)
        return values is not None and source.table.lacks(values)

    def pass_on(self, samples: Iterable[Sample], following: Batch) -> None:
        """Leave the incomplete rows of these samples to another batch."""
        for (_, source, _), timestamp, _ in samples:
            if self._lacks((timestamp, source)):
                values = self._rows[timestamp].pop(source)
                self._incomplete -= 1
                following._take(timestamp, source, values)

    def _take(self, timestamp: int, source: Source, values: Values) -> None:
        self._rows[timestamp][source] = values
        self._incomplete += 1

    def close(self) -> None:
        """Take no more samples: reject those whose row cannot be stored any more."""
        for timestamp, source in list(self._broken):
            values = self._rows[timestamp].get(source)
            if values is None:
                continue
            if not source.table.lacks(values):
                # The sample came with a right value, too.
                self._broken.discard((timestamp, source))
                continue
            del self._rows[timestamp][source]
            self._incomplete -= 1
            for column, value in source.table.samples(values):
                self._reject(source, column, timestamp, value, Reason.WITH_OTHER)

    def rows(self) -> dict[Table, list[Row]]:
        """Return the complete rows of each table, in no particular order."""
        if not self._incomplete:
            return by_table(self._all())
        return by_table(row for row in self._all() if not row[1].table.lacks(row[2]))

    def incomplete(self) -> dict[Table, list[Row]]:
        """Return the incomplete rows of each table, in no particular order."""
        if not self._incomplete:
            return {}
        return by_table(row for row in self._all() if row[1].table.lacks(row[2]))

    def _all(self) -> Iterator[Row]:
        for timestamp, rows in self._rows.items():
            for source, values in rows.items():
                yield timestamp, source, values

    def broken(self) -> list[Key]:
        """Return the rows of which a required sample was rejected and others may be waiting."""
        return [key for key in self._broken if key[1].table.width > 1]

    def _reject(
        self, source: Source, column: Column, timestamp: int, value: float, reason: Reason
    ) -> None:
        self.rejected.append(Rejected(source, column, timestamp, value, reason))


def by_table(rows: Iterable[Row]) -> dict[Table, list[Row]]:
    """Return rows by their tables."""
    found: defaultdict[Table, list[Row]] = defaultdict(list)
    for row in rows:
        found[row[1].table].append(row)
    return dict(found)
