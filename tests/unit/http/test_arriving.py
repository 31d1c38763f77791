"""Arriving bodies share a memory limit; the one that has held most for longest is evicted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from receiver.errors import OverloadedError
from receiver.http import arriving
from receiver.http.arriving import Arriving, Body


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(arriving, "time", clock)
    return clock


def nothing() -> None: ...


@pytest.fixture
def enter() -> Callable[[Arriving], Body]:
    stack = ExitStack()
    return lambda bodies: stack.enter_context(bodies.body(nothing))


Enter = Callable[[Arriving], Body]


def test_what_has_come_is_counted_not_what_is_announced() -> None:
    bodies = Arriving(100)
    with bodies.body(nothing) as body:
        assert (len(bodies), bodies.size) == (1, 0)
        body.grow(40)
        assert (len(bodies), bodies.size) == (1, 40)
    assert (len(bodies), bodies.size) == (0, 0)


def test_the_one_that_stalls_gives_way_to_the_newcomer(clock: Clock, enter: Enter) -> None:
    bodies = Arriving(100)
    stalled = []
    with bodies.body(lambda: stalled.append(True)) as old:
        old.grow(90)
        clock.now = 5
        new = enter(bodies)
        new.grow(20)
        assert (old.evicted, new.evicted, stalled) == (True, False, [True])
        assert (len(bodies), bodies.size) == (1, 20)
        with pytest.raises(OverloadedError, match="RECEIVER_MAX_ARRIVING_SIZE"):
            old.grow(1)
    assert (len(bodies), bodies.size) == (1, 20)


def test_a_large_body_that_comes_at_once_stays(clock: Clock, enter: Enter) -> None:
    bodies = Arriving(100)
    trickling = [enter(bodies) for _ in range(10)]
    for body in trickling:
        body.grow(6)
    clock.now = 9
    new = enter(bodies)
    clock.now = 9.1
    new.grow(60)
    assert not new.evicted
    assert sum(body.evicted for body in trickling) == 4


def test_it_gives_way_itself_if_it_has_held_most(clock: Clock, enter: Enter) -> None:
    bodies = Arriving(100)
    large, small = enter(bodies), enter(bodies)
    clock.now = 1
    small.grow(30)
    with pytest.raises(OverloadedError):
        large.grow(71)
    assert (small.evicted, bodies.size) == (False, 30)


def test_a_body_that_is_alone_gets_all_it_wants(enter: Enter) -> None:
    bodies = Arriving(100)
    body = enter(bodies)
    body.grow(1000)
    assert not body.evicted
