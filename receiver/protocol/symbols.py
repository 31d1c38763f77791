"""The symbols of a 2.0 request, and what is known about the series that refer to them."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import cached_property
from sys import getsizeof
from typing import TYPE_CHECKING, Final, NamedTuple

from google.protobuf.message import DecodeError

from receiver.protocol.generated.remote_write_v2_pb2 import RequestFrame, TimeSeries
from receiver.protocol.limits import MIB, InvalidSeriesError
from receiver.protocol.samples import HEAD, ZERO_HEAD
from receiver.protocol.series import ENTRY_SIZE, SLOT_SIZE, Filtered
from receiver.protocol.tally import Tally
from receiver.protocol.wire import PART, Part, cut
from receiver.rows.model import Series

if TYPE_CHECKING:
    from receiver.protocol.sequences import Sequences
    from receiver.rows.blocks import Block

SYMBOL: Final = 4
SERIES: Final = 5
SERIES_TAG: Final = b"\x2a"
SYMBOL_SIZE: Final = 64
"""Memory per symbol in bytes, without its text."""
MAX_SEQUENCES_SIZE: Final = MIB
"""Maximum memory in bytes for the orders in which series came."""
MAX_KNOWN: Final = 20_000
MAX_REMEMBERED: Final = 256
"""Maximum size in bytes of label references or metadata that are remembered."""


class Ahead(NamedTuple):
    """The part of a message that was read without splitting it."""

    symbols: list[str]
    """The symbols of the message, if `left` is empty."""
    taken: int
    """Number of series, from the first on, that came in a known order."""
    samples: list[Block]
    """Samples of the kept ones among these."""
    left: bytes
    """The rest as a message, with all symbols."""


class SymbolTable:
    """The symbols of a request, and what is known about the series that refer to them.

    Args:
        symbols: All symbols of the request.
        encoded: The encoded symbols, if they may be remembered.
    """

    def __init__(self, symbols: Sequence[str], encoded: bytes = b"") -> None:
        self.symbols = symbols
        self.returned = False
        """Whether the table was seen more than once; learning its references pays off only then."""
        self._sequences: Sequences | None = None
        self._series: dict[bytes, Series | Filtered] = {}
        """Series by their label references and the first bytes of the sample."""
        self._metadata: set[bytes] = set()
        """Encoded metadata whose references are valid."""
        # A character takes up to four times the memory that it takes on the wire.
        text = len(encoded) * (2 if encoded.isascii() else 5)
        self._own_size = text + SYMBOL_SIZE * len(symbols)
        self._learned_size = 0

    @cached_property
    def longest(self) -> int:
        """Length of the longest symbol, in characters."""
        return max(map(len, self.symbols), default=0)

    @property
    def size(self) -> int:
        """Memory that it takes, in bytes."""
        sequences = 0 if self._sequences is None else self._sequences.size
        return self._own_size + self._learned_size + sequences

    @property
    def sequences(self) -> Sequences:
        """The orders in which series came with these symbols."""
        if self._sequences is None:
            # numpy takes 0.1 s to load, so it is not loaded before there is something to read.
            from receiver.protocol.sequences import Sequences  # noqa: PLC0415

            self._sequences = Sequences(SERIES_TAG, MAX_SEQUENCES_SIZE)
        return self._sequences

    def recall(self) -> Callable[[bytes], Series | Filtered | None]:
        """Return the lookup function."""
        return self._series.get

    def find(self, key: bytes) -> Series | Filtered | None:
        """Return the series, None if it is new."""
        return self._series.get(key)

    def learn(self, series: TimeSeries, known: Series | Filtered) -> None:
        """Remember a series whose references are all valid."""
        if len(self._series) >= MAX_KNOWN or len(self._metadata) >= MAX_KNOWN:
            # Many series may share few symbols, over many requests.
            self._series.clear()
            self._metadata.clear()
            self._learned_size = 0
        labels = TimeSeries(labels_refs=series.labels_refs).SerializeToString()
        if len(labels) <= MAX_REMEMBERED:
            for key in (labels + ZERO_HEAD, labels + HEAD):
                self._series[key] = known
                self._learned_size += ENTRY_SIZE + getsizeof(key)
        if series.HasField("metadata"):
            metadata = TimeSeries(metadata=series.metadata).SerializeToString()
            if len(metadata) <= MAX_REMEMBERED:
                self._metadata.add(metadata)
                self._learned_size += ENTRY_SIZE + getsizeof(metadata)

    def without_metadata(self, encoded: Sequence[bytes]) -> Sequence[bytes]:
        """Cut known metadata off the ends of series."""
        return list(map(self._strip, encoded)) if self._metadata else encoded

    def _strip(self, data: bytes) -> bytes:
        # Usually the label references and the sample after them have one-byte sizes. If not, this
        # cut is wrong, but does no harm: the bytes cut off are metadata with valid references, and
        # if the rest is a known series with its sample, both together are exactly that series.
        try:
            sample = data[1] + 2
            end = sample + 2 + data[sample + 1]
        except IndexError:
            return data
        return data[:end] if data[end:] in self._metadata else data


def collect_symbols(
    message: bytes, tally: Tally
) -> Generator[None, None, tuple[list[str], list[Part]]]:
    """Read the symbols of a large message, in steps; return them and the parts that hold series.

    Raises:
        DecodeError: the bytes are not such a message.
        TooLargeError: it exceeds a limit.
    """
    symbols: list[str] = []
    parts: list[Part] = []
    for part in cut(message, 0, len(message), PART):
        found = 0
        if part.number == SYMBOL:
            tally.enter(0)
            symbols.append((yield from read_long_symbol(message, part, tally)))
        elif part.number:
            found = int(part.number == SERIES)
            tally.enter(found, others=1 - found, known=bool(found))
        else:
            frame = RequestFrame.FromString(message[part.start : part.end])
            more, found = list(frame.symbols), len(frame.timeseries)
            others = part.fields - found - len(more)
            tally.enter(found, others=others, known=bool(more or found))
            tally.spend(sum(map(getsizeof, more)) + SLOT_SIZE * len(more))
            symbols += more
        if found:
            parts.append(part)
        yield
    return symbols, parts


def read_long_symbol(message: bytes, part: Part, tally: Tally) -> Generator[None, None, str]:
    """Check a symbol that is larger than a part, in steps; return only its beginning.

    Even the beginning is too long for any label: a series that refers to it is above the limit.

    Raises:
        DecodeError: it is not UTF-8.
        TooLargeError: the request takes too much memory.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    beginning, most = "", tally.limits.max_label_set_size + 1
    for start in range(part.content, part.end, MIB):
        end = min(start + MIB, part.end)
        try:
            text = decoder.decode(message[start:end], end == part.end)
        except UnicodeDecodeError as error:
            raise DecodeError("a symbol is not UTF-8") from error
        beginning += text[: most - len(beginning)]
        yield
    tally.spend(getsizeof(beginning))
    return beginning


def resolve(refs: Sequence[int], symbols: Sequence[str]) -> tuple[str, ...]:
    """Resolve references to alternating label names and values.

    Raises:
        InvalidSeriesError: a name has no value, or a reference points to no symbol.
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
    """Yield as many labels of an invalid series as can be read."""
    texts = (symbols[ref] if ref < len(symbols) else f"<{ref}>" for ref in refs)
    return zip(texts, texts, strict=False)
