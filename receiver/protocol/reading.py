"""Parses series in full: a short one at once, a long one part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol, Self, TypeVar

from google.protobuf.message import DecodeError

from receiver.protocol.limits import KIB, InvalidSeriesError, Limits
from receiver.protocol.series import FILTERED, Filtered
from receiver.protocol.tally import Tally
from receiver.protocol.wire import Part, cut
from receiver.rows.model import Series

LONG: Final = 8 * KIB
"""Size in bytes up to which a series is parsed at once, and of each part of a longer one."""
LABELS: Final = 1
"""Number of the field that holds a label (1.0) or references to labels (2.0)."""

AT_ONCE: Final = 8192
"""Series or samples handled in one step, where each takes a fraction of a microsecond."""
PORTION: Final = 32 * KIB
"""Bytes of new series read in one step, where each series takes some microseconds."""
EACH: Final = 100
"""Number of bytes that take as long to read as an empty series."""

Element_co = TypeVar("Element_co", covariant=True)


class Point(Protocol):
    """A sample of either message."""

    value: float
    timestamp: int


class Elements(Protocol[Element_co]):
    """A repeated field."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Element_co]: ...
    def __delitem__(self, places: slice, /) -> None: ...


class EncodedSeries(Protocol):
    """A series of either message."""

    def ParseFromString(self, serialized: bytes) -> int:  # noqa: N802  protobuf's name
        """Parse an encoded series."""

    def MergeFrom(self, other: Self) -> None:  # noqa: N802  protobuf's name
        """Merge another series into this one."""

    def DiscardUnknownFields(self) -> None:  # noqa: N802  protobuf's name
        """Discard the fields that the message definition does not declare."""

    @property
    def samples(self) -> Elements[Point]:
        """Its samples."""

    @property
    def histograms(self) -> Elements[object]:
        """Its histograms."""

    @property
    def exemplars(self) -> Elements[object]:
        """Its exemplars."""


S = TypeVar("S", bound=EncodedSeries)


class Reader(Protocol[S]):
    """The operations in which the two versions of the protocol differ."""

    @property
    def new(self) -> Callable[[], S]:
        """Constructor of an empty series."""

    def check_count(self, series: S) -> None:
        """Check the number of labels of a series before they are read.

        Raises:
            InvalidSeriesError: it is above the limit.
        """

    def describe(self, series: S) -> Iterable[tuple[str, str]]:
        """Yield the labels of an invalid series, as far as they can be read."""

    def check(self, series: S) -> None:
        """Check histograms and exemplars; of a long series, those read so far.

        Raises:
            InvalidSeriesError: one breaks the specification.
        """

    def identify(self, series: S) -> Series | Filtered:
        """Look up the series, or check and remember it.

        Raises:
            InvalidSeriesError: it breaks the specification or a limit.
            TooLargeError: the request takes too much memory.
        """


def batches(encoded: Sequence[bytes], size: int) -> Iterator[tuple[int, Sequence[bytes]]]:
    """Yield series in batches of at most `size`, each with the index of its first series."""
    if len(encoded) <= size:
        return iter(((0, encoded),))
    starts = range(0, len(encoded), size)
    return ((start, encoded[start : start + size]) for start in starts)


def portions(encoded: Sequence[bytes], places: Iterable[int]) -> Iterator[list[int]]:
    """Yield the indexes of series in portions.

    Each has `PORTION` bytes, or a bit more; for each series, `EACH` bytes are added to its own.
    """
    some: list[int] = []
    size = 0
    for place in places:
        some.append(place)
        size += EACH + len(encoded[place])
        if size >= PORTION:
            yield some
            some, size = [], 0
    if some:
        yield some


def read_all(
    encoded: Iterable[tuple[int, bytes]], reader: Reader[S], tally: Tally
) -> Iterator[None]:
    """Read series in steps; an invalid one does not affect the others.

    Args:
        encoded: Series with their indexes in the request.
        reader: The reader of their protocol version.
        tally: Counts the series.

    Raises:
        TooLargeError: the request exceeds a limit.
    """
    work = 0
    for place, data in encoded:
        if len(data) <= LONG:
            read(data, place, reader, tally)
        else:
            yield from read_long(data, (0, len(data)), place, reader, tally)
        work += EACH + len(data)
        if work > LONG:
            work = 0
            yield


def read(data: bytes, place: int, reader: Reader[S], tally: Tally) -> None:
    """Read a short series, whose index in the request is `place`."""
    series = reader.new()
    try:
        series.ParseFromString(data)
        samples, histograms, exemplars = series.samples, series.histograms, series.exemplars
        if histograms or exemplars:
            reader.check(series)
        known = reader.identify(series)
    except (DecodeError, InvalidSeriesError) as error:
        tally.fault(place, reader.describe(series), error)
    else:
        tally.count(len(samples), len(histograms), len(exemplars))
        if known is not FILTERED:
            tally.keep([(known, sample.timestamp, sample.value) for sample in samples])


def read_long(
    data: bytes, between: tuple[int, int], place: int, reader: Reader[S], tally: Tally
) -> Iterator[None]:
    """Read a long series, which lies between two offsets of the data, in steps."""
    whole = reader.new()
    points: list[tuple[int, float]] = []
    fields = histograms = exemplars = 0
    try:
        for part in cut(data, *between, LONG):
            fields += part.fields
            tally.check_samples(fields - 2 * tally.limits.max_series_labels - 1)
            check_field(part, tally.limits)
            piece = reader.new()
            piece.ParseFromString(data[part.start : part.end])
            reader.check(piece)
            points += [(sample.timestamp, sample.value) for sample in piece.samples]
            histograms += len(piece.histograms)
            exemplars += len(piece.exemplars)
            # Keep what identifies the series, and one element of each kind for the final check.
            for elements in (piece.samples, piece.histograms, piece.exemplars):
                del elements[1:]
            piece.DiscardUnknownFields()
            whole.MergeFrom(piece)
            reader.check_count(whole)
            yield
        reader.check(whole)
        known = reader.identify(whole)
    except (DecodeError, InvalidSeriesError) as error:
        tally.fault(place, reader.describe(whole), error)
    else:
        tally.count(len(points), histograms, exemplars)
        if known is not FILTERED:
            for start in range(0, len(points), AT_ONCE):
                batch = points[start : start + AT_ONCE]
                tally.keep([(known, timestamp, value) for timestamp, value in batch])
                yield


def check_field(part: Part, limits: Limits) -> None:
    """Check the size of a part that is one large field of a series.

    Raises:
        InvalidSeriesError: it is above the limit.
    """
    size = part.end - part.content
    name = "max_label_set_size" if part.number == LABELS else "max_element_size"
    if part.number and size > getattr(limits, name):
        raise InvalidSeriesError(limits.exceeded(name, size))
