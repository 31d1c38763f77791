"""The symbols of a 2.0 request, and what is known of series that refer to them."""

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
"""Bytes of memory that a symbol takes, beside its text."""
MAX_SEQUENCES_SIZE: Final = MIB
"""Bytes of memory for the orders in which series came."""
MAX_KNOWN: Final = 20_000
MAX_REMEMBERED: Final = 256
"""Bytes of the label references or the metadata of one series."""


class Ahead(NamedTuple):
    """What is found of a message without splitting it."""

    symbols: list[str]
    """Its symbols, if nothing is left."""
    taken: int
    """How many series, the first ones, came in a known order."""
    samples: list[Block]
    """Samples of those that are kept."""
    left: bytes
    """The rest as a message, with all symbols."""


class SymbolTable:
    """The symbols of a request, and what is known of series that refer to them.

    Args:
        symbols: All of them.
        encoded: The same on the wire, if they may be remembered.
    """

    def __init__(self, symbols: Sequence[str], encoded: bytes = b"") -> None:
        self.symbols = symbols
        self.returned = False
        """Whether it came again: only then it pays to learn what its references mean."""
        self._sequences: Sequences | None = None
        self._series: dict[bytes, Series | Filtered] = {}
        """By their label references and the bytes that begin a sample."""
        self._metadata: set[bytes] = set()
        """Encoded metadata whose references are right."""
        # A character takes up to four times the memory that it takes on the wire.
        text = len(encoded) * (2 if encoded.isascii() else 5)
        self._own_size = text + SYMBOL_SIZE * len(symbols)
        self._learned_size = 0

    @cached_property
    def longest(self) -> int:
        """Characters of the longest symbol."""
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
            # numpy takes 0.1 s to load: not before there is something to read.
            from receiver.protocol.sequences import Sequences  # noqa: PLC0415

            self._sequences = Sequences(SERIES_TAG, MAX_SEQUENCES_SIZE)
        return self._sequences

    def recall(self) -> Callable[[bytes], Series | Filtered | None]:
        """Return what finds a series."""
        return self._series.get

    def find(self, key: bytes) -> Series | Filtered | None:
        """Return the series, None if it is new."""
        return self._series.get(key)

    def learn(self, series: TimeSeries, known: Series | Filtered) -> None:
        """Remember a series whose references are all right."""
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
        # The label references and the sample after them have sizes of one byte. Elsewhere this
        # cuts wrongly, which does no harm: what is cut off is metadata whose references are right,
        # and if what is left is a known series with its sample, both together are what they mean.
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
        DecodeError: the bytes are no such message.
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
    """Check a symbol that is larger than a part, in steps; return no more than its beginning.

    That is too long for any label: a series that refers to it is above the limit.

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
    """Return label names and values in turn.

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
    """Yield as many labels of an invalid series as can be read."""
    texts = (symbols[ref] if ref < len(symbols) else f"<{ref}>" for ref in refs)
    return zip(texts, texts, strict=False)
