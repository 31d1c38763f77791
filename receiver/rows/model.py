"""Series, samples and rows: the plain types that decoding, batches and storage share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, count
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from receiver.rows.reasons import Reason
from receiver.rows.tables import Column, Table, Values

if TYPE_CHECKING:
    from receiver.rows.blocks import Block

Labels: TypeAlias = tuple[tuple[str, str], ...]
"""Label names and values, sorted by name, without `__name__`."""

NUMBERS: Final = count()


class Source:
    """One label set, less `__name__` and what a table ignores: what tells its rows apart.

    There is one object for each table and label set, so it can be compared by identity on the hot
    path. `id` is the key in the table `sources`; storage sets it as soon as it knows it.
    """

    __slots__ = ("__weakref__", "id", "label_values", "labels", "misfit", "number", "table")

    def __init__(self, table: Table, labels: Labels) -> None:
        self.table = table
        self.labels = labels
        self.id: int | None = None
        self.number = next(NUMBERS)
        """What arrays have in its place."""
        self.label_values: list[str | int | None] = []
        """What the table's label columns hold; None for a label that is not there."""
        self.misfit: str | None = None
        """Why a label does not fit its column, which keeps all rows from being stored."""
        if table.labels:
            try:
                self.label_values = table.read_labels(dict(labels))
            except ValueError as error:
                self.misfit = str(error)

    def __repr__(self) -> str:
        labels = ", ".join(f"{name}={value!r}" for name, value in self.labels)
        return f"Source({self.table.name}, {{{labels}}}, id={self.id})"


class Series(NamedTuple):
    """A kept series: a column of a table, and of which source."""

    column: Column
    source: Source
    others: tuple[Series, ...] = ()
    """The same for the other tables that the metric feeds."""


# Millions of these pass a second on the hot path, where a plain tuple costs a tenth of a named one.

Sample: TypeAlias = tuple[Series, int, float]
"""A sample of a kept series: its timestamp in milliseconds since the Unix epoch, and its value."""


class Samples(Collection[Sample]):
    """Samples of kept series, most of them in arrays if many come in a known order.

    Args:
        blocks: Those in arrays.
        plain: All others.
    """

    def __init__(self, blocks: list[Block], plain: list[Sample]) -> None:
        self.blocks = blocks
        self.plain = plain

    def __len__(self) -> int:
        return len(self.plain) + sum(map(len, self.blocks))

    def __iter__(self) -> Iterator[Sample]:
        return chain(*self.blocks, self.plain)

    def __contains__(self, sample: object) -> bool:
        return any(one == sample for one in self)


Row: TypeAlias = tuple[int, Source, Values]
"""A row of the source's table, complete or not: timestamp (milliseconds since the Unix epoch),
source, and the samples that came."""

Rows: TypeAlias = Mapping[Table, Mapping[int, Mapping[Source, Values]]]
"""Rows, complete or not: by table, timestamp (milliseconds since the Unix epoch) and source."""

Key: TypeAlias = tuple[int, Source]
"""What tells rows apart: timestamp (milliseconds since the Unix epoch) and source."""


class Newest(NamedTuple):
    """The newest row of a source in a table, and what tells the source from others."""

    table: str
    source_id: int
    job: str
    instance: str
    timestamp: float
    """Seconds since the Unix epoch."""


class Observed(NamedTuple):
    """What the database holds, as it was seen at one time."""

    pending: dict[str, int]
    """Incomplete rows, by table."""
    oldest: float
    """Seconds that the first of them has waited."""
    sources: int
    unlisted: int
    """Sources that are too many to be looked at one by one."""
    newest: list[Newest]


class Rejected(NamedTuple):
    """A sample that cannot become part of a row, with its exact value."""

    source: Source
    column: Column
    timestamp: int
    value: float
    reason: Reason
    detail: str | None = None
    """What the database said, where it refused the sample."""


class Faults(NamedTuple):
    """The invalid series of a request; nothing of them is among its samples."""

    invalid: int
    total: int
    """All series of the request."""
    first: list[str]
    """A sentence for each of the first few."""


class WriteRequest(NamedTuple):
    """What a request of any protocol version says, as far as the receiver keeps it."""

    samples: Collection[Sample]
    """Samples of the kept series, in no particular order; one for each column that they feed."""
    kept: int
    """How many samples of the request those are."""
    received: int
    """All samples of valid series, kept or filtered."""
    histograms: int
    exemplars: int
    faults: Faults


def no_rows() -> defaultdict[Table, defaultdict[int, dict[Source, Values]]]:
    """Return rows to which others can be added; there are none yet."""
    return defaultdict(partial(defaultdict, dict))


def arrange(rows: Iterable[Row]) -> Rows:
    """Return rows by table, time and source."""
    found = no_rows()
    for timestamp, source, values in rows:
        found[source.table][timestamp][source] = values
    return found


def each_row(rows: Rows) -> Iterator[Row]:
    """Yield rows one by one."""
    for by_time in rows.values():
        for timestamp, some in by_time.items():
            for source, values in some.items():
                yield timestamp, source, values
