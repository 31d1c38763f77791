"""Caches the states of the last hours, so that an update of a page reads only the last minutes.

A page is loaded again every few seconds, a day of one source has 17,000 rows if it is scraped every
5 seconds, and the database calculates states from the rows. The states of a source are read again
after a minute or two; late rows and new planned stops are included then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeAlias

from receiver.storage.reading.stretches import Stretch

KEPT: Final = 60.0
"""Minimum seconds for which the states of a source are cached; the maximum is twice that."""
OVERLAP: Final = 120.0
"""Seconds that an update reads again, so that it includes rows that are a little late."""
MOST: Final = 2_000
"""Maximum number of cached sources."""
LONGEST: Final = 20_000
"""Maximum number of cached stretches of a source."""

Read: TypeAlias = Callable[
    [tuple[datetime, datetime], Collection[int]], Awaitable[dict[int, list[Stretch]]]
]
"""Reads the stretches of some sources within a range of time."""


class Known(NamedTuple):
    """The cached states of a source."""

    since: float
    upto: float
    expires: float
    stretches: Sequence[Stretch]


class Recent:
    """Reads stretches up to now, and caches them."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, int], Known] = {}

    async def read(
        self, key: object, since: datetime, now: datetime, sources: Collection[int], read: Read
    ) -> dict[int, list[Stretch]]:
        """Return the stretches of sources from a time until now, by source and time.

        Args:
            key: Everything else that the stretches depend on.
            since: The start of the range.
            now: The end of the range.
            sources: The sources.
            read: Reads the stretches that are not cached.
        """
        start, end = since.timestamp(), now.timestamp()
        known = [source for source in sources if self._is_fresh((key, source), start, end)]
        missing = sorted(set(sources).difference(known))
        if missing:
            found = await read((since, now), missing)
            for source in missing:
                line = found.get(source, [])
                self._remember((key, source), Known(start, end, expiry(source, end), line))
        if known:
            begin = min(self._known[key, source].upto for source in known) - OVERLAP
            tail = await read((datetime.fromtimestamp(begin, UTC), now), known)
            for source in known:
                before = self._known[key, source]
                line = join(before.stretches, tail.get(source, []), begin)
                self._remember((key, source), before._replace(upto=end, stretches=line))
        return {
            source: [one for one in self._known[key, source].stretches if one.end > start]
            for source in sources
        }

    def _is_fresh(self, key: tuple[object, int], since: float, now: float) -> bool:
        known = self._known.get(key)
        if known is None or known.expires <= now or known.since > since:
            return False
        return now - known.upto < KEPT and len(known.stretches) <= LONGEST

    def _remember(self, key: tuple[object, int], known: Known) -> None:
        # The least recently used source comes first.
        self._known.pop(key, None)
        self._known[key] = known
        while len(self._known) > MOST:
            del self._known[next(iter(self._known))]


def expiry(source: int, now: float) -> float:
    """Return when the cached states of a source expire: not all sources at the same time."""
    return now + KEPT * (1 + source * 0.618 % 1)


def join(before: Sequence[Stretch], tail: Sequence[Stretch], begin: float) -> list[Stretch]:
    """Return the stretches before a time, followed by those from that time on."""
    joined = [
        one if one.end <= begin else one._replace(end=begin) for one in before if one.start < begin
    ]
    rest = list(tail)
    if joined and rest:
        last, first = joined[-1], rest[0]
        if (last.state, last.code, last.end) == (first.state, first.code, first.start):
            joined[-1] = last._replace(end=first.end)
            rest.pop(0)
    return joined + rest
