"""Decodes `io.prometheus.write.v2.Request`, the message of Remote-Write 2.0.

As with 1.0, protobuf's C code only splits the request. The meaning of a series' label references
depends on the symbols. A sender whose requests hold the same series sends the same symbols, so the
known series and the orders in which they came are kept per symbol table. Most requests of a sender
with many series have new symbols; the series of such a request are checked all at once.

Both generations in use are read: until 2.0-rc.3 the start timestamp was a field of the series,
since then it is a field of the sample; the receiver keeps neither.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from receiver.errors import BadRequestError
from receiver.protocol.generated.remote_write_v2_pb2 import RequestFrame, TimeSeries
from receiver.protocol.histograms import check_histogram, count_spans
from receiver.protocol.limits import DEFAULTS, MIB, InvalidSeriesError, Limits
from receiver.protocol.reading import AT_ONCE, batches, read_all, read_long
from receiver.protocol.samples import Timestamps, recognize
from receiver.protocol.series import (
    Filtered,
    SeriesCache,
    check_size,
    join,
)
from receiver.protocol.symbols import (
    SERIES_TAG,
    SYMBOL_SIZE,
    Ahead,
    SymbolTable,
    collect_symbols,
    readable_labels,
    resolve,
)
from receiver.protocol.tally import Steps, Tally, finish
from receiver.rows.model import Series, WriteRequest

if TYPE_CHECKING:
    from receiver.protocol.checking import Checker
    from receiver.protocol.sequences import Rest

FEW: Final = 32
"""Number of series below which parsing each of them is cheaper."""
CHECKED_AT_ONCE: Final = 2048
"""Maximum number of series checked in one step, at up to 20 KiB of memory each."""
SPANS: Final = 16
"""Spans of a histogram that count as one more element of the request; few have so many."""
WHOLE: Final = MIB
"""Size in bytes up to which a message is not large: more than senders send by default."""
MAX_TABLES: Final = 32
MAX_TABLE_SIZE: Final = 256 * 1024


class Reader:
    """Reads unknown series.

    Args:
        table: The symbols of the request; it remembers series by their references.
        tally: The tally of the request.
    """

    def __init__(self, table: SymbolTable, tally: Tally) -> None:
        self.new = TimeSeries
        self._table = table
        self._tally = tally
        self._find = tally.cache.find
        self._limits = tally.limits
        self._most_refs = 2 * tally.limits.max_series_labels

    def check_count(self, series: TimeSeries) -> None:
        """Check the number of labels, including one without a value.

        Raises:
            InvalidSeriesError: it is above the limit.
        """
        self._limits.check_labels((len(series.labels_refs) + 1) // 2)

    def describe(self, series: TimeSeries) -> Iterator[tuple[str, str]]:
        """Yield as many labels as can be read."""
        return readable_labels(series.labels_refs, self._table.symbols)

    def check(self, series: TimeSeries) -> None:
        """Check histograms and exemplars (2.0, "Protobuf Message", "Exemplars").

        Raises:
            InvalidSeriesError: there are samples beside histograms, buckets that do not add up, a
                reference to no symbol, or too many references.
        """
        if series.histograms and series.samples:
            raise InvalidSeriesError("it has both samples and histograms")
        for histogram in series.histograms:
            self._tally.weigh(count_spans(histogram) // SPANS)
            check_histogram(histogram)
        for exemplar in series.exemplars:
            self._limits.check_labels(len(exemplar.labels_refs) // 2)
            resolve(list(exemplar.labels_refs), self._table.symbols)

    def identify(self, series: TimeSeries) -> Series | Filtered:
        """Look the labels up, or check and remember them; check the metadata.

        Raises:
            InvalidSeriesError: a reference points to no symbol, or the labels break the
                specification or a limit.
            TooLargeError: the request takes too much memory.
        """
        table, refs = self._table, series.labels_refs
        if len(refs) > self._most_refs:
            self.check_count(series)
        if series.HasField("metadata"):
            resolve((series.metadata.help_ref, series.metadata.unit_ref), table.symbols)
        texts = resolve(list(refs), table.symbols)
        if len(texts) * table.longest > self._limits.max_label_set_size:
            check_size(texts, self._limits)
        key = join(texts)
        known = self._find(key)
        if known is None:
            known = self._tally.add(key, list(zip(texts[::2], texts[1::2], strict=True)))
        if table.returned:
            table.learn(series, known)
        return known


class Decoder:
    """Turns message bytes into samples of the kept series.

    Args:
        series: The known series.
        limits: The limits of a request and of a series.
    """

    def __init__(self, series: SeriesCache, limits: Limits = DEFAULTS) -> None:
        self._series = series
        self._limits = limits
        # By the encoded symbols; the most recently used table is last.
        self._tables: dict[bytes, SymbolTable] = {}
        self._timestamps = Timestamps()
        self._checker: Checker | None = None
        self._generation = 0
        self.whole = WHOLE

    def decode(self, message: bytes) -> WriteRequest:
        """Decode one message at once.

        Raises:
            BadRequestError: the bytes are not an `io.prometheus.write.v2.Request`, or its symbols
                do not start with an empty string (2.0, "Symbols").
            TooLargeError: it exceeds a limit.
        """
        return finish(self.steps(message))

    def steps(self, message: bytes) -> Steps:
        """Decode one message in steps; raise the same exceptions as `decode`."""
        if self._generation != self._series.generation:
            self._generation = self._series.generation
            self._tables.clear()
            if self._checker is not None:
                self._checker.clear()
        tally = Tally(self._limits, self._series)
        try:
            if len(message) <= self.whole:
                yield from self._read(message, tally)
            else:
                yield from self._read_large(message, tally)
        except DecodeError as error:
            raise BadRequestError(
                f"the body is not an io.prometheus.write.v2.Request: {error}"
            ) from error
        return tally.decoded()

    def _read(self, message: bytes, tally: Tally) -> Iterator[None]:
        """Read a message that is not large."""
        for prefix, table in self._tables.items():
            if message.startswith(prefix) and message.startswith(SERIES_TAG, len(prefix)):
                rest = table.sequences.read(message[len(prefix) :])
                frame = RequestFrame.FromString(rest.message)
                if not frame.symbols:
                    self._tables[prefix] = self._tables.pop(prefix)
                    yield from self._read_returned(table, rest, list(frame.timeseries), tally)
                    return
        yield from self._read_unlike(message, tally)

    def _read_unlike(self, message: bytes, tally: Tally) -> Iterator[None]:
        """Read a message whose symbols are new."""
        symbols, taken, blocks, left = Ahead([], 0, [], message)
        if self._checker is not None:
            symbols, taken, blocks, left = self._checker.read_ahead(message)
        encoded: list[bytes] = []
        if left:
            frame = RequestFrame.FromString(left)
            symbols, encoded = list(frame.symbols), list(frame.timeseries)
        tally.check_size(SYMBOL_SIZE * len(symbols))
        total = taken + len(encoded)
        tally.enter(total, known=bool(symbols or total))
        check_symbols(message, symbols, tally)
        tally.count(taken)
        for block in blocks:
            tally.keep_block(block)
        yield
        if encoded:
            taken += yield from self._read_new(symbols, encoded, taken, tally)
        if 2 * taken <= total:
            self._remember(message, symbols)

    def _remember(self, message: bytes, symbols: list[str]) -> None:
        """Remember the symbols of a request, which may come again."""
        prefix = RequestFrame(symbols=symbols).SerializeToString()
        if symbols and len(prefix) <= MAX_TABLE_SIZE and message.startswith(prefix):
            self._tables[prefix] = SymbolTable(symbols, prefix)
            self._forget()

    def _forget(self) -> None:
        """Forget the least recently used tables while there are too many or they are too large."""
        size = sum(table.size for table in self._tables.values())
        while len(self._tables) > MAX_TABLES or size > self._series.size // 16:
            size -= self._tables.pop(next(iter(self._tables))).size

    def _read_returned(
        self, table: SymbolTable, rest: Rest, encoded: list[bytes], tally: Tally
    ) -> Iterator[None]:
        """Read the series of a request whose symbols have been seen before."""
        table.returned = True
        tally.enter(rest.taken + len(encoded))
        tally.count(rest.taken)
        for block in rest.samples:
            tally.keep_block(block)
        reader = Reader(table, tally)
        sizes: list[int] = []
        order: list[Series | Filtered | None] = []
        for start, batch in batches(encoded, AT_ONCE):
            bare = table.without_metadata(batch)
            samples, found, unfamiliar, _ = recognize(bare, table, self._timestamps)
            sizes += map(len, bare)
            order += found
            tally.count(len(batch) - len(unfamiliar))
            tally.keep(samples)
            yield
            unread = [(rest.place(start + place), batch[place]) for place in unfamiliar]
            yield from read_all(unread, reader, tally)
        yield from table.sequences.learn(rest, encoded, sizes, order)
        self._forget()

    def _read_new(
        self, symbols: list[str], encoded: list[bytes], first: int, tally: Tally
    ) -> Generator[None, None, int]:
        """Read series of a request whose symbols are new.

        Args:
            symbols: All symbols of the request.
            encoded: The last series of the request, those that were not read ahead.
            first: Number of series before them.
            tally: The tally of the request.

        Returns:
            Number of these series that came in a known order.
        """
        reader = Reader(SymbolTable(symbols), tally)
        if len(encoded) < FEW:
            yield from read_all(enumerate(encoded, first), reader, tally)
            return 0
        checker = self._open_checker()
        page, total = checker.open(symbols), 0
        for start, batch in batches(encoded, CHECKED_AT_ONCE):
            found = checker.read(page, batch)
            tally.count(len(batch) - len(found.unread))
            tally.keep(found.samples)
            for block in found.blocks:
                tally.keep_block(block)
            total += found.known
            yield
            places = ((first + start + place, batch[place]) for place in found.unread)
            yield from read_all(places, reader, tally)
        return total

    def _open_checker(self) -> Checker:
        if self._checker is None:
            # numpy takes 0.1 s to load, so it is not loaded before it is needed.
            from receiver.protocol.checking import Checker  # noqa: PLC0415

            self._checker = Checker(self._series, self._limits)
        return self._checker

    def _read_large(self, message: bytes, tally: Tally) -> Iterator[None]:
        """Read a message part by part; all symbols first, since they may be anywhere in it."""
        before = tally.size
        symbols, parts = yield from collect_symbols(message, tally)
        taken = tally.size - before
        check_symbols(message, symbols, tally)
        reader = Reader(SymbolTable(symbols), tally)
        place = 0
        for part in parts:
            if part.number:
                yield from read_long(message, (part.content, part.end), place, reader, tally)
                place += 1
            else:
                encoded = list(RequestFrame.FromString(message[part.start : part.end]).timeseries)
                yield from read_all(enumerate(encoded, place), reader, tally)
                place += len(encoded)
        tally.spend(-taken)


def check_symbols(message: bytes, symbols: list[str], tally: Tally) -> None:
    """Check that a message may be of this version.

    Raises:
        BadRequestError: it has no field of one, or its symbols do not start with an empty string.
    """
    if message and not tally.holds_anything:
        raise BadRequestError(
            "the body has no field of an io.prometheus.write.v2.Request; "
            "is it another message than its Content-Type says?"
        )
    if message and symbols[:1] != [""]:
        raise BadRequestError("the symbols do not start with an empty string")
