"""Samples to rows: which two samples make a row, and which can make none.

The two series of one scrape share timestamp and labels (all but `__name__`), which is what pairs
them, as in PromQL's one-to-one vector matching. Nothing here does I/O.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Collection, Iterator
from enum import StrEnum
from typing import Final

from receiver.model import Half, Metric, Reason, Rejected, Row, Sample, Source

POSTGRES_EPOCH_MS: Final = 946_684_800_000
"""2000-01-01 UTC, from which PostgreSQL counts, in milliseconds since the Unix epoch."""
# What TIMESTAMPTZ can hold: 4713 BC to 294276 AD, in microseconds since 2000-01-01 UTC.
MIN_TIMESTAMP: Final = -211_813_488_000_000_000
END_TIMESTAMP: Final = 9_223_371_331_200_000_000
MIN_TIMESTAMP_MS: Final = MIN_TIMESTAMP // 1000 + POSTGRES_EPOCH_MS
END_TIMESTAMP_MS: Final = END_TIMESTAMP // 1000 + POSTGRES_EPOCH_MS
MIN_INT32: Final = -(2**31)
END_INT32: Final = 2**31

# A member looked up on its class costs as much as the rest of a sample.
STATUS: Final = Metric.STATUS
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

    A fraction is rounded to the microsecond by exact arithmetic, never through a float.
    """
    if value.is_integer():
        microseconds = int(value) * unit - POSTGRES_EPOCH_MS * 1000
    elif math.isfinite(value):
        numerator, denominator = value.as_integer_ratio()
        microseconds = (2 * numerator * unit + denominator) // (2 * denominator)
        microseconds -= POSTGRES_EPOCH_MS * 1000
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


class Batch:
    """The samples that commit together: rows, halves and what is set aside.

    Args:
        ocr_unit: Microseconds in one unit of the OCR metric.
    """

    def __init__(self, ocr_unit: int) -> None:
        self._ocr_unit = ocr_unit
        self.rows: list[Row] = []
        self.rejected: list[Rejected] = []
        self._statuses: dict[tuple[int, Source], int] = {}
        self._ocr_values: dict[tuple[int, Source], tuple[int, float]] = {}

    def __bool__(self) -> bool:
        return bool(self.rows or self.rejected or self.has_halves)

    @property
    def has_halves(self) -> bool:
        """Whether a sample waits for its twin."""
        return bool(self._statuses or self._ocr_values)

    def halves(self) -> Iterator[Half]:
        """The samples without a twin in this batch, in no particular order."""
        for (timestamp, source), status in self._statuses.items():
            yield timestamp, source, status, None, None
        for (timestamp, source), (ocr_value, sample) in self._ocr_values.items():
            yield timestamp, source, None, ocr_value, sample

    def add(self, samples: Collection[Sample]) -> Counter[Outcome]:
        """Take the samples of one request; says what became of them."""
        # One loop, without a call or a counter more than it takes: it runs once a sample.
        before, stale = len(self.rejected), 0
        rows, statuses, ocr_values = self.rows, self._statuses, self._ocr_values
        for sample in samples:
            (metric, source), timestamp, value = sample
            is_status = metric is STATUS
            reading = read_status(value) if is_status else read_ocr_value(value, self._ocr_unit)
            if isinstance(reading, Reason):
                if is_stale_marker(value):
                    stale += 1
                else:
                    self._reject(sample, reading)
                continue
            if not MIN_TIMESTAMP_MS <= timestamp < END_TIMESTAMP_MS:
                self._reject(sample, Reason.TIMESTAMP_OUT_OF_RANGE)
                continue
            key = timestamp, source
            if is_status:
                twin = ocr_values.pop(key, None)
                if twin is not None:
                    rows.append((timestamp, source, reading, *twin))
                elif statuses.setdefault(key, reading) != reading:
                    self._reject(sample, Reason.CONFLICT)
            else:
                status = statuses.pop(key, None)
                if status is not None:
                    rows.append((timestamp, source, status, reading, value))
                elif ocr_values.setdefault(key, (reading, value))[0] != reading:
                    self._reject(sample, Reason.CONFLICT)
        rejected = len(self.rejected) - before
        return +Counter(
            {
                Outcome.ACCEPTED: len(samples) - stale - rejected,
                Outcome.STALE: stale,
                Outcome.REJECTED: rejected,
            }
        )

    def _reject(self, sample: Sample, reason: Reason) -> None:
        (metric, source), timestamp, value = sample
        self.rejected.append(Rejected(source, metric, timestamp, value, reason))
