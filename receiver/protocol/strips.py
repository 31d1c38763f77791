"""Compares a message with series that came one after the other before, all at once, with numpy.

A series has the same bytes whenever it comes, but for its value and its timestamp. Only where a
value becomes zero, or is no longer, everything after it moves: senders leave out a zero.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from receiver.protocol.arrays import Bytes, first_of
from receiver.protocol.samples import DOUBLE, HEAD, TIMESTAMP_SIZE, ZERO_HEAD, ZERO_SIZE
from receiver.protocol.series import Filtered
from receiver.protocol.wire import ONE_BYTE
from receiver.rows.blocks import Block, KeptSeries
from receiver.rows.columns import Integers
from receiver.rows.model import Series

Words: TypeAlias = NDArray[np.uint64]

TWO_BYTES: Final = 1 << 14

MARK: Final = bytes(byte | ONE_BYTE for byte in secrets.token_bytes(DOUBLE.size))
"""Stands for a zero that was left out. No message can hold it but by chance, and none of its bytes
is the tag of a field."""
MARKED: Final = np.frombuffer(MARK, "<u8")[0]
WRITTEN_OUT: Final = HEAD + MARK + ZERO_HEAD[-1:]
ADDED: Final = len(WRITTEN_OUT) - len(ZERO_HEAD)
"""Bytes that a series is longer whose zero is written out."""
ZERO_WORD: Final = int.from_bytes(ZERO_HEAD[:2], "little")

SHORTEST: Final = 16
"""Bytes of a series, at least. What looks like more samples without value than there could be is
none, and would take much memory."""
AT_ONCE: Final = 64
"""Series that are compared at once, at first: there may be a difference soon."""
MOST_AT_ONCE: Final = 1024
"""Series that are compared at once after others were the same. The bytes of more would not stay in
a processor's cache."""
STAMP_SAME: Final = np.uint64(0x8080_8080_8080_FFFF)
"""Bits of the word that ends with a timestamp that are the same each time, for the timestamp takes
as many bytes."""
NOWHERE: Final[Integers] = np.zeros(0, np.int64)


class Fields(NamedTuple):
    """What is another one each time that a series comes; an item for each of several series."""

    sizes: NDArray[np.uint16]
    """The two bytes after its tag; none where zeros are not written out."""
    numbers: Words
    """Bits of its value."""
    stamps: Words
    """The word that ends with the varint of its timestamp."""

    def only(self, places: slice | Integers) -> Fields:
        """Return those of some of the series."""
        return Fields(self.sizes[places], self.numbers[places], self.stamps[places])


class Text:
    """A message to be compared.

    Args:
        message: As it was sent.
        written_out: Whether to write out the zeros, as `MARK`, so that nothing moves where a value
            becomes zero.
    """

    def __init__(self, message: bytes, *, written_out: bool) -> None:
        self.zeros = find_zeros(message) if written_out else np.zeros(0, np.int64)
        """Where samples without a value began that are written out, in the message as sent."""
        starts = [0, *(self.zeros + len(ZERO_HEAD)).tolist()]
        between = zip(starts, [*self.zeros.tolist(), len(message)], strict=True)
        self.bytes = bytearray(WRITTEN_OUT).join([message[start:end] for start, end in between])
        self.data: Bytes = np.frombuffer(self.bytes, np.uint8)
        # At each byte the number that begins there.
        size = len(self.bytes)
        self._pairs: NDArray[np.uint16] = np.ndarray(size - 1, "<u2", self.bytes, strides=(1,))
        self._words: Words = np.ndarray(size - 7, "<u8", self.bytes, strides=(1,))
        self._moved = self.zeros + ADDED * np.arange(len(self.zeros))

    def position(self, sent: int) -> int:
        """Return where a position of the message as it was sent is here."""
        return sent + ADDED * int(self.zeros.searchsorted(sent))

    def sent(self, position: int) -> int:
        """Return where a position was in the message as it was sent."""
        return position - ADDED * int(self._moved.searchsorted(position))

    def take(self, sizes: Integers, values: Integers, same: Words) -> Fields:
        """Take fields out of the text, which keeps what is the same each time.

        Args:
            sizes: Where the sizes of series are; empty where these are the same each time.
            values: Where the value of each is, before its timestamp.
            same: Bits of it that are the same each time: all where there is no value.
        """
        pairs, numbers = self._pairs[sizes], self._words[values]
        self._pairs[sizes] = 0
        self._words[values] = numbers & same
        # The last byte of a value, if there is one, is the first of these words.
        stamps = self._words[values + TIMESTAMP_SIZE]
        self._words[values + TIMESTAMP_SIZE] = stamps & STAMP_SAME
        return Fields(pairs, numbers, stamps)

    def put_back(self, fields: Fields, sizes: Integers, values: Integers) -> None:
        """Put back fields that were taken out from there."""
        self._words[values + TIMESTAMP_SIZE] = fields.stamps
        self._words[values] = fields.numbers
        self._pairs[sizes] = fields.sizes


class Strip:
    """Series that came one after the other, all of them known.

    Args:
        message: A message of nothing but these series.
        encoded: The series.
        sizes: Bytes of each up to the end of its sample.
        found: What is known of each.
        written_out: Whether to compare messages with their zeros written out.

    Raises:
        ValueError: the message is encoded in another way than senders do it.
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
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        widths = 2 + (lengths >= ONE_BYTE)
        starts = first_of(widths + lengths)
        if lengths.max() >= TWO_BYTES or len(message) != lengths.sum() + widths.sum():
            raise ValueError("there is something else than series, or sizes take more bytes")
        ends = starts + widths + np.fromiter(sizes, np.int64, len(encoded))
        zero = np.frombuffer(message, np.uint8)[ends - TIMESTAMP_SIZE - 1] == ZERO_SIZE
        if written_out and not np.array_equal(text.zeros, ends[zero] - ZERO_SIZE - 2):
            raise ValueError("something else looks like the beginning of a sample")
        added = ADDED * zero if written_out else np.zeros_like(lengths)
        starts += first_of(added)
        ends += np.cumsum(added)
        self.written_out = written_out
        self._starts: Integers = np.append(starts, len(text.data))
        # Where the value of each begins, if it is not left out.
        self._values: Integers = ends - TIMESTAMP_SIZE - DOUBLE.size
        # Bits of it that are the same each time.
        self._same: Words = np.zeros(len(encoded), np.uint64)
        if not written_out:
            self._same[zero] = ~self._same[zero]
        full, firsts = lengths + added, text.data[starts + 2].astype(np.int64)
        # The two bytes after the tag of each, where its value is there or written out.
        self._sizes = encode_sizes(full, widths, firsts)
        # The same where the value was left out.
        self._zero_sizes = encode_sizes(full - ADDED, widths, firsts)
        text.take(*self._places(0, len(encoded)))
        self._data = text.data
        # Places of the series that are kept.
        self._kept = np.flatnonzero(np.fromiter(map(bool, found), np.bool_, len(found)))
        self._series = KeptSeries([series for series in found if series])

    def __len__(self) -> int:
        return len(self._values)

    @property
    def size(self) -> int:
        """Memory that it takes, in bytes."""
        arrays = (self._data, self._starts, self._values, self._same, self._sizes, self._zero_sizes)
        return sum(one.nbytes for one in arrays) + self._kept.nbytes + self._series.size

    def _places(self, place: int, end: int, moved: int = 0) -> tuple[Integers, Integers, Words]:
        """Return what `Text.take` is to be told of some of the series.

        Args:
            place: The first of them.
            end: The first that is not one of them.
            moved: How much further they are in the text than here.
        """
        sizes = self._starts[place:end] + (moved + 1) if self.written_out else NOWHERE
        return sizes, self._values[place:end] + moved, self._same[place:end]

    def position(self, place: int) -> int:
        """Return where a series begins; for their number, where they end."""
        return int(self._starts[place])

    def read(self, text: Text, start: int, place: int) -> tuple[int, Block | None]:
        """Read the series of a message that are those from a place on.

        Args:
            text: The message, written out as this strip is.
            start: Where the first of them begins there.
            place: Which series that would be.

        Returns:
            Place of the first that is another one, or is not there, and the samples of the kept
            ones before it, if there are any.
        """
        moved = start - self.position(place)
        last = int(self._starts.searchsorted(len(text.data) - moved, "right")) - 1
        first, at_once, some = place, AT_ONCE, []
        while place < last:
            end = min(place + at_once, last)
            fields = self._compare(text, moved, place, end)
            some.append(fields)
            place += len(fields.numbers)
            if place < end:
                break
            at_once = min(2 * at_once, MOST_AT_ONCE)
        kept = slice(*self._kept.searchsorted((first, place)).tolist())
        if kept.start == kept.stop:
            return place, None
        fields = Fields(*map(np.concatenate, zip(*some, strict=True)))
        places = self._kept[kept]
        numbers = fields.numbers[places - first] & ~self._same[places]
        if self.written_out:
            numbers[numbers == MARKED] = 0
        times = read_timestamps(fields.stamps[places - first])
        return place, Block(self._series, kept, times, numbers.view("<f8"))

    def _compare(self, text: Text, moved: int, place: int, end: int) -> Fields:
        """Take the fields of the first of these series out of a text that are the same there."""
        sizes, values, same = self._places(place, end, moved)
        fields = text.take(sizes, values, same)
        start, stop = self.position(place), self.position(end)
        count = end - place
        if not text.bytes.startswith(self._data[start:stop].data, start + moved):
            differ = text.data[start + moved : stop + moved] != self._data[start:stop]
            count = self._place_of(start + int(differ.argmax())) - place
        if self.written_out:
            zero = fields.numbers == MARKED
            expected = np.where(zero, self._zero_sizes[place:end], self._sizes[place:end])
            right = fields.sizes == expected
            if not right.all():
                count = min(count, int(right.argmin()))
        if count < end - place:
            rest = slice(count, None)
            text.put_back(fields.only(rest), sizes[rest], values[rest])
        return fields.only(slice(count))

    def _place_of(self, position: int) -> int:
        """Return which series has the byte at a position."""
        return int(self._starts.searchsorted(position, "right")) - 1


def find_zeros(message: bytes) -> Integers:
    """Return where samples without a value begin, and what looks like one."""
    data = np.frombuffer(message, np.uint8)
    found = []
    for odd in (0, 1):
        words = data[odd : odd + (len(data) - odd) // 2 * 2].view("<u2")
        same = np.zeros((len(words) + 7) // 8 * 8, np.bool_)
        np.equal(words, ZERO_WORD, out=same[: len(words)])
        # Few are: to look at eight at once takes a fraction of the time.
        eights = np.flatnonzero(same.view(np.uint64) != 0)
        which, place = same.reshape(-1, 8)[eights].nonzero()
        found.append(2 * (8 * eights[which] + place) + odd)
    places = np.sort(np.concatenate(found))
    places = places[: places.searchsorted(len(data) - 2)]
    zeros: Integers = places[data[places + 2] == ZERO_HEAD[2]]
    return zeros if len(zeros) * SHORTEST <= len(message) else zeros[:0]


def encode_sizes(lengths: Integers, widths: Integers, firsts: Integers) -> NDArray[np.int32]:
    """Return the two bytes after the tag of series, as a number; -1 for one of another width.

    Args:
        lengths: Bytes of each series.
        widths: Bytes that its tag and its size take.
        firsts: Its first byte, the second of the two if the size takes one.
    """
    one = np.where(lengths < ONE_BYTE, lengths | firsts << 8, -1)
    two = np.where(lengths >= ONE_BYTE, lengths & 0x7F | ONE_BYTE | lengths >> 7 << 8, -1)
    return np.where(widths == 2, one, two).astype(np.int32)


def read_timestamps(words: Words) -> Integers:
    """Read the timestamps of which the varints are in the last six bytes of these words.

    Returns:
        Milliseconds since the Unix epoch.
    """
    # Of each byte seven bits count, the first byte's least. They are joined in pairs, then all.
    varints = words.astype(np.int64) >> 16
    pairs = varints & 0x7F_007F_007F | (varints & 0x7F00_7F00_7F00) >> 1
    return pairs & 0x3FFF | pairs >> 2 & 0x3FFF << 14 | pairs >> 4 & 0x3FFF << 28
