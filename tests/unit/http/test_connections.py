"""At the limit, the connection that was idle longest is closed, but never one with a request."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from receiver.http.connections import MAX_RATE, Cause, Connections

LIMIT = 3


class Line:
    def __init__(self) -> None:
        self.open = True

    def hang_up(self) -> None:
        self.open = False


class Counted(Connections):
    """Connections that record why they were closed."""

    def __init__(self, time_limit: float = 60) -> None:
        self.closed: Counter[Cause] = Counter()
        super().__init__(LIMIT, time_limit, lambda cause: self.closed.update([cause]))


def filled(connections: Connections) -> list[Line]:
    lines = [Line() for _ in range(LIMIT)]
    for line in lines:
        connections.add(line)
    return lines


async def test_the_oldest_makes_room_for_a_newer_one() -> None:
    connections = Counted()
    lines = filled(connections)
    connections.add(Line())
    assert [line.open for line in lines] == [False, True, True]
    assert len(connections) == LIMIT
    assert connections.closed == {Cause.ROOM: 1}


async def test_what_has_just_completed_something_stays() -> None:
    connections = Counted()
    lines = filled(connections)
    connections.refresh(lines[0])
    connections.add(Line())
    assert [line.open for line in lines] == [True, False, True]


async def test_a_request_in_flight_keeps_its_connection() -> None:
    connections = Counted()
    lines = filled(connections)
    with connections.kept(lines[0]):
        connections.add(Line())
        connections.add(Line())
        assert [line.open for line in lines] == [True, False, False]
    for _ in range(LIMIT):
        connections.add(Line())
    assert not lines[0].open


async def test_there_is_no_room_while_all_have_requests() -> None:
    connections = Counted()
    told: list[bool] = []
    connections.on_room = lambda: told.append(True)
    first, second, third = filled(connections)
    with connections.kept(first), connections.kept(second):
        with connections.kept(third):
            assert connections.wait() is None
        assert told == [True]
        assert connections.wait() is not None


async def test_a_newcomer_waits_until_the_oldest_had_its_time() -> None:
    connections = Counted()
    lines = filled(connections)
    wait = connections.wait()
    assert wait is not None
    assert 0 < wait <= LIMIT / MAX_RATE
    connections.remove(lines[1])
    assert connections.wait() == 0


async def test_one_that_has_gone_is_not_counted_again() -> None:
    connections = Counted()
    (line, *_) = filled(connections)
    with connections.kept(line):
        connections.remove(line)
    connections.refresh(line)
    assert len(connections) == LIMIT - 1
    connections.remove(line)
    assert len(connections) == LIMIT - 1


@pytest.mark.parametrize(("time_limit", "is_open"), [(0, False), (60, True)])
async def test_what_completes_nothing_for_long_is_closed(time_limit: float, is_open: bool) -> None:
    connections = Counted(time_limit)
    lines = filled(connections)
    await asyncio.sleep(0)
    connections.close_stalled()
    assert {line.open for line in lines} == {is_open}
    assert connections.closed[Cause.UNREAD] == LIMIT * (not is_open)
