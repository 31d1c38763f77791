"""Batches in the form of the tables.

Timestamps are microseconds since 2000-01-01 UTC, sources their ids, and everything is sorted by
(created_at, source_id): the order in which every transaction takes its locks.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias, TypeVar

from receiver.rows.batch import POSTGRES_EPOCH_MS, to_postgres_time
from receiver.rows.model import Half, Key, Labels, Metric, Reason, Rejected, Row, Source
from receiver.storage.writing.labels import cut, digest, to_json

LogRecord: TypeAlias = tuple[int, int, int, int, float, float]
"""created_at, source_id, app_status, ocr_value, and the values of the two samples as they came."""
HalfRecord: TypeAlias = tuple[int, int, int | None, float | None, int | None, float | None]
"""created_at, source_id, app_status and its sample's value, ocr_value and its sample's value; one
of the two is None."""
RejectedRecord: TypeAlias = tuple[
    int | None, bytes | None, str | None, str, int, float, str, str | None
]
"""source_id, or where there is none the digest and the labels; metric, timestamp in milliseconds
since the Unix epoch, value, reason, detail."""

# The binary format of COPY: a header, then for each row its number of fields and each field after
# its length in bytes, then a trailer.
COPY_COLUMNS: Final = ("created_at", "source_id", "app_status", "ocr_value")
COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_ROW: Final = struct.Struct(">hiqiiiiiq")
COPY_TRAILER: Final = b"\xff\xff"

MAX_PIECE: Final = 2**22
"""Characters of labels that one statement takes: they are in memory several times meanwhile."""

Entry = TypeVar("Entry")

KEY: Final = itemgetter(0, 1)
"""created_at and source_id of a record."""


class Refusal(NamedTuple):
    """Why an entry cannot be stored."""

    reason: Reason
    detail: str | None = None
    whose: Metric | None = None
    """The sample that it is about; the other one of its row is rejected with it. None: both."""


class Contents(NamedTuple):
    """What one transaction writes."""

    rows: list[Row]
    halves: list[Half]
    rejected: list[Rejected]
    broken: Sequence[Key] = ()
    """Pairs of which a sample was rejected: the other one, if it waits, must be rejected, too."""
    repeated: int = 0
    """Samples that only repeat one of these; they are counted and not written."""

    def sources(self) -> set[Source]:
        """Return every source that something belongs to."""
        pairs: list[Row | Half] = [*self.rows, *self.halves]
        return {pair[1] for pair in pairs} | {sample.source for sample in self.rejected}

    def codes(self) -> set[int]:
        """Return every error code there is."""
        found = {row[2] for row in self.rows} | {half[2] for half in self.halves}
        return {int(code) for code in found if code is not None}

    def timestamps(self) -> set[int]:
        """Return the times of all rows, in milliseconds since the Unix epoch."""
        return {row[0] for row in self.rows} | {half[0] for half in self.halves}

    def size(self) -> int:
        """Return how many entries there are, of any kind."""
        return len(self.rows) + len(self.halves) + len(self.rejected)

    def part(self, choose: Callable[[Source], bool]) -> tuple[Contents, Contents]:
        """Return what belongs to chosen sources, and what to others."""
        broken = [key for key in self.broken if choose(key[1])]
        chosen = Contents([], [], [], broken, self.repeated)
        others = Contents([], [], [], [key for key in self.broken if not choose(key[1])])
        for row in self.rows:
            (chosen if choose(row[1]) else others).rows.append(row)
        for half in self.halves:
            (chosen if choose(half[1]) else others).halves.append(half)
        for sample in self.rejected:
            (chosen if choose(sample.source) else others).rejected.append(sample)
        return chosen, others

    def without(self, refuse: Callable[[Row | Half], Refusal | None]) -> Contents:
        """Return the same with those rows rejected for which `refuse` returns a reason."""
        broken = list(self.broken)
        kept = Contents([], [], list(self.rejected), broken, self.repeated)
        for row in self.rows:
            if refusal := refuse(row):
                kept.rejected.extend(reject(row, refusal))
            else:
                kept.rows.append(row)
        for half in self.halves:
            if refusal := refuse(half):
                kept.rejected.extend(reject(half, refusal))
                broken.append(half[:2])
            else:
                kept.halves.append(half)
        return kept


def reject(entry: Row | Half, refusal: Refusal) -> Iterable[Rejected]:
    """Turn a row into its rejected samples."""
    timestamp, source, status, _, ocr_sample = entry
    for metric, value in ((Metric.STATUS, status), (Metric.OCR, ocr_sample)):
        if value is not None and refusal.whose in {None, metric}:
            yield Rejected(source, metric, timestamp, value, refusal.reason, refusal.detail)
        elif value is not None:
            yield Rejected(source, metric, timestamp, value, Reason.WITH_OTHER)


def source_key(source: Source) -> int:
    """Return the source's id.

    Raises:
        RuntimeError: `sources.resolve_sources` has not been asked.
    """
    if source.id is None:
        raise RuntimeError(f"{source} has no id yet")
    return source.id


def log_records(rows: Iterable[Row]) -> list[LogRecord]:
    """Turn rows into records of `app_logs`; of those with one key, the first comes first."""
    # Spelled out rather than called: this runs once a row on the hot path.
    records = [
        (
            (timestamp - POSTGRES_EPOCH_MS) * 1000,
            source.id or 0,
            int(status),
            ocr_value,
            status,
            sample,
        )
        for timestamp, source, status, ocr_value, sample in rows
    ]
    records.sort(key=KEY)
    return records


def half_records(halves: Iterable[Half]) -> list[HalfRecord]:
    """Turn incomplete rows into records of `pending_halves`, one for each source and time."""
    records: list[HalfRecord] = [
        (
            to_postgres_time(timestamp),
            source_key(source),
            None if status is None else int(status),
            status,
            ocr_value,
            sample,
        )
        for timestamp, source, status, ocr_value, sample in halves
    ]
    return sorted(records, key=KEY)


def key_records(keys: Iterable[Key]) -> list[tuple[int, int]]:
    """Turn keys into `created_at` and `source_id`; those whose source has no id are left out."""
    return sorted(
        (to_postgres_time(timestamp), source.id)
        for timestamp, source in keys
        if source.id is not None
    )


def rejected_records(
    rejected: Iterable[Rejected], names: Mapping[Metric, str]
) -> list[RejectedRecord]:
    """Turn rejected samples into records of `rejected_samples`.

    The first of each label set that has no id has all of it; the others have it cut. Else a large
    one would take its size for each sample, where the request brought it once.
    """
    records: list[RejectedRecord] = []
    known: dict[Source, tuple[int | None, bytes | None, str | None]] = {}
    for sample in rejected:
        source = sample.source
        if source not in known:
            records.append((*identify(source, source.labels), names[sample.metric], *sample[2:]))
            known[source] = identify(source, cut(source.labels))
        else:
            records.append((*known[source], names[sample.metric], *sample[2:]))
    return records


def identify(source: Source, labels: Labels) -> tuple[int | None, bytes | None, str | None]:
    """Return the source's id, or where the database has none its digest and the labels to show."""
    if source.id is not None:
        return source.id, None, None
    return None, digest(source.labels), to_json(labels)


def pieces(
    entries: Iterable[Entry], size_of: Callable[[Entry], int], most: int = MAX_PIECE
) -> Iterator[list[Entry]]:
    """Yield entries in lists of a bounded size, or of one entry.

    Args:
        entries: Any.
        size_of: Returns the size of one.
        most: The size of a list.
    """
    piece: list[Entry] = []
    total = 0
    for entry in entries:
        size = size_of(entry)
        if piece and total + size > most:
            yield piece
            piece, total = [], 0
        piece.append(entry)
        total += size
    if piece:
        yield piece


def encode_copy(logs: Iterable[LogRecord]) -> memoryview:
    """Encode a whole binary COPY into the columns `COPY_COLUMNS` of `app_logs`."""
    pack = COPY_ROW.pack
    rows = [
        pack(4, 8, created_at, 4, source_id, 4, status, 8, ocr_value)
        for created_at, source_id, status, ocr_value, _, _ in logs
    ]
    # asyncpg takes bytes for the name of a file, a view for what to send.
    return memoryview(b"".join((COPY_HEADER, *rows, COPY_TRAILER)))
