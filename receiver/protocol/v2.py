"""Decodes `io.prometheus.write.v2.Request`, the message of Remote-Write 2.0.

As with 1.0, protobuf's C code only splits the request. What the label references of a series mean
depends on the symbols, but a sender whose requests hold the same series sends the same symbols: so
what is known of a series is kept by symbol table, and a known series costs a look-up.

Both generations in the field are read: until 2.0-rc.3 the start timestamp stood in the series,
since then it stands in the sample; the receiver keeps neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from google.protobuf.message import DecodeError

from receiver.errors import BadRequestError
from receiver.model import Sample, Series, WriteRequest
from receiver.protocol.generated.remote_write_v2_pb2 import RequestFrame, TimeSeries
from receiver.protocol.histograms import check_histogram
from receiver.protocol.samples import HEAD, ZERO_HEAD, Sequences, Timestamps, recognize
from receiver.protocol.series import FILTERED, Filtered, InvalidSeriesError, SeriesCache
from receiver.protocol.tally import Tally

MAX_TABLES: Final = 32
MAX_TABLE_SIZE: Final = 256 * 1024
MAX_KNOWN: Final = 20_000
MAX_REMEMBERED: Final = 256
"""Bytes of the label references or the metadata of one series."""
SERIES_TAG: Final = b"\x2a"


class SymbolTable:
    """The symbols of a request, and what is known of series that refer to them.

    Args:
        symbols: All of them.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        self.symbols = symbols
        self.returned = False
        """Whether it came again: only then it pays to learn what its references mean."""
        self.sequences = Sequences(1)
        self._series: dict[bytes, Series | Filtered] = {}
        """By their label references and the bytes that begin a sample."""
        self._metadata: set[bytes] = set()
        """Encoded metadata whose references are right."""

    def recall(self) -> Callable[[bytes], Series | Filtered | None]:
        """What finds a series."""
        return self._series.get

    def find(self, key: bytes) -> Series | Filtered | None:
        """The series, None if it is new."""
        return self._series.get(key)

    def learn(self, series: TimeSeries, known: Series | Filtered) -> None:
        """Remember a series whose references are all right."""
        if len(self._series) >= MAX_KNOWN or len(self._metadata) >= MAX_KNOWN:
            # Many series may share few symbols, over many requests.
            self._series.clear()
            self._metadata.clear()
        labels = TimeSeries(labels_refs=series.labels_refs).SerializeToString()
        if len(labels) <= MAX_REMEMBERED:
            self._series[labels + ZERO_HEAD] = known
            self._series[labels + HEAD] = known
        if series.HasField("metadata"):
            metadata = TimeSeries(metadata=series.metadata).SerializeToString()
            if len(metadata) <= MAX_REMEMBERED:
                self._metadata.add(metadata)

    def without_metadata(self, encoded: list[bytes]) -> list[bytes]:
        """The series without the metadata at their end, where that is known to be right."""
        return list(map(self._strip, encoded)) if self._metadata else encoded

    def _strip(self, data: bytes) -> bytes:
        # The label references and the sample after them have sizes of one byte. Elsewhere this
        # cuts wrongly, and what is left is no series that is known.
        try:
            sample = data[1] + 2
            end = sample + 2 + data[sample + 1]
        except IndexError:
            return data
        return data[:end] if data[end:] in self._metadata else data


class Decoder:
    """Turns message bytes into samples of the kept series.

    Args:
        series: Where known series are remembered.
    """

    def __init__(self, series: SeriesCache) -> None:
        self._series = series
        # By the bytes of the symbols; the one used last is last.
        self._tables: dict[bytes, SymbolTable] = {}
        self._timestamps = Timestamps()

    def decode(self, message: bytes) -> WriteRequest:
        """Decode one message.

        Raises:
            BadRequestError: the bytes are not an `io.prometheus.write.v2.Request`, or its symbols
                do not start with an empty string (2.0, "Symbols").
        """
        table, encoded = self._split(message)
        bare = table.without_metadata(encoded)
        samples, unfamiliar = recognize(bare, table, table.sequences, self._timestamps)
        tally = Tally(samples)
        tally.count(len(encoded) - len(unfamiliar))
        tally.read(
            ((place, encoded[place]) for place in unfamiliar),
            TimeSeries,
            lambda series: self._kept_samples(series, table),
            lambda series: readable_labels(series.labels_refs, table.symbols),
        )
        return tally.request(len(encoded))

    def _split(self, message: bytes) -> tuple[SymbolTable, list[bytes]]:
        """Find the symbol table of a message, and its series."""
        for prefix, table in self._tables.items():
            if message.startswith(prefix) and message.startswith(SERIES_TAG, len(prefix)):
                frame = read_frame(message[len(prefix) :])
                if not frame.symbols:
                    self._tables[prefix] = self._tables.pop(prefix)
                    table.returned = True
                    return table, list(frame.timeseries)
        frame = read_frame(message)
        symbols = list(frame.symbols)
        if message and not (symbols or frame.timeseries):
            raise BadRequestError(
                "the body holds no part of an io.prometheus.write.v2.Request; "
                "is it another message than its Content-Type says?"
            )
        if symbols[:1] != [""] and (symbols or frame.timeseries):
            raise BadRequestError("the symbols do not start with an empty string")
        table = SymbolTable(symbols)
        prefix = RequestFrame(symbols=symbols).SerializeToString()
        if symbols and len(prefix) <= MAX_TABLE_SIZE and message.startswith(prefix):
            if len(self._tables) >= MAX_TABLES:
                del self._tables[next(iter(self._tables))]
            self._tables[prefix] = table
        return table, list(frame.timeseries)

    def _kept_samples(self, series: TimeSeries, table: SymbolTable) -> list[Sample]:
        check_elements(series, table.symbols)
        key = resolve(list(series.labels_refs), table.symbols)
        known = self._series.find(key)
        if known is None:
            known = self._series.add(key, zip(key[::2], key[1::2], strict=True))
        if table.returned:
            table.learn(series, known)
        if known is FILTERED:
            return []
        return [(known, sample.timestamp, sample.value) for sample in series.samples]


def read_frame(message: bytes) -> RequestFrame:
    """Split a message.

    Raises:
        BadRequestError: it is not one.
    """
    try:
        return RequestFrame.FromString(message)
    except DecodeError as error:
        raise BadRequestError(
            f"the body is not an io.prometheus.write.v2.Request: {error}"
        ) from error


def resolve(refs: Sequence[int], symbols: Sequence[str]) -> tuple[str, ...]:
    """Label names and values in turn.

    Raises:
        InvalidSeriesError: a name without a value, or a reference to no symbol.
    """
    if len(refs) % 2:
        raise InvalidSeriesError(f"{len(refs)} label references: the last name has no value")
    try:
        return tuple(map(symbols.__getitem__, refs))
    except IndexError:
        raise InvalidSeriesError(
            f"reference {max(refs)} points beyond the {len(symbols)} symbols"
        ) from None


def readable_labels(refs: Iterable[int], symbols: Sequence[str]) -> Iterator[tuple[str, str]]:
    """As many labels of an invalid series as can be told."""
    texts = (symbols[ref] if ref < len(symbols) else f"<{ref}>" for ref in refs)
    return zip(texts, texts, strict=False)


def check_elements(series: TimeSeries, symbols: Sequence[str]) -> None:
    """Check what is not labels or samples (2.0, "Protobuf Message", "Exemplars").

    Raises:
        InvalidSeriesError: samples beside histograms, a histogram whose buckets do not add up, or
            a reference to no symbol.
    """
    if series.histograms:
        if series.samples:
            raise InvalidSeriesError("it has both samples and histograms")
        for histogram in series.histograms:
            check_histogram(histogram)
    for exemplar in series.exemplars:
        resolve(list(exemplar.labels_refs), symbols)
    if series.HasField("metadata"):
        resolve((series.metadata.help_ref, series.metadata.unit_ref), symbols)
