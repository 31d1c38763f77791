"""Batches in the form of the tables.

Timestamps are microseconds since 2000-01-01 UTC, sources their ids, and the records of each table
are sorted by the key (source_id, created_at). Every transaction takes its locks in that order, and
rows of one source go to the same pages of the key's index.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, TypeVar

from receiver.rows.columns import POSTGRES_EPOCH_MS
from receiver.rows.model import Key, Labels, Rejected, Row, Rows, Source, arrange, each_row
from receiver.rows.reasons import Reason
from receiver.rows.tables import Column, Table, Values
from receiver.storage.writing.labels import cut, digest, to_json

if TYPE_CHECKING:
    from receiver.rows.blocks import RowBlock

Record: TypeAlias = tuple[int, int, Values, Source]
"""A row, complete or not: created_at, source_id, the samples that came, and its source."""
Identity: TypeAlias = tuple[int | None, bytes | None, str | None]
"""The id of a source or, if it has none, its digest and labels as JSON."""
RowKey: TypeAlias = tuple[int, int]
"""What tells the rows of a table apart: created_at and source_id."""
Blocks: TypeAlias = "Mapping[Table, Sequence[RowBlock]]"
"""Complete rows of each table, in arrays."""
Records: TypeAlias = dict[Table, list[Record]]
"""Rows of each table, sorted by `ORDER`."""

LABELS_AT_ONCE: Final = 5_000
"""Labels that are encoded before other tasks get a turn of the event loop."""
MAX_PIECE: Final = 2**22
"""Maximum characters of labels in one statement, during which memory holds them several times."""

Entry = TypeVar("Entry")

KEY: Final = itemgetter(0, 1)
"""The key of a record."""
SOURCE_ID: Final = itemgetter(1)
ORDER: Final = itemgetter(1, 0)
"""Sort key of records: source_id, then created_at."""


class RejectedRecord(NamedTuple):
    """A row of `rejected_samples`."""

    source_id: int | None
    digest: bytes | None
    """Digest of the labels, if there is no source_id."""
    labels: str | None
    metric: str
    timestamp: int
    """Milliseconds since the Unix epoch."""
    value: float
    reason: Reason
    detail: str | None
    table: str
    column: str


class Refusal(NamedTuple):
    """Why an entry cannot be stored."""

    reason: Reason
    detail: str | None = None
    column: Column | None = None
    """The column whose sample is refused; None: the whole row."""


class Contents(NamedTuple):
    """What one transaction writes."""

    rows: Rows
    incomplete: Rows
    rejected: list[Rejected]
    broken: Sequence[Key] = ()
    """Rows of which a required sample was rejected: their waiting samples must be rejected, too."""
    repeated: Mapping[str, int] = Counter()
    """Number of samples that only repeat others of the batch, by table; they are not written."""
    blocks: Blocks = MappingProxyType({})
    """More complete rows, in arrays."""

    def by_time(self) -> Iterator[tuple[Table, int, Mapping[Source, Values]]]:
        """Yield the rows of each table and time, complete ones and the others."""
        for rows in (self.rows, self.incomplete):
            for table, by_time in rows.items():
                for timestamp, some in by_time.items():
                    yield table, timestamp, some

    def sources(self) -> set[Source]:
        """Return the sources of all rows and rejected samples."""
        found = {sample.source for sample in self.rejected}
        for _, _, rows in self.by_time():
            found.update(rows)
        for block in self._blocks():
            found.update(block.sources)
        return found

    def _blocks(self) -> Iterator[RowBlock]:
        return chain.from_iterable(self.blocks.values())

    def codes(self) -> dict[str, set[int]]:
        """Return all codes, by the table of codes that explains them."""
        found: defaultdict[str, set[int]] = defaultdict(set)
        for table, _, rows in self.by_time():
            for column in table.codes:
                found[column.codes] |= codes_of(column, rows.values())
        for table, blocks in self.blocks.items():
            for column in table.codes:
                for block in blocks:
                    found[column.codes] |= block.codes(column)
        return dict(found)

    def timestamps(self) -> dict[Table, set[int]]:
        """Return the times of each table's rows, in milliseconds since the Unix epoch."""
        found: defaultdict[Table, set[int]] = defaultdict(set)
        for table, timestamp, _ in self.by_time():
            found[table].add(timestamp)
        for table, blocks in self.blocks.items():
            found[table].update(*(block.times.tolist() for block in blocks))
        return found

    def size(self) -> int:
        """Return the number of rows and rejected samples."""
        entries = sum(len(rows) for _, _, rows in self.by_time()) + len(self.rejected)
        return entries + sum(len(block.keys) for block in self._blocks())

    def row_count(self) -> int:
        """Return the number of complete rows."""
        complete = sum(len(rows) for by_time in self.rows.values() for rows in by_time.values())
        return complete + sum(len(block.keys) for block in self._blocks())

    def one_by_one(self) -> Contents:
        """Return the same contents without any rows in arrays."""
        if not self.blocks:
            return self
        others = chain.from_iterable(block.rows() for block in self._blocks())
        return self._replace(rows=arrange(chain(each_row(self.rows), others)), blocks={})

    def part(self, choose: Callable[[Source], bool]) -> tuple[Contents, Contents]:
        """Split the contents into those of chosen sources, and those of others."""
        others = self._only(lambda source: not choose(source))
        return self._only(choose), others._replace(repeated=Counter())

    def _only(self, choose: Callable[[Source], bool]) -> Contents:
        return Contents(
            arrange(row for row in each_row(self.one_by_one().rows) if choose(row[1])),
            arrange(row for row in each_row(self.incomplete) if choose(row[1])),
            [sample for sample in self.rejected if choose(sample.source)],
            [key for key in self.broken if choose(key[1])],
            self.repeated,
        )

    def without(self, refuse: Callable[[Row], Refusal | None]) -> Contents:
        """Return the same contents, but reject the samples for which `refuse` returns a reason.

        A row that only loses an optional sample is kept.
        """
        rejected, broken = list(self.rejected), list(self.broken)

        def keep(row: Row) -> Row | None:
            refusal = refuse(row)
            if refusal is None:
                return row
            timestamp, source, values = row
            column = refusal.column
            if column is None or column.required:
                rejected.extend(reject(row, refusal))
                broken.append((timestamp, source))
                return None
            lone = source.table.empty.copy()
            lone[column.slot] = values[column.slot]
            rejected.extend(reject((timestamp, source, lone), refusal))
            rest = values.copy()
            rest[column.slot] = None
            # Another column may be refused, too.
            return None if rest == source.table.empty else keep((timestamp, source, rest))

        rows, incomplete = (
            arrange(kept for row in each_row(some) if (kept := keep(row)))
            for some in (self.one_by_one().rows, self.incomplete)
        )
        return Contents(rows, incomplete, rejected, broken, self.repeated)


def reject(row: Row, refusal: Refusal) -> Iterable[Rejected]:
    """Turn a row into its rejected samples."""
    timestamp, source, values = row
    for column, value in source.table.samples(values):
        if refusal.column in {None, column}:
            yield Rejected(source, column, timestamp, value, refusal.reason, refusal.detail)
        else:
            yield Rejected(source, column, timestamp, value, Reason.WITH_OTHER)


def to_records(rows: Rows) -> Records:
    """Turn rows into records, by table in the order in which tables are locked.

    Raises:
        RuntimeError: a source has no id, which must not happen.
    """
    found: Records = {}
    for table in sorted(rows, key=lambda table: table.name):
        records: list[Record] = []
        for timestamp, some in sorted(rows[table].items()):
            created_at = to_microseconds(timestamp)
            # No function call for each row: this is on the hot path.
            records += [
                (created_at, source.id or 0, values, source) for source, values in some.items()
            ]
        records.sort(key=SOURCE_ID)  # the rows of each source stay in the order of time
        if 0 in map(SOURCE_ID, records):
            without = next(record[3] for record in records if not record[1])
            raise RuntimeError(f"{without} has no id yet")
        if records:
            found[table] = records
    return found


def keys_of(records: Iterable[Record]) -> list[RowKey]:
    """Return the keys of records."""
    return list(map(KEY, records))


def to_microseconds(timestamp: int) -> int:
    """Turn milliseconds since the Unix epoch into a record's time."""
    return (timestamp - POSTGRES_EPOCH_MS) * 1000


def to_milliseconds(created_at: int) -> int:
    """Turn a record's time into milliseconds since the Unix epoch."""
    return created_at // 1000 + POSTGRES_EPOCH_MS


async def rejected_records(rejected: Iterable[Rejected]) -> list[RejectedRecord]:
    """Turn rejected samples into records of `rejected_samples`, in turns with other tasks.

    For a label set that has no id, the first record has all of it, and the others have it cut.
    Otherwise a large label set, which the request brought once, would be stored with each sample.
    """
    records: list[RejectedRecord] = []
    known: dict[Source, Identity | None] = {}
    encoded = 0
    for source, column, timestamp, value, reason, detail in rejected:
        identity = known.get(source)
        if identity is None:
            identity = identify(source, cut(source.labels) if source in known else source.labels)
            known[source] = identity if source in known or source.id is not None else None
            if source.id is None:
                encoded += len(source.labels)
        if encoded > LABELS_AT_ONCE:
            encoded = 0
            await asyncio.sleep(0)
        source_id, key, labels = identity
        records.append(
            RejectedRecord(
                source_id,
                key,
                labels,
                column.metric,
                timestamp,
                value,
                reason,
                detail,
                source.table.name,
                column.name,
            )
        )
    return records


def samples_of(
    record: Record, reason: Reason, detail: str | None = None, only: Column | None = None
) -> Iterator[RejectedRecord]:
    """Turn a record into its samples, as rejected.

    Args:
        record: A row whose source has an id.
        reason: Why they are rejected.
        detail: The database's message.
        only: The only column whose sample is returned; None: all.
    """
    created_at, source_id, values, source = record
    for column, value in source.table.samples(values):
        if only in {None, column}:
            yield RejectedRecord(
                source_id=source_id,
                digest=None,
                labels=None,
                metric=column.metric,
                timestamp=to_milliseconds(created_at),
                value=value,
                reason=reason,
                detail=detail,
                table=source.table.name,
                column=column.name,
            )


def conflicts_of(record: Record, columns: Iterable[Column]) -> Iterator[RejectedRecord]:
    """Turn the samples of these columns, which contradict existing ones, into rejected ones."""
    for column in columns:
        yield from samples_of(record, Reason.CONFLICT, only=column)


def identify(source: Source, labels: Labels) -> Identity:
    """Return the id of a source or, if it has none, its digest and the labels to show."""
    if source.id is not None:
        return source.id, None, None
    return None, digest(source.labels), to_json(labels)


def codes_of(column: Column, rows: Iterable[Values]) -> set[int]:
    """Return the codes that rows have in a column."""
    found = {*map(itemgetter(column.slot), rows)}
    return {int(value) for value in found if value is not None}


def count_samples(table: Table, records: Sequence[Record]) -> int:
    """Return how many samples rows of a table have."""
    total = table.width * len(records)
    return total - sum(record[2].count(None) for record in records) if table.optional else total


def pieces(
    entries: Iterable[Entry], size_of: Callable[[Entry], int], most: int = MAX_PIECE
) -> Iterator[list[Entry]]:
    """Yield entries in lists of a bounded size, or of one entry.

    Args:
        entries: Any.
        size_of: Returns the size of one.
        most: Maximum size of a list.
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
