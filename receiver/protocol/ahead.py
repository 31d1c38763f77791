"""Reads the series of a 2.0 message that come in a known order, without splitting the message.

Where the known order ends, protobuf splits the rest of the message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, TypeAlias

from receiver.protocol.columns import Symbols, have_usual_tails
from receiver.protocol.layout import Text
from receiver.protocol.orders import DISTANCE, Orders
from receiver.protocol.predicting import contents, open_symbols, predict
from receiver.protocol.remembered import Pause
from receiver.protocol.runs import Run
from receiver.protocol.strips import find_zeros
from receiver.protocol.symbols import Ahead
from receiver.protocol.vocabulary import Codes, Numbers
from receiver.rows.blocks import Block

OpenSymbols: TypeAlias = Callable[[list[str]], tuple[Symbols, Numbers, Codes]]
"""Prepares the symbols of a request; returns them, their numbers, and the encoded references."""

MIN_SIZE: Final = 4096
"""Message size in bytes below which splitting the message is cheaper."""
MAX_PAUSE: Final = 15
"""Maximum number of messages that are split right away after a known order did not match."""
AT_ONCE: Final = 2048
"""Maximum number of series to predict at once, at some KiB of memory each."""
TRIES: Final = 6
"""Maximum number of runs that a message is compared with before it is split."""


class AheadReader:
    """Reads the first series of messages, as long as they come in a known order.

    Args:
        orders: The known orders.
        opens: Prepares the symbols of a message.
    """

    def __init__(self, orders: Orders, opens: OpenSymbols) -> None:
        self._orders = orders
        self._open = opens
        self._pause = Pause()

    def read(self, message: bytes) -> Ahead:
        """Read as many series as possible without splitting the message."""
        if self._pause.waits() or len(message) < MIN_SIZE or not self._orders:
            return Ahead([], 0, [], message)
        texts, start = open_symbols(message)
        if not start:
            return Ahead([], 0, [], message)
        reading = Reading(message[start:], *self._open(texts))
        self._take_all(reading)
        if 2 * reading.at < reading.size:
            self._pause.lengthen(MAX_PAUSE)
        else:
            self._pause.shorten()
        left = reading.left()
        return Ahead(texts, reading.taken, reading.samples, left and message[:start] + left)

    def _take_all(self, reading: Reading) -> None:
        before: Run | None = None
        for _ in range(TRIES):
            if reading.at == reading.size:
                break
            run, place = self._orders.locate(reading.following(), reading.numbers)
            if run is None:
                break
            if before and not place:
                run, place = self._orders.connect(before, run)
            first = place
            place = reading.take(run, place)
            if place == first:
                break
            before = run if place == len(run) else None


class Reading:
    """Reads the series of a message, from the first one on.

    Args:
        message: The message without its symbols.
        symbols: The symbols of the message.
        numbers: The numbers of the symbols, 0 for a symbol without one.
        codes: The encoded reference to each symbol, by symbol number.
    """

    def __init__(self, message: bytes, symbols: Symbols, numbers: Numbers, codes: Codes) -> None:
        self._message = message
        self._symbols = symbols
        self._codes = codes
        self._text = Text(message)
        self._zeros = find_zeros(message)
        self.numbers = numbers
        """Numbers of the symbols of the message."""
        self.at = 0
        """Offset of the next series."""
        self.size = len(message)
        """Offset of the end of the message."""
        self.taken = 0
        """Number of series read."""
        self.samples: list[Block] = []
        """Samples of the kept series."""

    def following(self) -> Iterator[bytes]:
        """Yield the first few series that have not been read."""
        return islice(contents(self._message, self.at), DISTANCE)

    def left(self) -> bytes:
        """Return the part of the message that has not been read."""
        return self._message[self.at :]

    def take(self, run: Run, place: int) -> int:
        """Read series that match a run from an index on; return the index after the last match."""
        end = place
        while end < len(run) and self.at < self.size:
            guess = min(len(run) - end, 1 + int((self.size - self.at) / run.mean), AT_ONCE)
            count = self._take(run, end, guess)
            end += count
            if count < guess:
                break
        return end

    def _take(self, run: Run, place: int, guess: int) -> int:
        expected = run.expect(self._codes, place, guess)
        tails = run.tails[place : place + guess]
        layout, right, ends = predict(self._text, self._zeros, self.at, expected, tails)
        right &= have_usual_tails(layout, self._symbols)
        right &= expected.first(len(ends)).compare(layout, 0)
        count = len(right) if right.all() else int(right.argmin())
        if count:
            run.used = True
            block = run.samples(layout, 0, place, right[:count])
            if block is not None:
                self.samples.append(block)
            self.at = int(ends[count - 1])
            self.taken += count
        return count
