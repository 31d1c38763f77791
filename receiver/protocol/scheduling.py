"""Schedules decoding, so that no message blocks the event loop or takes all of the memory.

Nearly all messages are decoded at once. One that takes longer than a time slice starts again in one
of a few slots, and yields the event loop after each slice. So only a few messages hold memory while
they wait for their next turn, however many are slow.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

from receiver.errors import BadRequestError
from receiver.protocol.compression import decompress
from receiver.protocol.tally import Decoded, Steps

SLICE: Final = 0.01
"""Seconds of CPU time after which a message counts as slow, checked after each step. Not wall time:
while other processes use the core, a message would seem slow and be decoded again."""
TURN: Final = 0.002
"""Seconds of CPU time after which a slow message yields the event loop, checked after each step."""
ROUNDS: Final = 4
"""Event-loop turns that other tasks get between such slices. A small request needs a dozen until it
is answered."""
PLACES: Final = 8
"""Slow messages decoded in turn. Large ones share one slot, since each may take much memory."""


class Decoder(Protocol):
    """Reads one version of the message."""

    @property
    def whole(self) -> int:
        """Size in bytes up to which a message is not large."""

    def steps(self, message: bytes) -> Steps:
        """Turn the decompressed body into samples, in steps."""


class Scheduler:
    """Decides which message is decoded next."""

    def __init__(self) -> None:
        self._slow = asyncio.Semaphore(PLACES)
        self._large = asyncio.Semaphore(1)
        self._turn = asyncio.Lock()

    async def decode(
        self, decoder: Decoder, body: bytes, size: int, is_gone: Callable[[], bool]
    ) -> Decoded:
        """Decode a compressed message.

        Args:
            decoder: The decoder of its version.
            body: The compressed message.
            size: Size of the decompressed message, in bytes.
            is_gone: Returns whether nobody waits for the answer any longer. Checked before each
                turn of a slow message: the time belongs to those that are waiting.

        Raises:
            BadRequestError: it cannot be decompressed or decoded, or the sender is gone.
            TooLargeError: it exceeds a limit.
        """
        if size <= decoder.whole:
            decoded = advance(decoder.steps(decompress(body)), SLICE)
            if decoded is not None:
                return decoded
        async with self._slow if size <= decoder.whole else self._large:
            return await self._decode_in_turn(decoder, body, is_gone)

    async def _decode_in_turn(
        self, decoder: Decoder, body: bytes, is_gone: Callable[[], bool]
    ) -> Decoded:
        check_connection(is_gone)
        steps = decoder.steps(await asyncio.to_thread(decompress, body))
        decoded = None
        while decoded is None:
            async with self._turn:
                # Keep the lock: however many messages are slow, the loop waits for one of them.
                for _ in range(ROUNDS):
                    await asyncio.sleep(0)
                check_connection(is_gone)
                decoded = advance(steps, TURN)
        return decoded


def check_connection(is_gone: Callable[[], bool]) -> None:
    """Check that somebody waits for the answer.

    Raises:
        BadRequestError: nobody does, so it does not matter which error it is.
    """
    if is_gone():
        raise BadRequestError("the connection was lost before the body was decoded")


def advance(steps: Steps, seconds: float) -> Decoded | None:
    """Decode for `seconds` of CPU time; return None if there is more to do."""
    end = time.thread_time() + seconds
    try:
        while time.thread_time() < end:
            next(steps)
    except StopIteration as finished:
        decoded: Decoded = finished.value
        return decoded
    return None
