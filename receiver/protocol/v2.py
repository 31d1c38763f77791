"""Decodes `io.prometheus.write.v2.Request`, the message of Remote-Write 2.0.

As with 1.0, protobuf's C code only splits the request. What the label references of a series mean
depends on the symbols, but a sender whose requests hold the same series sends the same symbols: so
what is known of a series is kept by symbol table, and a known series costs a look-up.

Both generations in the field are read: until 2.0-rc.3 the start timestamp stood in the series,
since then it stands in the sample; the receiver keeps neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from google.protobuf.message import DecodeError

from receiver.errors import BadRequestError
from receiver.model import Sample, Series, WriteRequest
from receiver.protocol.generated.remote_write_v2_pb2 import RequestFrame, TimeSeries
from receiver.protocol.histograms import check_histogram
from receiver.protocol.samples import (
    DOUBLE,
    SAMPLE_HEAD,
    TIMESTAMP_SIZE,
    ZERO,
    ZERO_SAMPLE_HEAD,
    read_timestamp,
)
from receiver.protocol.series import FILTERED, Filtered, InvalidSeriesError, SeriesCache
from receiver.protocol.tally import Tally

MAX_TABLES: Final = 32
MAX_TABLE_SIZE: Final = 256 * 1024
MAX_KNOWN: Final = 20_000
MAX_TAILS: Final = 10_000
MAX_METADATA: Final = 64
MAX_PACKED: Final = 129
"""Bytes of packed references whose size, after the tag, takes one byte."""
SERIES_TAG: Final = b"\x2a"
VALUE_TAG: Final = SAMPLE_HEAD[2:]


class SymbolTable:
    """The symbols of a request, and what is known of series that refer to them.

    Args:
        symbols: All of them.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        self.symbols = symbols
        self.series: dict[bytes, Series | Filtered] = {}
        """By the bytes of their label references and the two that begin a lone sample."""
        self.tails = Tails()

    def learn(self, series: TimeSeries, known: Series | Filtered) -> None:
        """Remember a series whose references are all right."""
        if len(self.series) >= MAX_KNOWN or len(self.tails.metadata) >= MAX_KNOWN:
            # Many series may share few symbols, over many requests.
            self.series.clear()
            self.tails = Tails()
        labels = TimeSeries(labels_refs=series.labels_refs).SerializeToString()
        if len(labels) <= MAX_PACKED:
            self.series[labels + ZERO_SAMPLE_HEAD[:2]] = known
            self.series[labels + SAMPLE_HEAD[:2]] = known
        metadata = TimeSeries(metadata=series.metadata).SerializeToString()
        if len(metadata) <= MAX_METADATA:
            self.tails.metadata.add(metadata)


class Tails(dict[bytes, int | None]):
    """Timestamps by the end of a series: their bytes with the tag, then perhaps its metadata."""

    def __init__(self) -> None:
        super().__init__()
        self.metadata: set[bytes] = {b""}
        """Encoded metadata whose references are right."""

    def __missing__(self, tail: bytes) -> int | None:
        """Read an end that has not come up before, None if it is of another shape."""
        if tail[TIMESTAMP_SIZE:] not in self.metadata:
            return None
        if len(self) >= MAX_TAILS:
            self.clear()
        self[tail] = timestamp = read_timestamp(tail[:TIMESTAMP_SIZE])
        return timestamp


class Decoder:
    """Turns message bytes into samples of the kept series.

    Args:
        series: Where known series are remembered.
    """

    def __init__(self, series: SeriesCache) -> None:
        self._series = series
        # By the bytes of the symbols; the one used last is last.
        self._tables: dict[bytes, SymbolTable] = {}

    def decode(self, message: bytes) -> WriteRequest:
        """Decode one message.

        Raises:
            BadRequestError: the bytes are not an `io.prometheus.write.v2.Request`, or its symbols
                do not start with an empty string (2.0, "Symbols").
        """
        table, encoded = self._split(message)
        recall, tails = table.series.get, table.tails
        samples: list[Sample] = []
        unfamiliar: list[tuple[int, bytes]] = []
        for index, data in enumerate(encoded):
            # The label references are packed, their size in one byte. A hit proves the split right.
            end = data[1] + 4 if len(data) > 1 else 0
            known = recall(data[:end])
            if known is None:
                timestamp = None
            elif data[end - 1] == ZERO_SAMPLE_HEAD[1]:
                timestamp, value = tails[data[end:]], ZERO
            elif data.startswith(VALUE_TAG, end):
                timestamp, value = tails[data[end + 9 :]], data[end + 1 : end + 9]
            else:
                timestamp = None
            if timestamp is None:
                unfamiliar.append((index, data))
            elif known:
                samples.append((known, timestamp, DOUBLE.unpack(value)[0]))
        tally = Tally(samples)
        tally.count(len(encoded) - len(unfamiliar))
        tally.read(
            unfamiliar,
            TimeSeries,
            lambda series: self._kept_samples(series, table),
            lambda series: readable_labels(series.labels_refs, table.symbols),
        )
        return tally.request(len(encoded))

    def _split(self, message: bytes) -> tuple[SymbolTable, Sequence[bytes]]:
        """Find the symbol table of a message, and its series."""
        for prefix, table in self._tables.items():
            if message.startswith(prefix) and message.startswith(SERIES_TAG, len(prefix)):
                frame = read_frame(message[len(prefix) :])
                if not frame.symbols:
                    self._tables[prefix] = self._tables.pop(prefix)
                    return table, frame.timeseries
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
        return table, frame.timeseries

    def _kept_samples(self, series: TimeSeries, table: SymbolTable) -> list[Sample]:
        check_elements(series, table.symbols)
        key = resolve(list(series.labels_refs), table.symbols)
        known = self._series.find(key)
        if known is None:
            known = self._series.add(key, zip(key[::2], key[1::2], strict=True))
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
