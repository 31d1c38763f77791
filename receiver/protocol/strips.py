"""Compares a message with consecutive series of earlier messages, all at once, with numpy.

A series has the same bytes in every message, except for its value and its timestamp. Only where a
value becomes zero, or is no longer zero, everything after it moves: senders leave out a zero.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from receiver.protocol.arrays import Bytes, first_of, spread
from receiver.protocol.samples import DOUBLE, HEAD, TIMESTAMP_SIZE, ZERO_HEAD, ZERO_SIZE
from receiver.protocol.series import Filtered
from receiver.protocol.wire import ONE_BYTE
from receiver.rows.blocks import Block, KeptSeries
from receiver.rows.columns import Integers
from receiver.rows.model import Series

TWO_BYTES: Final = 1 << 14

MARK: Final = bytes(byte | ONE_BYTE for byte in secrets.token_bytes(DOUBLE.size))
"""Stands for a zero that was left out. It is random, so no message holds it except by chance, and
none of its bytes is the tag of a field."""
MARKED: Final = np.frombuffer(MARK, "<u8")[0]
WRITTEN_OUT: Final = HEAD + MARK + ZERO_HEAD[-1:]
ADDED: Final = len(WRITTEN_OUT) - len(ZERO_HEAD)
"""Number of bytes that writing out its zero adds to a series."""

SHORTEST: Final = 16
"""Minimum size of a series in bytes. If more offsets look like samples without a value than there
can be series, none is taken for one: they would take much memory."""
BLOCK: Final = 16 * 1024
"""Bytes to compare at once at first: there may be a difference soon."""
MAX_BLOCK: Final = 256 * 1024
"""Maximum number of bytes to compare at once after equal ones. More would not stay in a processor's
cache."""


class UnusualEncodingError(Exception):
    """A message is not encoded the way senders do it, so it cannot be compared."""


class Text:
    """A message to be compared with strips.

    Args:
        message: The message as sent.
        written_out: Whether to write out the zeros that were left out, as `MARK`, so that nothing
            moves where a value becomes zero.
    """

    def __init__(self, message: bytes, *, written_out: bool) -> None:
        self.zeros = find_zeros(message) if written_out else np.zeros(0, np.int64)
        """Offsets of the samples whose zero is written out, in the message as sent."""
        text = write_out(message, self.zeros) if len(self.zeros) else message
        self.data: Bytes = np.frombuffer(text, np.uint8)
        # The integer that begins at each byte.
        self.pairs: NDArray[np.uint16] = np.ndarray(len(text) - 1, "<u2", text, strides=(1,))
        self.words: NDArray[np.uint64] = np.ndarray(len(text) - 7, "<u8", text, strides=(1,))
        self._moved = self.zeros + ADDED * np.arange(len(self.zeros))

    def position(self, sent: int) -> int:
        """Convert an offset in the message as sent to an offset in this text."""
        return sent + ADDED * int(self.zeros.searchsorted(sent))

    def sent(self, position: int) -> int:
        """Convert an offset in this text to an offset in the message as sent."""
        return position - ADDED * int(self._moved.searchsorted(position))


class Strip:
    """Consecutive series in the order in which they came, all of them known.

    Args:
        message: A message of nothing but these series, as `split` checks.
        encoded: The series.
        sizes: Size of each series in bytes, up to the end of its sample.
        found: Each series as it is known, kept or filtered.
        written_out: Whether to compare messages with their zeros written out.

    Raises:
        UnusualEncodingError: something else looks like the beginning of a sample.
    """

    def __init__(
        self,
        message: bytes,
        encoded: Sequence[bytes],
        sizes: Iterable[int],
        found: Sequence[Series | Filtered | None],
        *,
        written_out: bool,
    ) -> None:
        text = Text(message, written_out=written_out)
        lengths, widths = measure(encoded)
        starts = first_of(widths + lengths)
        ends = starts + widths + np.fromiter(sizes, np.int64, len(encoded))
        zero = np.frombuffer(message, np.uint8)[ends - TIMESTAMP_SIZE - 1] == ZERO_SIZE
        if written_out and not np.array_equal(text.zeros, ends[zero] - ZERO_SIZE - 2):
            raise UnusualEncodingError("something else looks like the beginning of a sample")
        added = ADDED * zero if written_out else np.zeros_like(lengths)
        starts += first_of(added)
        ends += np.cumsum(added)
        self.written_out = written_out
        self.starts = np.append(starts, len(text.data)).astype(np.int32)
        """Offset of each series, and of the end."""
        stamps = ends - TIMESTAMP_SIZE
        values = stamps - DOUBLE.size
        self.values = values.astype(np.int32)
        """Offset of the value of each series, if it is not left out."""
        self.mask = np.full(len(text.data), 0xFF, np.uint8)
        """Bits that are the same in every message."""
        there = values if written_out else values[~zero]
        self.mask[spread(there, np.full_like(there, DOUBLE.size))] = 0
        # The continuation bits stay: they give the length of the timestamp.
        self.mask[spread(stamps + 1, np.full_like(stamps, TIMESTAMP_SIZE - 1))] = ONE_BYTE
        if written_out:
            self.mask[starts + 1] = 0
            self.mask[starts[widths == 3] + 2] = 0
        self.data: Bytes = text.data & self.mask
        full, firsts = lengths + added, text.data[starts + 2].astype(np.int64)
        self.sizes = encode_sizes(full, widths, firsts)
        """The two bytes after the tag of each series if its value is there or written out."""
        self.zero_sizes = encode_sizes(full - ADDED, widths, firsts)
        """The two bytes after the tag of each series if its value was left out."""
        self.kept = np.flatnonzero(np.fromiter(map(bool, found), np.bool_, len(found)))
        """Indexes of the kept series."""
        self.zero = zero[self.kept]
        """Whether the value of each kept series was left out."""
        self.series = KeptSeries([series for series in found if series])

    def __len__(self) -> int:
        return len(self.values)

    @property
    def size(self) -> int:
        """Memory that it takes, in bytes."""
        offsets = (self.starts, self.values, self.sizes, self.zero_sizes)
        arrays = (self.data, self.mask, *offsets, self.kept, self.zero)
        return sum(one.nbytes for one in arrays) + self.series.size

    def match(self, text: Text, start: int, place: int) -> int:
        """Return how many series of a message match this strip from an index on.

        Args:
            text: The message, with its zeros written out if those of this strip are.
            start: Offset of the first series in the text.
            place: Index of the first series in this strip.
        """
        at = int(self.starts[place])
        same = self._compare(text.data, start, at)
        end = int(self.starts.searchsorted(at + same, "right")) - 1
        if not self.written_out:
            return end - place
        # The comparison ignored the sizes of the series.
        moved = start - at
        zero = text.words[self.values[place:end] + moved] == MARKED
        expected = np.where(zero, self.zero_sizes[place:end], self.sizes[place:end])
        right = text.pairs[self.starts[place:end] + 1 + moved] == expected
        return end - place if right.all() else int(right.argmin())

    def _compare(self, data: Bytes, start: int, at: int) -> int:
        """Return how many bytes of a message equal those of this strip from an offset on."""
        size = min(len(data) - start, len(self.data) - at)
        end, block = 0, BLOCK
        while end < size:
            done, end = end, min(end + block, size)
            block = min(2 * block, MAX_BLOCK)
            masked = data[start + done : start + end] & self.mask[at + done : at + end]
            same = masked == self.data[at + done : at + end]
            if not same.all():
                return done + int(same.argmin())
        return size

    def samples(self, text: Text, start: int, place: int, end: int) -> Block | None:
        """Read the samples of the kept series between two indexes; None if there are none.

        Args:
            text: A message of these series, with its zeros written out if those of this strip are.
            start: Offset of the first series in the text.
            place: Index of the first series in this strip.
            end: Index after the last series to read.
        """
        first, last = self.kept.searchsorted((place, end)).tolist()
        if first == last:
            return None
        values = self.values[self.kept[first:last]] + (start - self.starts[place])
        numbers = text.words[values]
        numbers[numbers == MARKED if self.written_out else self.zero[first:last]] = 0
        times = read_timestamps(text.words[values + TIMESTAMP_SIZE])
        return Block(self.series, slice(first, last), times, numbers.view("<f8"))


def split(
    message: bytes, encoded: Sequence[bytes], size: int
) -> Iterator[tuple[int, bytes, Sequence[bytes]]]:
    """Split a message into pieces of at most `size` series.

    Args:
        message: A message of nothing but these series.
        encoded: The series.
        size: Maximum number of series of a piece.

    Yields:
        The index of the first series of each piece, the piece, and its series.

    Raises:
        UnusualEncodingError: the message has something other than series, or a size takes more
            bytes than it needs or more than two.
    """
    lengths, widths = measure(encoded)
    if lengths.max() >= TWO_BYTES or len(message) != lengths.sum() + widths.sum():
        raise UnusualEncodingError("there is something else than series, or sizes take more bytes")
    offsets = [*first_of(widths + lengths)[::size].tolist(), len(message)]
    for place, (start, end) in enumerate(pairwise(offsets)):
        first = place * size
        yield first, message[start:end], encoded[first : first + size]


def measure(encoded: Sequence[bytes]) -> tuple[Integers, Integers]:
    """Return the size of each series in bytes, and how many bytes its tag and its size take."""
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    return lengths, 2 + (lengths >= ONE_BYTE)


def find_zeros(message: bytes) -> Integers:
    """Return the offsets of samples without a value, and of bytes that look like one."""
    data = np.frombuffer(message, np.uint8)
    first, second, third = ZERO_HEAD
    zeros = np.flatnonzero((data[2:] == third) & (data[1:-1] == second) & (data[:-2] == first))
    return zeros if len(zeros) * SHORTEST <= len(message) else zeros[:0]


def write_out(message: bytes, zeros: Integers) -> bytes:
    """Return a message with the zeros of the samples at these offsets written out."""
    starts = [0, *(zeros + len(ZERO_HEAD)).tolist()]
    between = zip(starts, [*zeros.tolist(), len(message)], strict=True)
    view = memoryview(message)  # nothing is copied before all is joined
    return WRITTEN_OUT.join([view[start:end] for start, end in between])


def encode_sizes(lengths: Integers, widths: Integers, firsts: Integers) -> NDArray[np.int32]:
    """Return the two bytes after each series' tag, as an integer; -1 if the width does not fit.

    Args:
        lengths: Size of each series, in bytes.
        widths: Bytes that its tag and its size take.
        firsts: First byte of its content: the second of the two bytes if the size takes one.
    """
    one = np.where(lengths < ONE_BYTE, lengths | firsts << 8, -1)
    two = np.where(lengths >= ONE_BYTE, lengths & 0x7F | ONE_BYTE | lengths >> 7 << 8, -1)
    return np.where(widths == 2, one, two).astype(np.int32)


def read_timestamps(words: NDArray[np.uint64]) -> Integers:
    """Decode the timestamps whose varints are the last six bytes of these words.

    Returns:
        Milliseconds since the Unix epoch.
    """
    # Each byte has seven bits, the least significant first. They are joined in pairs, then all.
    varints = words.astype(np.int64) >> 16
    pairs = varints & 0x7F_007F_007F | (varints & 0x7F00_7F00_7F00) >> 1
    return pairs & 0x3FFF | pairs >> 2 & 0x3FFF << 14 | pairs >> 4 & 0x3FFF << 28
