"""Decodes `prometheus.WriteRequest`, the message of Remote-Write 1.0.

Series that come in the same order as before are compared with that order, many at once. Of the rest
only the outer message is parsed, by protobuf's C code, which returns each series as bytes. Nearly
all of these are known label bytes followed by one sample of the usual form, which costs one lookup.
Of a new series of that form only the labels are parsed, and most labels have been seen before.
Every other series is parsed in full and, if possible, remembered.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from receiver.errors import BadRequestError
from receiver.protocol.generated.remote_write_v1_pb2 import TimeSeries, WriteRequestFrame
from receiver.protocol.label_sets import LabelSets
from receiver.protocol.limits import DEFAULTS, MIB, Limits
from receiver.protocol.reading import AT_ONCE, batches, portions, read_all, read_long
from receiver.protocol.samples import Timestamps, head, recognize
from receiver.protocol.series import Filtered, SeriesCache
from receiver.protocol.tally import Steps, Tally, finish
from receiver.protocol.wire import split
from receiver.rows.model import Series, WriteRequest

if TYPE_CHECKING:
    from receiver.protocol.sequences import Sequences

SERIES: Final = 1
SERIES_TAG: Final = b"\x0a"
METADATA: Final = 3
WHOLE: Final = 4 * MIB
"""Size in bytes up to which a message is not large: more than senders send by default."""


class Reader:
    """Reads unknown series.

    Args:
        tally: The tally of the request.
    """

    def __init__(self, tally: Tally) -> None:
        self.new = TimeSeries
        self._tally = tally
        self._find = tally.cache.find
        self._most_labels = tally.limits.max_series_labels

    def check_count(self, series: TimeSeries) -> None:
        """Check the number of labels.

        Raises:
            InvalidSeriesError: it is above the limit.
        """
        self._tally.limits.check_labels(len(series.labels))

    def describe(self, series: TimeSeries) -> Iterator[tuple[str, str]]:
        """Yield label names and values."""
        return ((label.name, label.value) for label in series.labels)

    def check(self, series: TimeSeries) -> None:
        """Check nothing: histograms and exemplars are only counted."""

    def identify(self, series: TimeSeries) -> Series | Filtered:
        """Look the labels up, or check and remember them.

        Raises:
            InvalidSeriesError: they break the specification or a limit.
            TooLargeError: the request takes too much memory.
        """
        if len(series.labels) > self._most_labels:
            self.check_count(series)
        labels = TimeSeries(labels=series.labels).SerializeToString()
        key = labels + head(series.samples[0].value if series.samples else 0.0)
        known = self._find(key)
        if known is None:
            known = self._tally.add(key, [(label.name, label.value) for label in series.labels])
        return known


class Decoder:
    """Turns message bytes into samples of the kept series.

    Args:
        series: The known series.
        limits: The limits of a request.
    """

    def __init__(self, series: SeriesCache, limits: Limits = DEFAULTS) -> None:
        self._series = series
        self._limits = limits
        self._most = series.size // 4
        self._opened: Sequences | None = None
        self._timestamps = Timestamps()
        self._label_sets = LabelSets()
        self._generation = 0
        self.whole = WHOLE

    def decode(self, message: bytes) -> WriteRequest:
        """Decode one message at once.

        Raises:
            BadRequestError: the bytes are not a `prometheus.WriteRequest`.
            TooLargeError: it exceeds a limit.
        """
        return finish(self.steps(message))

    def steps(self, message: bytes) -> Steps:
        """Decode one message in steps; raise the same exceptions as `decode`."""
        if self._generation != self._series.generation:
            self._generation = self._series.generation
            if self._opened is not None:
                self._opened.clear()
        tally = Tally(self._limits, self._series)
        reader = Reader(tally)
        try:
            for part in split(message, self.whole):
                if part.number == SERIES:
                    tally.enter(1)
                    between = part.content, part.end
                    place = tally.total - 1
                    yield from read_long(message, between, place, reader, tally)
                elif part.number:
                    tally.enter(0, others=1, known=part.number == METADATA)
                else:
                    yield from self._read(
                        message[part.start : part.end], part.fields, reader, tally
                    )
        except DecodeError as error:
            raise BadRequestError(f"the body is not a prometheus.WriteRequest: {error}") from error
        if message and not tally.holds_anything:
            raise BadRequestError(
                "the body has no field of a prometheus.WriteRequest; "
                "is it another message than its Content-Type says?"
            )
        return tally.decoded()

    @property
    def _sequences(self) -> Sequences:
        if self._opened is None:
            # numpy takes 0.1 s to load, so it is not loaded before there is something to read.
            from receiver.protocol.sequences import Sequences  # noqa: PLC0415

            self._opened = Sequences(SERIES_TAG, self._most)
        return self._opened

    def _read(self, data: bytes, fields: int, reader: Reader, tally: Tally) -> Iterator[None]:
        rest = self._sequences.read(data)
        first = tally.total
        tally.enter(rest.taken, known=bool(rest.taken))
        tally.count(rest.taken)
        for block in rest.samples:
            tally.keep_block(block)
        yield
        if not rest.message:
            return
        frame = WriteRequestFrame.FromString(rest.message)
        series, metadata = len(frame.timeseries), len(frame.metadata)
        others = max(metadata, fields - rest.taken - series)
        tally.enter(series, others=others, known=bool(series or metadata))
        encoded = list(frame.timeseries)
        del frame
        yield
        order: list[Series | Filtered | None] = []
        for start, batch in batches(encoded, AT_ONCE):
            samples, found, unfamiliar, keys = recognize(batch, self._series, self._timestamps)
            tally.count(len(batch) - len(unfamiliar))
            tally.keep(samples)
            yield
            for some in portions(batch, unfamiliar):
                self._label_sets.learn([keys[place] for place in some], tally)
                new = [batch[place] for place in some]
                samples, learned, left, _ = recognize(new, self._series, self._timestamps)
                for place, known in zip(some, learned, strict=True):
                    found[place] = known
                tally.count(len(new) - len(left))
                tally.keep(samples)
                yield
                unread = [(first + rest.place(start + some[one]), new[one]) for one in left]
                yield from read_all(unread, reader, tally)
            order += found
        yield from self._sequences.learn(rest, encoded, list(map(len, encoded)), order)
