"""Recognizes series that come in an order in which they came before.

A sender sends the series of a target in the same order after every scrape, wherever it cuts them
into requests. To compare a message with those that came last time takes a fraction of the time that
it takes to look each series up.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from receiver.protocol.limits import MIB
from receiver.protocol.remembered import Pause, Remembered
from receiver.protocol.samples import LABELS_TAG
from receiver.protocol.series import Filtered
from receiver.protocol.strips import Strip, Text
from receiver.protocol.wire import ONE_BYTE, end_of_field
from receiver.rows.blocks import Block
from receiver.rows.model import Series

MOST_LABELS: Final = 64
"""A series with more is not looked for."""
MIN_SIZE: Final = 4096
"""Bytes of a message below which it takes less to look each series up."""
MAX_STRIP_SIZE: Final = 4 * MIB
"""Memory that a strip may take, in bytes."""
PLACE_SIZE: Final = 120
"""Bytes of memory that a place takes, beside its labels."""
DISTANCE: Final = 8
"""Series from one whose place is kept to the next: requests begin with any of them."""
TRIES: Final = 24
"""Comparisons of a message until it is given up, so that few series with another size are passed
over: each takes three, and more time than to look some series up."""
TRY_SHARE: Final = 16
"""One comparison more for so many series."""
STRANGE: Final = 3
"""One series in so many may be looked up; if there are more, their order is learned."""
MAX_PAUSE: Final = 255
"""Messages of which the order is not learned, for it is another one each time."""


class Rest(NamedTuple):
    """What is left of a message when the series are taken out that came in a known order."""

    message: bytes
    """All that is left, as a message."""
    samples: list[Block]
    """Samples of the kept series that were taken out."""
    taken: int
    """How many series were taken out."""
    gaps: list[int]
    """Places in the whole message of the first series that are left."""
    next: int
    """Place of the series that comes after these. All that are left from there on are in a row."""
    tail: int
    """Where these begin in what is left."""
    varies: bool = False
    """Whether it varies from a known order so much that it was left whole."""

    def place(self, number: int) -> int:
        """Return the place in the whole message of one of the series that are left."""
        further = number - len(self.gaps)
        return self.gaps[number] if further < 0 else self.next + further


class Reading:
    """Reads a message, from its beginning, as long as its series come in a known order."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._texts: dict[bool, Text] = {}
        self.strips: set[Strip] = set()
        """Those that the message was compared with."""
        self._samples: list[Block] = []
        self._left: list[bytes] = []
        self._gaps: list[int] = []
        self._number = self._tries = 0
        self.at = 0
        """Where the next series begins."""

    @property
    def varies(self) -> bool:
        """Whether it was compared too often for what was found."""
        return self._tries > TRIES + self._number // TRY_SHARE

    def take(self, strip: Strip, place: int) -> int:
        """Read the series that are those of a strip from a place on; return how many."""
        text = self._texts.get(strip.written_out)
        if text is None:
            text = Text(self._message, written_out=strip.written_out)
            self._texts[strip.written_out] = text
        self.strips.add(strip)
        self._tries += 1
        start = text.position(self.at)
        count = strip.match(text, start, place)
        if count:
            block = strip.samples(text, start, place, place + count)
            if block is not None:
                self._samples.append(block)
            self.at = text.sent(start + int(strip.starts[place + count] - strip.starts[place]))
            self._number += count
        return count

    def pass_over(self) -> None:
        """Leave a series to be looked up."""
        end = end_of_field(self._message, self.at)
        self._left.append(self._message[self.at : end])
        self._gaps.append(self._number)
        self.at = end
        self._number += 1

    def rest(self) -> Rest:
        """Return what is left, and what was read."""
        left = b"".join(self._left)
        return Rest(
            left + self._message[self.at :],
            self._samples,
            self._number - len(self._gaps),
            self._gaps,
            self._number,
            len(left),
        )


class Sequences:
    """The orders in which series came before.

    Args:
        tag: With which a series begins in a message.
        size: Memory to take, in bytes.
    """

    def __init__(self, tag: bytes, size: int) -> None:
        self._tag = tag
        # Some of their series by their labels.
        self._strips: Remembered[Strip] = Remembered(size, PLACE_SIZE)
        self._pause = Pause()

    @property
    def size(self) -> int:
        """Memory taken, in bytes."""
        return self._strips.size

    def read(self, message: bytes) -> Rest:
        """Read the series that come in a known order, each with one sample of the usual form."""
        nothing = Rest(message, [], 0, [], 0, 0)
        if not self._strips or len(message) < MIN_SIZE:
            return nothing
        reading = Reading(message)
        strip, place = self._locate(message, 0)
        located = True
        while strip is not None and reading.at < len(message):
            count = reading.take(strip, place)
            if located and not count:
                reading.pass_over()
                count = 1
            if reading.varies:
                self._give_up(reading.strips)
                return nothing._replace(varies=True)
            place += count
            located = not count or place == len(strip)
            if located:
                strip, place = self._locate(message, reading.at)
        rest = reading.rest()
        if 2 * len(rest.message) < len(message):
            self._pause.shorten()
        return rest

    def _give_up(self, strips: Collection[Strip]) -> None:
        """Forget strips from which a message varies."""
        for strip in strips:
            self._strips.forget(strip)
        if all(strip.written_out for strip in strips):
            # It is not only that values become zero: the sender may have no order at all.
            self._pause.lengthen(MAX_PAUSE)

    def _locate(self, message: bytes, at: int) -> tuple[Strip | None, int]:
        """Return in which strip the series that begins here came before, and at what place."""
        try:
            for ahead in range(DISTANCE):
                if not message.startswith(self._tag, at):
                    break
                start = at + 2 + (message[at + 1] >= ONE_BYTE)
                labels = message[start : end_of_labels(message, start)]
                strip, place = self._strips.find(labels)
                if place >= ahead:
                    return strip, place - ahead
                at = end_of_field(message, at)
        except (IndexError, DecodeError):
            pass  # protobuf's parser says what is wrong
        return None, 0

    def learn(
        self,
        rest: Rest,
        encoded: Sequence[bytes],
        sizes: Sequence[int],
        found: Sequence[Series | Filtered | None],
    ) -> None:
        """Remember the order of the series that were left, if they were many and all are known.

        Args:
            rest: What was left of a message.
            encoded: The series in it.
            sizes: Bytes of each up to the end of its only sample.
            found: What is known of each.
        """
        message, first = rest.message[rest.tail :], len(rest.gaps)
        encoded, found = encoded[first:], found[first:]
        few = len(encoded) * STRANGE <= rest.taken + len(encoded)
        if few or len(message) < MIN_SIZE or None in found:
            return
        if self._pause.waits():
            return
        try:
            strip = Strip(message, encoded, sizes[first:], found, written_out=rest.varies)
        except ValueError:
            return
        some = {*range(0, len(encoded), DISTANCE), len(encoded) - 1}
        places = {encoded[place][: end_of_labels(encoded[place], 0)]: place for place in some}
        self._strips.add(strip, places, MAX_STRIP_SIZE)

    def clear(self) -> None:
        """Forget all."""
        self._strips.clear()


def end_of_labels(data: bytes, start: int) -> int:
    """Find the end of the labels that begin here, or of as many as are looked at.

    Raises:
        IndexError: the data breaks off.
    """
    for _ in range(MOST_LABELS):
        if data[start] != LABELS_TAG:
            break
        size = data[start + 1]
        start += 2 + size if size < ONE_BYTE else 3 + (size & 0x7F | data[start + 2] << 7)
    return start
