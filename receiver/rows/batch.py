"""Makes rows from samples: a row has one label set and time, and a sample per column of the table.

The series of one scrape share timestamp and labels (all but `__name__`) and therefore form a row,
as in PromQL's one-to-one vector matching. Nothing here does I/O.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from receiver.rows.columns import (
    END_TIMESTAMP,
    MIN_TIMESTAMP,
    POSTGRES_EPOCH_MS,
    is_stale_marker,
)
from receiver.rows.model import Key, Rejected, Row, Rows, Sample, Samples, Source, arrange, no_rows
from receiver.rows.reasons import Reason
from receiver.rows.tables import Column, Table

if TYPE_CHECKING:
    from receiver.rows.assembly import Assembly
    from receiver.rows.blocks import Block, Keys, Points, RowBlock

MIN_TIMESTAMP_MS: Final = MIN_TIMESTAMP // 1000 + POSTGRES_EPOCH_MS
END_TIMESTAMP_MS: Final = END_TIMESTAMP // 1000 + POSTGRES_EPOCH_MS
MILLISECOND: Final = timedelta(milliseconds=1)
FEWEST: Final = 64
"""Number of samples below which adding them one by one is cheaper than assembling their rows."""


class Outcomes(NamedTuple):
    """How many samples of a request were accepted, rejected or stale markers on arrival."""

    accepted: int = 0
    rejected: int = 0
    stale: Mapping[str, int] = MappingProxyType({})
    """Number of stale markers, by table."""

    def plus(self, other: Outcomes) -> Outcomes:
        """Return the sum."""
        return Outcomes(
            self.accepted + other.accepted,
            self.rejected + other.rejected,
            Counter(self.stale) + Counter(other.stale),
        )


class TimeWindow:
    """The accepted timestamps, relative to the present.

    Args:
        max_age: Maximum age of a sample; None: any age.
        max_lead: How far a sample may be in the future; None: any time.
        now: Returns the time, in seconds since the Unix epoch.
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
        """Return why a timestamp (milliseconds since the Unix epoch) is rejected, if it is."""
        if not MIN_TIMESTAMP_MS <= timestamp < END_TIMESTAMP_MS:
            return Reason.TIMESTAMP_OUT_OF_RANGE
        lead = timestamp - int(self._now() * 1000)
        if self._max_age is not None and -lead > self._max_age:
            return Reason.TOO_OLD
        if self._max_lead is not None and lead > self._max_lead:
            return Reason.TOO_FAR_AHEAD
        return None

    def takes(self, first: int, last: int) -> bool:
        """Return whether samples of both timestamps and all between are accepted."""
        return self.judge(first) is None and self.judge(last) is None


ANY_TIME: Final = TimeWindow()


class Batch:
    """The samples that commit together: rows, complete or not, and rejected samples.

    Args:
        window: The accepted timestamps.
    """

    def __init__(self, window: TimeWindow = ANY_TIME) -> None:
        self._window = window
        self._rows = no_rows()
        # Rows of samples that came in arrays; most of these rows are complete.
        self._assemblies: dict[Table, Assembly] = {}
        # Rows that lacked a required sample when they were last checked.
        self._open: list[Row] = []
        # Keys of rows of which a required sample was rejected for its value.
        self._broken: set[Key] = set()
        self.rejected: list[Rejected] = []
        self.repeated: Counter[str] = Counter()
        """Number of samples that only repeat others of the batch, by table."""

    def __bool__(self) -> bool:
        return (
            bool(self.rejected)
            or any(self._assemblies.values())
            or any(any(by_time.values()) for by_time in self._rows.values())
        )

    @property
    def is_incomplete(self) -> bool:
        """Whether a row lacks a required sample, or may lack one until the batch is closed."""
        return any(one.is_incomplete for one in self._assemblies.values()) or bool(self._lacking())

    @property
    def slow(self) -> int:
        """At most how many samples are rejected, or wait for others of their row."""
        waiting = sum(one.number_lacking for one in self._assemblies.values())
        return len(self.rejected) + len(self._open) + waiting

    def add(self, samples: Collection[Sample]) -> Outcomes:
        """Take the samples of one request; return how many were accepted and rejected.

        Some contradictions among samples in arrays are found only when the batch is closed.
        """
        before, stale = len(self.rejected), Counter[str]()
        if isinstance(samples, Samples):
            for block in samples.blocks:
                self._add_apart(self._assemble_block(block), stale)
            self._add_apart(samples.plain, stale)
        else:
            self._add_apart(samples, stale)
        rejected = len(self.rejected) - before
        return Outcomes(len(samples) - stale.total() - rejected, rejected, stale)

    def _assemble_block(self, block: Block) -> Collection[Sample]:
        """Make rows of samples in arrays; return the samples that have to be added one by one."""
        times = block.instants
        if len(block) < FEWEST or not self._window.takes(min(times), max(times)):
            return block
        left: list[Sample] = []
        for table, points in block.by_table():
            left += self._assemble(table, points, times)
        return left

    def _assemble(self, table: Table, points: Points, times: set[int]) -> list[Sample]:
        from receiver.rows.assembly import Assembly  # noqa: PLC0415  numpy takes 0.1 s to load

        assembly = self._assemblies.setdefault(table, Assembly(table))
        return assembly.add(points, times, self._keys(table, times))

    def _keys(self, table: Table, times: set[int]) -> list[Key]:
        """Return the keys of rows made sample by sample, at these times and possibly at others."""
        by_time = self._rows.get(table)
        if not by_time:
            return []
        shared = by_time.keys() & times
        found = [(timestamp, source) for timestamp in shared for source in by_time[timestamp]]
        return found + [key for key in self._broken if key[1].table is table]

    def _add_apart(self, samples: Collection[Sample], stale: Counter[str]) -> None:
        """Add samples one by one, after the samples of the same rows that came in arrays before."""
        if self._assemblies and samples:
            keys = {(timestamp, source) for (_, source, _), timestamp, _ in samples}
            for table, assembly in self._assemblies.items():
                self._add(assembly.take([key for key in keys if key[1].table is table]), stale)
        self._add(samples, stale)

    def _add(self, samples: Iterable[Sample], stale: Counter[str]) -> None:
        """Make rows sample by sample."""
        # One loop without a needless call or counter: it runs once per sample.
        at = table = None
        for (column, source, _), timestamp, value in samples:
            if timestamp != at or source.table is not table:
                at, table = timestamp, source.table
                fault = self._window.judge(timestamp)
                rows = self._rows[table][timestamp]
                may_lack, empty = table.required > 1 or table.optional, table.empty
            if (fault is not None or not column.takes(value)) and not self._takes(
                (source, column, timestamp, value), fault, stale
            ):
                continue
            values = rows.get(source)
            if values is None:
                rows[source] = values = empty.copy()
                values[column.slot] = value
                if may_lack:
                    self._open.append((timestamp, source, values))
            elif (other := values[column.slot]) is None:
                values[column.slot] = value
            elif other == value or column.agree(other, value):
                self.repeated[table.name] += 1
            else:
                self._reject(source, column, timestamp, value, Reason.CONFLICT)

    def _takes(
        self,
        sample: tuple[Source, Column, int, float],
        fault: Reason | None,
        stale: Counter[str],
    ) -> bool:
        """Decide whether to take a sample whose time is not accepted or whose value is unusual.

        Args:
            sample: Its source, column, timestamp and value.
            fault: Why its time is not accepted; None if it is.
            stale: Counts stale markers, by table.
        """
        source, column, _, value = sample
        reason = column.check(value)
        if reason is not None and is_stale_marker(value):
            stale[source.table.name] += 1
        elif fault is not None and (reason is None or column.special):
            self._reject(*sample, fault)
        elif reason is not None and not column.special:
            if fault is None and column.required and reason in source.table.breaking:
                self._broken.add((sample[2], source))
            self._reject(*sample, reason)
        else:
            return True
        return False

    def has_incomplete(self, samples: Collection[Sample]) -> bool:
        """Return whether the row of one of these samples is incomplete."""
        if any(assembly.lacks(keys) for assembly, keys in self._assembled(samples)):
            return True
        return bool(self._open) and any(
            self._lacks((timestamp, series.source)) for series, timestamp, _ in samples
        )

    def _assembled(self, samples: Collection[Sample]) -> Iterator[tuple[Assembly, Keys]]:
        """Yield the assemblies of the samples' tables, with the keys of the samples' rows."""
        for block in samples.blocks if isinstance(samples, Samples) else ():
            for table, points in block.by_table():
                if table in self._assemblies:
                    yield self._assemblies[table], points.keys

    def _lacks(self, key: Key) -> bool:
        timestamp, source = key
        values = self._rows[source.table][timestamp].get(source)
        return values is not None and source.table.lacks(values)

    def _lacking(self) -> list[Row]:
        """Return the rows that lack a required sample."""
        self._open = [row for row in self._open if None in row[2] and row[1].table.lacks(row[2])]
        return self._open

    def pass_on(self, requests: Collection[Collection[Sample]], following: Batch) -> None:
        """Move the incomplete rows of some requests' samples to another batch."""
        assembled: defaultdict[Assembly, list[Keys]] = defaultdict(list)
        for samples in requests:
            for assembly, keys in self._assembled(samples):
                assembled[assembly].append(keys)
        for assembly, some in assembled.items():
            points = assembly.take_lacking(some)
            if points is not None:
                following._adopt(assembly.table, points)
        if not self._lacking():
            return
        places = {
            (timestamp, source) for samples in requests for (_, source, _), timestamp, _ in samples
        }
        for row in self._take({place for place in places if self._lacks(place)}):
            timestamp, source, values = row
            following._rows[source.table][timestamp][source] = values
            following._open.append(row)

    def _adopt(self, table: Table, points: Points) -> None:
        """Take samples from another batch, which has accepted all of them."""
        left = self._assemble(table, points, {*points.times.tolist()})
        self._add_apart(left, Counter())

    def _take(self, keys: Collection[Key]) -> list[Row]:
        """Remove incomplete rows from the batch, and return them."""
        taken = [row for row in self._open if row[:2] in keys]
        self._open = [row for row in self._open if row[:2] not in keys]
        for timestamp, source, _ in taken:
            del self._rows[source.table][timestamp][source]
        return taken

    def close(self) -> None:
        """Take no more samples: reject those whose row can no longer be stored."""
        for assembly in self._assemblies.values():
            self._add(assembly.close(), Counter())
        if not self._broken:
            return
        lacking = {key for key in self._broken if self._lacks(key)}
        # For the others, a valid value of the same sample came as well, or no other sample came.
        self._broken = {
            (timestamp, source)
            for timestamp, source in self._broken
            if (timestamp, source) in lacking or source not in self._rows[source.table][timestamp]
        }
        for timestamp, source, values in self._take(lacking):
            for column, value in source.table.samples(values):
                self._reject(source, column, timestamp, value, Reason.WITH_OTHER)

    def assembled(self) -> Mapping[Table, Sequence[RowBlock]]:
        """Return the complete rows that are in arrays, once the batch is closed."""
        return {table: one.rows for table, one in self._assemblies.items() if one.rows}

    def _leave_arrays(self) -> None:
        """Move incomplete rows from arrays to the rows made sample by sample."""
        for assembly in self._assemblies.values():
            points = assembly.take_lacking()
            if points is not None:
                self._add(points.samples(), Counter())

    def rows(self) -> Rows:
        """Return the complete rows that are not in arrays."""
        self._leave_arrays()
        if not self._lacking():
            return without_empty(self._rows)
        return without_empty(
            {
                table: {
                    timestamp: {
                        source: values for source, values in rows.items() if not table.lacks(values)
                    }
                    for timestamp, rows in by_time.items()
                }
                for table, by_time in self._rows.items()
            }
        )

    def incomplete(self) -> Rows:
        """Return the incomplete rows."""
        self._leave_arrays()
        return arrange(self._lacking())

    def broken(self) -> list[Key]:
        """Return keys of rows with a rejected required sample, whose others may be waiting."""
        return [key for key in self._broken if key[1].table.width > 1]

    def _reject(
        self, source: Source, column: Column, timestamp: int, value: float, reason: Reason
    ) -> None:
        self.rejected.append(Rejected(source, column, timestamp, value, reason))


def without_empty(rows: Rows) -> Rows:
    """Return the same rows, without tables and times that have no rows."""
    found = {
        table: {timestamp: rows for timestamp, rows in by_time.items() if rows}
        for table, by_time in rows.items()
    }
    return {table: by_time for table, by_time in found.items() if by_time}
