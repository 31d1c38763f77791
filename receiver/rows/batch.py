"""Samples to rows: which two samples make a row, and which can make none.

The two series of one scrape share timestamp and labels (all but `__name__`), which is what pairs
them, as in PromQL's one-to-one vector matching. Nothing here does I/O.
"""

from __future__ import annotations

import math
import struct
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from receiver.rows.model import Half, Key, Metric, Reason, Rejected, Row, Sample, Source

POSTGRES_EPOCH_MS: Final = 946_684_800_000
"""2000-01-01 UTC, from which PostgreSQL counts, in milliseconds since the Unix epoch."""
POSTGRES_EPOCH: Final = POSTGRES_EPOCH_MS * 1000
# What TIMESTAMPTZ can hold: 4713 BC to 294276 AD, in microseconds since 2000-01-01 UTC.
MIN_TIMESTAMP: Final = -211_813_488_000_000_000
END_TIMESTAMP: Final = 9_223_371_331_200_000_000
MIN_TIMESTAMP_MS: Final = MIN_TIMESTAMP // 1000 + POSTGRES_EPOCH_MS
END_TIMESTAMP_MS: Final = END_TIMESTAMP // 1000 + POSTGRES_EPOCH_MS
# From here on the fraction of a value is a multiple of 2^-39. Times a million, which is 2^6 times a
# number of 14 bits, and a half added, 53 bits still hold it: floating point is exact.
EXACT_FROM: Final = 2.0**13
# Up to here TIMESTAMPTZ holds it, in whichever unit.
EXACT_TO: Final = 2.0**43
MIN_INT32: Final = -(2**31)
END_INT32: Final = 2**31

# A member looked up on its class costs as much as the rest of a sample.
STATUS: Final = Metric.STATUS
MAX_CODES: Final = 1024
MILLISECOND: Final = timedelta(milliseconds=1)
STALE_BITS: Final = (0x7FF0000000000002).to_bytes(8, "little")


class Outcome(StrEnum):
    """What became of a kept sample when it arrived."""

    ACCEPTED = "accepted"
    STALE = "stale"
    REJECTED = "rejected"


def to_postgres_time(timestamp: int) -> int:
    """Milliseconds since the Unix epoch as TIMESTAMPTZ's microseconds since 2000-01-01 UTC."""
    return (timestamp - POSTGRES_EPOCH_MS) * 1000


def is_stale_marker(value: float) -> bool:
    """Whether a NaN is the one that says the series has ended (1.0 and 2.0, "Stale Markers")."""
    return struct.pack("<d", value) == STALE_BITS


def read_ocr_value(value: float, unit: int) -> int | Reason:
    """A Unix time in `unit` microseconds as TIMESTAMPTZ, or why it is none.

    A fraction is rounded to the microsecond, exactly: halves up.
    """
    if math.isfinite(value):
        numerator, denominator = value.as_integer_ratio()
        microseconds = (2 * numerator * unit + denominator) // (2 * denominator) - POSTGRES_EPOCH
    else:
        return Reason.NOT_A_NUMBER if math.isnan(value) else Reason.INFINITE
    return microseconds if MIN_TIMESTAMP <= microseconds < END_TIMESTAMP else Reason.OUT_OF_RANGE


def read_status(value: float) -> int | Reason:
    """An error code, or why the value is none."""
    if value.is_integer():
        return int(value) if MIN_INT32 <= value < END_INT32 else Reason.OUT_OF_RANGE
    if math.isnan(value):
        return Reason.NOT_A_NUMBER
    return Reason.INFINITE if math.isinf(value) else Reason.NOT_WHOLE


class Codes(dict[float, int | Reason]):
    """What values of the status metric are read as; there are few, so most are read once."""

    def __missing__(self, value: float) -> int | Reason:
        """Read a value that has not come up before."""
        if len(self) >= MAX_CODES:
            self.clear()
        self[value] = reading = read_status(value)
        return reading


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
    """The samples that commit together: rows, incomplete rows and rejected samples.

    Args:
        ocr_unit: Microseconds in one unit of the OCR metric.
        window: Which times are accepted.
    """

    def __init__(self, ocr_unit: int, window: TimeWindow = ANY_TIME) -> None:
        self._ocr_unit = ocr_unit
        self._window = window
        self.rows: list[Row] = []
        self.rejected: list[Rejected] = []
        self._taken = 0
        self._codes = Codes()
        # By timestamp, since the samples of a scrape share theirs.
        self._statuses: defaultdict[int, dict[Source, float]] = defaultdict(dict)
        self._ocr_values: defaultdict[int, dict[Source, tuple[int, float]]] = defaultdict(dict)
        # The pairs of which a sample's value was rejected, and whose that was.
        self._broken: defaultdict[Key, set[Metric]] = defaultdict(set)

    def __bool__(self) -> bool:
        return bool(self.rows or self.rejected or self.has_halves)

    @property
    def timestamps(self) -> Collection[int]:
        """The times of all samples, in milliseconds since the Unix epoch."""
        return self._statuses.keys()

    @property
    def has_halves(self) -> bool:
        """Whether a row is incomplete."""
        return any(self._statuses.values()) or any(self._ocr_values.values())

    @property
    def repeated(self) -> int:
        """How many samples only repeat another one of the batch, a half like themselves."""
        return self._taken - 2 * len(self.rows) - self.count_halves() - len(self.rejected)

    def count_halves(self) -> int:
        """Count the samples whose other sample is not there."""
        return sum(map(len, self._statuses.values())) + sum(map(len, self._ocr_values.values()))

    def has_half_of(self, samples: Iterable[Sample]) -> bool:
        """Return whether one of these samples lacks its other sample."""
        return any(
            source in self._waiting(metric, timestamp) for (metric, source), timestamp, _ in samples
        )

    def pass_on(self, samples: Iterable[Sample], following: Batch) -> None:
        """Leave those of these samples that lack their other sample to another batch."""
        for (metric, source), timestamp, _ in samples:
            waiting = self._waiting(metric, timestamp)
            if source in waiting:
                following._waiting(metric, timestamp)[source] = waiting.pop(source)
                self._taken -= 1
                following._taken += 1

    def _waiting(self, metric: Metric, timestamp: int) -> dict[Source, Any]:
        halves = self._statuses if metric is Metric.STATUS else self._ocr_values
        return halves[timestamp]

    def halves(self) -> Iterator[Half]:
        """Yield the incomplete rows, in no particular order."""
        for timestamp, statuses in self._statuses.items():
            for source, status in statuses.items():
                yield timestamp, source, status, None, None
        for timestamp, ocr_values in self._ocr_values.items():
            for source, (ocr_value, sample) in ocr_values.items():
                yield timestamp, source, None, ocr_value, sample

    def broken(self) -> Iterator[Key]:
        """Yield the pairs of which one sample was rejected, and the other is not in this batch."""
        return (key for key, rejected in self._broken.items() if len(rejected) == 1)

    def add(self, samples: Collection[Sample]) -> Counter[Outcome]:  # noqa: C901, PLR0912  see below
        """Take the samples of one request; returns what became of them."""
        # One loop, without a call or a counter more than it takes: it runs once a sample.
        before, stale = len(self.rejected), 0
        rows, codes, unit, at = self.rows, self._codes, self._ocr_unit, None
        for (metric, source), timestamp, value in samples:
            if timestamp != at:
                at = timestamp
                fault = self._window.judge(timestamp)
                statuses, ocr_values = self._statuses[timestamp], self._ocr_values[timestamp]
            is_status = metric is STATUS
            if is_status:
                reading = codes[value]
            elif EXACT_FROM <= value < EXACT_TO:
                whole = int(value)
                reading = whole * unit + int((value - whole) * unit + 0.5) - POSTGRES_EPOCH
            else:
                reading = read_ocr_value(value, unit)
            if not isinstance(reading, int):
                if is_stale_marker(value):
                    stale += 1
                else:
                    self._reject(source, metric, timestamp, value, reading)
                    if fault is None:
                        self._broken[timestamp, source].add(metric)
            elif fault is not None:
                self._reject(source, metric, timestamp, value, fault)
            elif is_status:
                other = ocr_values.pop(source, None)
                if other is not None:
                    rows.append((timestamp, source, value, *other))
                elif statuses.setdefault(source, value) != value:
                    self._reject(source, metric, timestamp, value, Reason.CONFLICT)
            else:
                status = statuses.pop(source, None)
                if status is not None:
                    rows.append((timestamp, source, status, reading, value))
                elif ocr_values.setdefault(source, (reading, value))[0] != reading:
                    self._reject(source, metric, timestamp, value, Reason.CONFLICT)
        self._taken += len(samples) - stale
        rejected = len(self.rejected) - before
        return +Counter(
            {
                Outcome.ACCEPTED: len(samples) - stale - rejected,
                Outcome.STALE: stale,
                Outcome.REJECTED: rejected,
            }
        )

    def close(self) -> None:
        """Take no more samples: reject those whose other sample was rejected."""
        for (timestamp, source), rejected in self._broken.items():
            status = self._statuses[timestamp].pop(source, None)
            if status is not None:
                rejected.add(Metric.STATUS)
                self._reject(source, Metric.STATUS, timestamp, status, Reason.WITH_OTHER)
            ocr = self._ocr_values[timestamp].pop(source, None)
            if ocr is not None:
                rejected.add(Metric.OCR)
                self._reject(source, Metric.OCR, timestamp, ocr[1], Reason.WITH_OTHER)

    def _reject(
        self, source: Source, metric: Metric, timestamp: int, value: float, reason: Reason
    ) -> None:
        self.rejected.append(Rejected(source, metric, timestamp, value, reason))
