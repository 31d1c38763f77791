"""Recognizes 2.0 series that come in the same order as before.

As with 1.0, a sender sends the series of a target in the same order after every scrape, wherever it
cuts them into requests. In 2.0, each request may have its own symbols.
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
"""Memory per remembered place in bytes, without the symbol numbers of its key."""
DISTANCE: Final = 8
"""Interval in series between remembered places: a request may begin with any series."""
STRAYS: Final = 8
"""Number of consecutive mismatches that mark the end of a known order."""
TRIES: Final = 8
"""Comparisons after which a request is given up: each may cost as much as checking some series."""
TRY_SHARE: Final = 64
"""Number of series for which one more comparison is allowed."""
LEAST: Final = 256
"""Minimum number of series to compare at once, even after a short match."""
STRANGE: Final = 8
"""If more than one series in this many was not in a known order, the order is learned."""
MOST_SERIES: Final = 8192
"""Maximum number of series of a run that is joined from others."""
MAX_PAUSE: Final = 255
"""Maximum number of requests whose order is not learned because it keeps changing."""


class Known(NamedTuple):
    """Series of a request that came in a known order."""

    flags: Flags
    """Whether each series of the request is one of them."""
    samples: list[Block]
    """Samples of the kept ones."""


class Piece(NamedTuple):
    """Series of a request that were compared with a run."""

    start: int
    """Index of the first one in the request."""
    run: Run
    place: int
    """Index of the first one in the run."""
    length: int


class Orders:
    """The orders in which series came before.

    Args:
        size: Maximum memory, in bytes.
    """

    def __init__(self, size: int) -> None:
        self._most = size
        # With the places of some of their series, by symbol numbers.
        self._runs: Remembered[Run] = Remembered(size, PLACE_SIZE)
        self._pause = Pause()

    def __bool__(self) -> bool:
        """Return whether any order is known."""
        return bool(self._runs)

    def read(
        self, layout: Layout, encoded: Sequence[bytes], numbers: Numbers, codes: Codes
    ) -> Known:
        """Find the series of the usual form that come in a known order.

        Args:
            layout: Where the parts of the series are.
            encoded: The series.
            numbers: The numbers of the request's symbols, 0 for a symbol without one.
            codes: The request's encoded reference to each symbol, by symbol number.
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
        """Return the run in which the first of these series came before, and its index there."""
        for ahead, data in enumerate(encoded):
            refs = read_refs(data)
            if refs and max(refs) < len(numbers):
                run, place = self._runs.find(numbers[refs].tobytes())
                if place >= ahead:
                    return run, place - ahead
        return None, 0

    def connect(self, first: Run, second: Run) -> tuple[Run, int]:
        """Join two runs that came one after the other, unless the result would be too long.

        Returns:
            The joined run, or the second if they are not joined; the index of the second in it.
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
        """Return whether to learn the order of a request of which some series were not found.

        Args:
            left: Number of series that were not found.
            total: Number of series compared.
            symbols: Number of symbols of the request.
        """
        if left * STRANGE <= total or symbols > MAX_CODES:
            return False
        return not self._pause.waits()

    def learn(self, run: Run) -> None:
        """Remember the order of the series of a run."""
        some = {*range(0, len(run), DISTANCE), len(run) - 1}
        places = {key: place for place in some if (key := run.key(place))}
        for forgotten in self._runs.add(run, places):
            if not forgotten.used:
                # Learning it was of no use.
                self._pause.lengthen(MAX_PAUSE)

    def _give_up(self, runs: Iterable[Run]) -> None:
        """Forget runs from which a request deviates."""
        for run in set(runs):
            self._runs.forget(run)
        self._pause.lengthen(MAX_PAUSE)

    def clear(self) -> None:
        """Forget all orders."""
        self._runs.clear()


def count_before_strays(same: Flags) -> int:
    """Return the number of series before the first `STRAYS` consecutive mismatches."""
    others = np.flatnonzero(~same)
    more = STRAYS - 1
    rows = np.flatnonzero(others[more:] - others[: max(0, len(others) - more)] == more)
    return int(others[rows[0]]) if len(rows) else len(same)


def read_refs(encoded: bytes) -> list[int]:
    """Read the label references of a series of the usual form; of any other, none or wrong ones."""
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
