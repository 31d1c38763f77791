"""Slow decoding yields to the event loop, and holds little memory meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import pytest

from receiver.errors import BadRequestError, TooLargeError
from receiver.protocol.scheduling import PLACES, ROUNDS, SLICE, TURN, Scheduler
from receiver.protocol.tally import Decoded, Steps
from receiver.rows.model import Faults, WriteRequest
from tests.messages import compress
from tests.waiting import until

DECODED = Decoded(WriteRequest([], 0, 0, 0, 0, Faults(0, 0, [])), 0)


class Slow:
    """Decodes in steps of fixed duration; the message gives their number and owner."""

    def __init__(self, seconds: float = SLICE) -> None:
        self.whole = 10
        self.done = Counter[bytes]()
        self.started = self.most_started = 0
        self._seconds = seconds

    def steps(self, message: bytes) -> Steps:
        self.started += 1
        self.most_started = max(self.most_started, self.started)
        try:
            for _ in range(message[0]):
                end = time.thread_time() + self._seconds
                while time.thread_time() < end:
                    pass
                self.done[message[1:]] += 1
                yield
        finally:
            self.started -= 1
        if message[1:] == b"wrong":
            raise TooLargeError
        return DECODED


async def decode(
    scheduler: Scheduler,
    decoder: Slow,
    steps: int,
    name: bytes,
    is_gone: Callable[[], bool] = lambda: False,
) -> None:
    message = bytes([steps]) + name
    decoded = await scheduler.decode(decoder, compress(message), len(message), is_gone)
    assert decoded is DECODED


async def test_a_quick_message_is_decoded_at_once() -> None:
    work = decode(Scheduler(), Slow(0), 5, b"quick")
    with pytest.raises(StopIteration):  # ends like a coroutine that never waited
        work.send(None)


async def test_a_message_is_not_slow_because_others_have_the_core() -> None:
    class Preempted(Slow):
        def steps(self, message: bytes) -> Steps:
            for _ in message:
                time.sleep(2 * SLICE)
                yield
            return DECODED

    with pytest.raises(StopIteration):
        decode(Scheduler(), Preempted(), 5, b"quick").send(None)


async def test_others_run_between_the_steps_of_a_slow_message() -> None:
    decoder = Slow(TURN / 2)
    work = asyncio.create_task(decode(Scheduler(), decoder, 60, b"slow"))
    await asyncio.sleep(0)  # the first slice, after which the message is known to be slow
    taken: list[int] = []
    while not work.done():
        before = decoder.done.total()
        await asyncio.sleep(0)
        taken.append(decoder.done.total() - before)
    await work
    assert sum(taken) == 60
    assert max(taken) <= 2
    # Two steps per slice, then several turns of the loop, as a request needs more than one.
    first = next(place for place, steps in enumerate(taken) if steps)
    assert len(taken) - first > (ROUNDS - 1) * 30


async def test_however_many_are_slow_the_loop_waits_for_one_of_them() -> None:
    scheduler, decoder = Scheduler(), Slow()
    names = [b"%d" % number for number in range(5)]
    work = [asyncio.create_task(decode(scheduler, decoder, 6, name)) for name in names]
    await asyncio.sleep(0)  # each has had its first slice
    taken: list[int] = []
    while not all(task.done() for task in work):
        before = decoder.done.total()
        await asyncio.sleep(0)
        taken.append(decoder.done.total() - before)
    # Two if one ends a turn and the next one begins the following turn.
    assert max(taken) <= 2
    assert decoder.done == dict.fromkeys(names, 7)  # the first slice was in vain


async def test_who_is_slow_does_not_wait_for_who_is_slower() -> None:
    scheduler, decoder = Scheduler(), Slow()
    slower = asyncio.create_task(decode(scheduler, decoder, 60, b"slower"))
    await decode(scheduler, decoder, 5, b"slow")
    assert decoder.done[b"slower"] < 20
    await slower


async def test_few_slow_messages_are_held_at_once() -> None:
    scheduler, decoder = Scheduler(), Slow()
    work = [decode(scheduler, decoder, 2, b"%d" % number) for number in range(3 * PLACES)]
    await asyncio.gather(*work)
    assert 1 < decoder.most_started <= PLACES + 1  # one more may have its first slice


async def test_one_large_message_is_held_at_once() -> None:
    scheduler, decoder = Scheduler(), Slow()
    work = [decode(scheduler, decoder, 3, b"a large one %d" % number) for number in range(5)]
    await asyncio.gather(*work)
    assert decoder.most_started == 1


async def test_a_place_is_free_again_after_a_fault() -> None:
    scheduler, decoder = Scheduler(), Slow()
    for _ in range(2 * PLACES):
        with pytest.raises(TooLargeError):
            await decode(scheduler, decoder, 2, b"wrong")
    await decode(scheduler, decoder, 2, b"right")


async def test_a_slow_message_is_given_up_when_its_sender_is_gone() -> None:
    scheduler, decoder, left = Scheduler(), Slow(TURN), asyncio.Event()
    names = [b"%d" % number for number in range(2 * PLACES)]
    work = [
        asyncio.create_task(decode(scheduler, decoder, 200, name, left.is_set)) for name in names
    ]
    await until(lambda: decoder.done[names[0]] > 10)
    left.set()
    before = decoder.done.total()
    for task in work:
        with pytest.raises(BadRequestError, match="connection was lost"):
            await task
    assert decoder.done.total() <= before + 1  # the turn that was running
    assert decoder.done[names[-1]] < 10  # nothing but its first slice
    await decode(scheduler, decoder, 5, b"next")
