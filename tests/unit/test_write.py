"""Decoding that takes long leaves the event loop to others in between."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from receiver.protocol.tally import Decoded, Steps
from receiver.write import NOTHING, SLICE, in_slices

DECODED = Decoded(NOTHING, 0)


def steps(count: int, seconds: float, done: Counter[str], name: str) -> Steps:
    """Steps that take so long each, and count themselves."""
    for _ in range(count):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        done[name] += 1
        yield
    return DECODED


async def test_quick_steps_are_taken_at_once() -> None:
    done = Counter[str]()
    work = in_slices(steps(5, 0, done, "quick"), asyncio.Lock())
    with pytest.raises(StopIteration):  # as a coroutine ends that has not had to wait
        work.send(None)
    assert done["quick"] == 5


async def test_others_run_between_slow_steps() -> None:
    done = Counter[str]()
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count_turns())
    assert await in_slices(steps(20, SLICE, done, "slow"), asyncio.Lock()) is DECODED
    other.cancel()
    assert done["slow"] == 20
    assert turns >= 20


async def test_however_many_take_long_the_loop_waits_for_one_of_them() -> None:
    """Each has its first slice at once; from then on they go round, one in a turn of the loop."""
    done = Counter[str]()
    lock = asyncio.Lock()
    taken: list[int] = []

    async def watch() -> None:
        while True:
            before = done.total()
            await asyncio.sleep(0)
            taken.append(done.total() - before)

    tasks = [asyncio.create_task(in_slices(steps(6, SLICE, done, str(n)), lock)) for n in range(5)]
    other = asyncio.create_task(watch())
    await asyncio.gather(*tasks)
    other.cancel()
    assert done == {str(n): 6 for n in range(5)}
    # Two where one ends a turn and the next one begins another.
    assert max(taken[1:]) <= 2


async def test_all_who_take_long_come_along() -> None:
    done = Counter[str]()
    lock = asyncio.Lock()
    long = asyncio.create_task(in_slices(steps(50, SLICE, done, "long"), lock))
    await in_slices(steps(5, SLICE, done, "short"), lock)
    assert done["long"] < 15
    await long
