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
    """A label set without `__name__` and the labels that its table ignores; it tells rows apart.

    There is one object for each table and label set, so it can be compared by identity on the hot
    path. `id` is the key in the table `sources`; storage sets it as soon as it knows it.
    """

    __slots__ = ("__weakref__", "id", "label_values", "labels", "misfit", "number", "table")

    def __init__(self, table: Table, labels: Labels) -> None:
        self.table = table
        self.labels = labels
        self.id: int | None = None
        self.number = next(NUMBERS)
        """Stands for the source in arrays."""
        self.label_values: list[str | int | None] = []
        """Values of the table's label columns; None for a missing label."""
        self.misfit: str | None = None
        """Why a label does not fit its column, so that no row of the source can be stored."""
        if table.labels:
            try:
                self.label_values = table.read_labels(dict(labels))
            except ValueError as error:
                self.misfit = str(error)

    def __repr__(self) -> str:
        labels = ", ".join(f"{name}={value!r}" for name, value in self.labels)
        return f"Source({self.table.name}, {{{labels}}}, id={self.id})"


class Series(NamedTuple):
    """A kept series: a column of a table, and the source."""

    column: Column
    source: Source
    others: tuple[Series, ...] = ()
    """The same series for the other tables that the metric feeds."""


# The hot path handles millions of these per second; a plain tuple costs a tenth of a named one.

Sample: TypeAlias = tuple[Series, int, float]
"""A sample of a kept series: its timestamp in milliseconds since the Unix epoch, and its value."""


class Samples(Collection[Sample]):
    """Samples of kept series, most of them in arrays if many come in a known order.

    Args:
        blocks: The samples in arrays.
        plain: All other samples.
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
source, and the values that came."""

Rows: TypeAlias = Mapping[Table, Mapping[int, Mapping[Source, Values]]]
"""Rows, complete or not: by table, timestamp (milliseconds since the Unix epoch) and source."""

Key: TypeAlias = tuple[int, Source]
"""The key of a row: timestamp (milliseconds since the Unix epoch) and source."""


class Newest(NamedTuple):
    """The newest row of a source in a table, and the labels that identify the source."""

    table: str
    source_id: int
    job: str
    instance: str
    timestamp: float
    """Seconds since the Unix epoch."""


class Observed(NamedTuple):
    """The content of the database, as observed at one time."""

    pending: dict[str, int]
    """Incomplete rows, by table."""
    oldest: float
    """Seconds that the oldest of these rows has waited."""
    sources: int
    unlisted: int
    """Number of sources that are not observed, since there are more than the limit."""
    newest: list[Newest]


class Rejected(NamedTuple):
    """A sample that cannot become part of a row, with its exact value."""

    source: Source
    column: Column
    timestamp: int
    value: float
    reason: Reason
    detail: str | None = None
    """The message of the database, if it rejected the sample."""


class Faults(NamedTuple):
    """The invalid series of a request; `WriteRequest.samples` has none of their samples."""

    invalid: int
    total: int
    """Number of all series of the request."""
    first: list[str]
    """A sentence for each of the first few invalid series."""


class WriteRequest(NamedTuple):
    """The content of a request of any protocol version, as far as the receiver keeps it."""

    samples: Collection[Sample]
    """Samples of the kept series, in no particular order; one for each column that they feed."""
    kept: int
    """Number of samples of the request that are kept."""
    received: int
    """Number of samples of valid series, kept or filtered."""
    histograms: int
    exemplars: int
    faults: Faults


def no_rows() -> defaultdict[Table, defaultdict[int, dict[Source, Values]]]:
    """Return an empty mapping to which rows can be added."""
    return defaultdict(partial(defaultdict, dict))


def arrange(rows: Iterable[Row]) -> Rows:
    """Group rows by table, time and source."""
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
