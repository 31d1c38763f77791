"""Recognizes series of 2.0 that come in an order in which they came before.

As with 1.0, a sender sends the series of a target in the same order after every scrape, wherever it
cuts them into requests. Here each request may have symbols of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np

from receiver.protocol.layout import Layout
from receiver.protocol.remembered import Pause, Remembered
from receiver.protocol.runs import Run
from receiver.protocol.samples import LABELS_TAG
from receiver.protocol.vocabulary import MAX_CODES, Codes, Numbers
from receiver.protocol.wire import ONE_BYTE
from receiver.rows.blocks import Block
from receiver.rows.columns import Flags

PLACE_SIZE: Final = 240
"""Bytes of memory that a place takes, beside the numbers of its symbols."""
DISTANCE: Final = 8
"""Series from one whose place is kept to the next: requests begin with any of them."""
STRAYS: Final = 8
"""Series in a row that are other ones than a run has there, where its order does not go on."""
TRIES: Final = 8
"""Comparisons of a request until it is given up: each may take as long as to check some series."""
TRY_SHARE: Final = 64
"""One comparison more for so many series."""
LEAST: Final = 256
"""Series that are compared at once although the order did not go on for long before."""
STRANGE: Final = 8
"""One series in so many may be checked; if there are more, their order is learned."""
MOST_SERIES: Final = 8192
"""Series of a run that is made of others."""
MAX_PAUSE: Final = 255
"""Requests of which the order is not learned, for it is another one each time."""


class Known(NamedTuple):
    """Series of a request that came in a known order."""

    flags: Flags
    """Whether each series is one of them."""
    samples: list[Block]
    """Samples of those that are kept."""


class Piece(NamedTuple):
    """Series of a request that were compared with a run."""

    start: int
    """Place of the first in the request."""
    run: Run
    place: int
    """Place of the first in the run."""
    length: int


class Orders:
    """The orders in which series came before.

    Args:
        size: Memory to take, in bytes.
    """

    def __init__(self, size: int) -> None:
        self._most = size
        # Some of their series by the numbers of their symbols.
        self._runs: Remembered[Run] = Remembered(size, PLACE_SIZE)
        self._pause = Pause()

    @property
    def size(self) -> int:
        """Memory taken, in bytes."""
        return self._runs.size

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._runs)

    def read(
        self, layout: Layout, encoded: Sequence[bytes], numbers: Numbers, codes: Codes
    ) -> Known:
        """Find the usual series that come in a known order.

        Args:
            layout: Where their parts are.
            encoded: The series.
            numbers: Those of the symbols of the request, 0 for a symbol without one.
            codes: How the request refers to each symbol, by the symbols' numbers.
        """
        total = len(encoded)
        flags = np.zeros(total, np.bool_)
        pieces: list[Piece] = []
        at, most = 0, total
        while at < total:
            run, place = self.locate(encoded[at : at + DISTANCE], numbers)
            if run is None:
                break
            if len(pieces) >= TRIES + at // TRY_SHARE:
                self._give_up(piece.run for piece in pieces)
                break
            length = min(most, len(run) - place, total - at)
            same = run.expect(codes, place, length).compare(layout, at)
            count = count_before_strays(same)
            if not count:
                break
            run.used = True
            flags[at : at + count] = same[:count]
            pieces.append(Piece(at, run, place, count))
            at += count
            most = total if count == len(same) else max(LEAST, 4 * count)
        flags &= layout.usual
        if 2 * np.count_nonzero(flags) > total:
            self._pause.shorten()
        found = [
            run.samples(layout, start, place, flags[start : start + length])
            for start, run, place, length in pieces
        ]
        return Known(flags, [block for block in found if block is not None])

    def locate(self, encoded: Iterable[bytes], numbers: Numbers) -> tuple[Run | None, int]:
        """Return in which run the first of some series came before, and at what place."""
        for ahead, data in enumerate(encoded):
            refs = read_refs(data)
            if refs and max(refs) < len(numbers):
                run, place = self._runs.find(numbers[refs].tobytes())
                if place >= ahead:
                    return run, place - ahead
        return None, 0

    def connect(self, first: Run, second: Run) -> tuple[Run, int]:
        """Make one run of two that came one after the other, if it is not too long.

        Returns:
            The run that begins with, or is, the second, and the place of that in it.
        """
        sizes = sum(self._runs.learned[run].size for run in (first, second))
        if first is second or len(first) + len(second) > MOST_SERIES or 4 * sizes > self._most:
            return second, 0
        self._runs.forget(first)
        self._runs.forget(second)
        run = first.followed_by(second)
        self.learn(run)
        return run, len(first)

    def wants(self, left: int, total: int, symbols: int) -> bool:
        """Whether to learn the order of the series of a request that were not found.

        Args:
            left: How many these are.
            total: How many series were compared.
            symbols: How many symbols the request has.
        """
        if left * STRANGE <= total or symbols > MAX_CODES:
            return False
        return not self._pause.waits()

    def learn(self, run: Run) -> None:
        """Remember the order of series."""
        some = {*range(0, len(run), DISTANCE), len(run) - 1}
        places = {key: place for place in some if (key := run.key(place))}
        for forgotten in self._runs.add(run, places):
            if not forgotten.used:
                # To learn it was of no use.
                self._pause.lengthen(MAX_PAUSE)

    def _give_up(self, runs: Iterable[Run]) -> None:
        """Forget runs from which a request varies."""
        for run in set(runs):
            self._runs.forget(run)
        self._pause.lengthen(MAX_PAUSE)

    def clear(self) -> None:
        """Forget all."""
        self._runs.clear()


def count_before_strays(same: Flags) -> int:
    """Return how many series there are until several in a row are other ones."""
    others = np.flatnonzero(~same)
    more = STRAYS - 1
    rows = np.flatnonzero(others[more:] - others[: max(0, len(others) - more)] == more)
    return int(others[rows[0]]) if len(rows) else len(same)


def read_refs(encoded: bytes) -> list[int]:
    """Read the label references of a usual series; of another one, none or any."""
    if len(encoded) < 2 or encoded[0] != LABELS_TAG or encoded[1] >= ONE_BYTE:
        return []
    refs = []
    ref = shift = 0
    for byte in encoded[2 : 2 + encoded[1]]:
        ref |= (byte & 0x7F) << shift
        shift += 7
        if byte < ONE_BYTE:
            refs.append(ref)
            ref = shift = 0
    return refs
