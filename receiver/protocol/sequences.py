"""Recognizes series that come in the same order as before.

A sender sends the series of a target in the same order after every scrape, wherever it cuts them
into requests. Comparing a message with the series that came last time takes a fraction of the time
of looking each series up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from receiver.protocol.limits import MIB
from receiver.protocol.remembered import Pause, Remembered
from receiver.protocol.samples import LABELS_TAG
from receiver.protocol.series import Filtered
from receiver.protocol.strips import Strip, Text, UnusualEncodingError, split
from receiver.protocol.wire import ONE_BYTE, end_of_field
from receiver.rows.blocks import Block
from receiver.rows.model import Series

MOST_LABELS: Final = 64
"""Maximum number of labels by which a series is located."""
MIN_SIZE: Final = 4096
"""Message size in bytes below which looking each series up is cheaper."""
PIECE: Final = 4096
"""Maximum number of series in a strip: learning one takes some milliseconds."""
MAX_STRIP_SIZE: Final = 4 * MIB
"""Maximum memory of a strip, in bytes."""
PLACE_SIZE: Final = 120
"""Memory per remembered place in bytes, without the labels of its key."""
DISTANCE: Final = 8
"""Interval in series between remembered places: a request may begin with any series."""
TRIES: Final = 24
"""Comparisons after which a message is given up, so that few series with another size are skipped:
each takes three comparisons, and more time than looking some series up."""
TRY_SHARE: Final = 16
"""Number of series for which one more comparison is allowed."""
STRANGE: Final = 3
"""If more than one series in this many has to be looked up, their order is learned."""
MAX_PAUSE: Final = 255
"""Maximum number of messages whose order is not learned because it keeps changing."""


class Rest(NamedTuple):
    """The rest of a message, without the series that came in a known order."""

    message: bytes
    """The rest of the series, as a message."""
    samples: list[Block]
    """Samples of the kept series that were taken out."""
    taken: int
    """Number of series taken out."""
    gaps: list[int]
    """Indexes in the whole message of the series that were skipped; the rest begins with them."""
    next: int
    """Index in the whole message of the next series; all series from there on are in the rest."""
    tail: int
    """Offset of that series in `message`."""
    varies: bool = False
    """Whether the message deviates so much from a known order that no series was taken out."""

    def place(self, number: int) -> int:
        """Return the index in the whole message of a series of the rest."""
        further = number - len(self.gaps)
        return self.gaps[number] if further < 0 else self.next + further


class Reading:
    """Reads a message, from its beginning, as long as its series come in a known order."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._texts: dict[bool, Text] = {}
        self.strips: set[Strip] = set()
        """Strips that the message was compared with."""
        self._samples: list[Block] = []
        self._left: list[bytes] = []
        self._gaps: list[int] = []
        self._number = self._tries = 0
        self.at = 0
        """Offset of the next series."""

    @property
    def varies(self) -> bool:
        """Whether the message took too many comparisons for the number of series read."""
        return self._tries > TRIES + self._number // TRY_SHARE

    def take(self, strip: Strip, place: int) -> int:
        """Read the series that match a strip from an index on; return their number."""
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
        """Skip a series, which is left to be looked up."""
        end = end_of_field(self._message, self.at)
        self._left.append(self._message[self.at : end])
        self._gaps.append(self._number)
        self.at = end
        self._number += 1

    def rest(self) -> Rest:
        """Return the rest of the message, with the samples that were read."""
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
        tag: The tag of a series in a message.
        size: Maximum memory, in bytes.
    """

    def __init__(self, tag: bytes, size: int) -> None:
        self._tag = tag
        # With the places of some of their series, by labels.
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
        """Forget strips from which a message deviates."""
        for strip in strips:
            self._strips.forget(strip)
        if all(strip.written_out for strip in strips):
            # Values that become zero are not the only cause: the sender may have no order at all.
            self._pause.lengthen(MAX_PAUSE)

    def _locate(self, message: bytes, at: int) -> tuple[Strip | None, int]:
        """Return the strip in which the series at an offset came before, and its index there."""
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
            pass  # protobuf's parser reports what is wrong
        return None, 0

    def learn(
        self,
        rest: Rest,
        encoded: Sequence[bytes],
        sizes: Sequence[int],
        found: Sequence[Series | Filtered | None],
    ) -> Iterator[None]:
        """Remember the order of the series of the rest in steps, if they are many and all known.

        Args:
            rest: The rest of a message.
            encoded: The series of the rest.
            sizes: Size of each series in bytes, up to the end of its only sample.
            found: Each known series; None for one that is not known.
        """
        message, first = rest.message[rest.tail :], len(rest.gaps)
        encoded, sizes, found = encoded[first:], sizes[first:], found[first:]
        few = len(encoded) * STRANGE <= rest.taken + len(encoded)
        if few or len(message) < MIN_SIZE or None in found:
            return
        if self._pause.waits():
            return
        try:
            for start, piece, some in split(message, encoded, PIECE):
                end = start + len(some)
                known = found[start:end]
                self._add(
                    Strip(piece, some, sizes[start:end], known, written_out=rest.varies), some
                )
                yield
        except UnusualEncodingError:
            return

    def _add(self, strip: Strip, encoded: Sequence[bytes]) -> None:
        """Remember a strip of these series."""
        some = {*range(0, len(encoded), DISTANCE), len(encoded) - 1}
        places = {encoded[place][: end_of_labels(encoded[place], 0)]: place for place in some}
        self._strips.add(strip, places, MAX_STRIP_SIZE)

    def clear(self) -> None:
        """Forget all orders."""
        self._strips.clear()


def end_of_labels(data: bytes, start: int) -> int:
    """Find the end of the labels that begin at an offset, of at most `MOST_LABELS` of them.

    Raises:
        IndexError: the data is truncated.
    """
    for _ in range(MOST_LABELS):
        if data[start] != LABELS_TAG:
            break
        size = data[start + 1]
        start += 2 + size if size < ONE_BYTE else 3 + (size & 0x7F | data[start + 2] << 7)
    return start
