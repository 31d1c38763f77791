"""The cached states agree with the database."""

from __future__ import annotations

import random
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from receiver.storage.reading.states import State
from receiver.storage.reading.stretches import Stretch
from receiver.web.recent import KEPT, MOST, OVERLAP, Recent

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Database:
    """Histories that grow."""

    def __init__(self, sources: int) -> None:
        self.chance = random.Random(3)
        self.lines: dict[int, list[Stretch]] = {source: [] for source in range(sources)}
        self.asked: list[tuple[timedelta, int]] = []

    def grow(self, until: datetime) -> None:
        end = until.timestamp()
        for line in self.lines.values():
            while (start := line[-1].end if line else START.timestamp()) < end:
                if self.chance.random() < 0.2:
                    start += self.chance.uniform(1, 50)
                state, code = self.chance.choice([(State.OK, 0), (State.FAILURE, 2)])
                if line and (line[-1].state, line[-1].end) == (state, start):
                    line[-1] = line[-1]._replace(end=start + 5)
                else:
                    line.append(Stretch(state, code, start, start + self.chance.uniform(1, 900)))

    async def read(
        self, window: tuple[datetime, datetime], sources: Collection[int]
    ) -> dict[int, list[Stretch]]:
        self.asked.append((window[1] - window[0], len(sources)))
        since, until = (moment.timestamp() for moment in window)
        return {
            source: [
                one._replace(start=max(one.start, since), end=min(one.end, until))
                for one in self.lines[source]
                if one.end > since and one.start < until
            ]
            for source in sources
        }


async def test_what_is_remembered_is_what_there_is() -> None:
    database, recent = Database(7), Recent()
    now = START + DAY
    for _ in range(200):
        database.grow(now + timedelta(hours=1))
        since = now - DAY
        found = await recent.read("t", since, now, range(7), database.read)
        expected = await database.read((since, now), range(7))
        assert found.keys() == expected.keys()
        for source, line in found.items():
            clipped = [one._replace(start=max(one.start, since.timestamp())) for one in line]
            assert clipped == expected[source]
        now += timedelta(seconds=database.chance.uniform(1, 20))


async def test_an_update_reads_the_last_minutes() -> None:
    database, recent = Database(50), Recent()
    now = START + DAY
    database.grow(now + DAY)
    await recent.read("t", now - DAY, now, range(50), database.read)
    assert database.asked == [(DAY, 50)]
    later = now + timedelta(seconds=5)
    await recent.read("t", later - DAY, later, range(50), database.read)
    assert database.asked[1:] == [(timedelta(seconds=OVERLAP + 5), 50)]
    # Not all sources are reread at the same time.
    database.asked.clear()
    for step in range(2, 30):
        later = now + timedelta(seconds=5 * step)
        await recent.read("t", later - DAY, later, range(50), database.read)
    whole = [number for length, number in database.asked if length == DAY]
    assert sum(whole) >= 50
    assert max(whole) < 15


async def test_what_it_depends_on_tells_what_is_remembered() -> None:
    database, recent = Database(1), Recent()
    now = START + DAY
    for key, since in (("a", DAY), ("b", DAY), ("a", 2 * DAY)):
        await recent.read(key, now - since, now, [0], database.read)
    assert [length for length, _ in database.asked] == [DAY, DAY, 2 * DAY]
    later = now + timedelta(seconds=KEPT)
    await recent.read("a", later - DAY, later, [0], database.read)
    assert database.asked[-1] == (DAY, 1)


async def test_no_more_is_remembered_than_is_said() -> None:
    database, recent = Database(MOST + 5), Recent()
    await recent.read("t", START, START + DAY, range(5), database.read)
    await recent.read("t", START, START + DAY, range(5, MOST + 5), database.read)
    await recent.read("t", START, START + DAY, [0], database.read)
    assert [number for _, number in database.asked] == [5, MOST, 1]
