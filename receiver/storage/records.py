"""Batches in the form of the tables.

Timestamps are microseconds since 2000-01-01 UTC, sources their ids, and everything is sorted by
(created_at, source_id): the order in which every transaction takes its locks.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, TypeAlias

from receiver.model import Half, Metric, Reason, Rejected, Row, Source
from receiver.pairing import POSTGRES_EPOCH_MS, to_postgres_time

LogRecord: TypeAlias = tuple[int, int, int, int, float]
"""created_at, source_id, app_status, ocr_value, and the OCR sample as it came."""
HalfRecord: TypeAlias = tuple[int, int, int | None, int | None, float | None]
"""The same without its status or its OCR value."""
RejectedRecord: TypeAlias = tuple[int, str, int, float, str]
"""source_id, metric, timestamp in milliseconds since the Unix epoch, value, reason."""

# The binary format of COPY: a header, then for each row its number of fields and each field after
# its length in bytes, then a trailer.
COPY_COLUMNS: Final = ("created_at", "source_id", "app_status", "ocr_value")
COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_ROW: Final = struct.Struct(">hiqiiiiiq")
COPY_TRAILER: Final = b"\xff\xff"


class Contents(NamedTuple):
    """What one transaction writes."""

    rows: list[Row]
    halves: list[Half]
    rejected: list[Rejected]
    repeated: int = 0
    """Samples that only repeat one of these; they are counted and not written."""

    def sources(self) -> set[Source]:
        """Every source that something belongs to."""
        pairs: list[Row | Half] = [*self.rows, *self.halves]
        return {pair[1] for pair in pairs} | {sample.source for sample in self.rejected}

    def size(self) -> int:
        """How many entries of any kind."""
        return len(self.rows) + len(self.halves) + len(self.rejected)

    def split(self) -> tuple[Contents, Contents]:
        """Two parts, neither empty if there are two entries."""
        cut = self.size() // 2
        first = self.rows[:cut]
        second = self.halves[: max(0, cut - len(self.rows))]
        third = self.rejected[: max(0, cut - len(self.rows) - len(self.halves))]
        return Contents(first, second, third, self.repeated), Contents(
            self.rows[len(first) :], self.halves[len(second) :], self.rejected[len(third) :]
        )

    def by_time(self, width: int) -> list[Contents]:
        """Parts in the order of time, each within a range of `width` milliseconds.

        There must be rows or halves.
        """
        parts: defaultdict[int, Contents] = defaultdict(lambda: Contents([], [], []))
        for row in self.rows:
            parts[row[0] // width].rows.append(row)
        for half in self.halves:
            parts[half[0] // width].halves.append(half)
        ordered = [parts[number] for number in sorted(parts)]
        ordered[0].rejected.extend(self.rejected)
        ordered[0] = ordered[0]._replace(repeated=self.repeated)
        return ordered

    def set_aside(self) -> Contents:
        """The same samples, all of them rejected."""
        rejected = list(self.rejected)
        pairs: list[Row | Half] = [*self.rows, *self.halves]
        for timestamp, source, status, _, ocr_sample in pairs:
            for metric, value in ((Metric.STATUS, status), (Metric.OCR, ocr_sample)):
                if value is not None:
                    rejected.append(
                        Rejected(source, metric, timestamp, float(value), Reason.REFUSED)
                    )
        return Contents([], [], rejected, self.repeated)


def source_key(source: Source) -> int:
    """The source's id.

    Raises:
        RuntimeError: `sources.resolve_sources` has not been asked.
    """
    if source.id is None:
        raise RuntimeError(f"{source} has no id yet")
    return source.id


def log_records(rows: Iterable[Row]) -> list[LogRecord]:
    """Rows for `app_logs`."""
    # Spelled out rather than called: this runs once a row on the hot path.
    records = [
        ((timestamp - POSTGRES_EPOCH_MS) * 1000, source.id or 0, status, ocr_value, sample)
        for timestamp, source, status, ocr_value, sample in rows
    ]
    records.sort()
    return records


def half_records(halves: Iterable[Half]) -> list[HalfRecord]:
    """Rows for `pending_halves`; there is at most one a source and time."""
    records: list[HalfRecord] = [
        (to_postgres_time(timestamp), source_key(source), status, ocr_value, sample)
        for timestamp, source, status, ocr_value, sample in halves
    ]
    return sorted(records, key=lambda record: record[:2])


def rejected_records(
    rejected: Iterable[Rejected], names: Mapping[Metric, str]
) -> list[RejectedRecord]:
    """Rows for `rejected_samples`."""
    return [(source_key(sample.source), names[sample.metric], *sample[2:]) for sample in rejected]


def encode_copy(logs: Iterable[LogRecord]) -> memoryview:
    """All of a binary COPY into the columns `COPY_COLUMNS` of `app_logs`."""
    pack = COPY_ROW.pack
    rows = [
        pack(4, 8, created_at, 4, source_id, 4, status, 8, ocr_value)
        for created_at, source_id, status, ocr_value, _ in logs
    ]
    # asyncpg takes bytes for the name of a file, a view for what to send.
    return memoryview(b"".join((COPY_HEADER, *rows, COPY_TRAILER)))
