"""When bodies are decoded, so that none keeps the event loop or all of the memory.

Nearly all messages are decoded at once. One that takes longer than a slice of time starts again in
a place of which there are few, and leaves the event loop to others after each slice: what it holds
while it waits for its next turn is held a few times, however many such messages there are.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol

from receiver.protocol.compression import decompress
from receiver.protocol.tally import Decoded, Steps

SLICE: Final = 0.01
"""Seconds of CPU time after which decoding leaves the event loop to others, at the end of a step.
Not of time: where others have the core, a message would seem slow and be decoded again."""
TURN: Final = 0.002
"""The same of a slow message."""
ROUNDS: Final = 4
"""Turns of the event loop that others get after such a slice. A small request needs a dozen until
it is answered."""
PLACES: Final = 8
"""Slow messages that are decoded in turn. Large ones have one place, for each may take much."""


class Decoder(Protocol):
    """Reads one version of the message."""

    @property
    def whole(self) -> int:
        """Bytes of a message up to which it is not large."""

    def steps(self, message: bytes) -> Steps:
        """Turn the decompressed body into samples, in steps."""


class Scheduler:
    """Decides on whose turn it is to be decoded."""

    def __init__(self) -> None:
        self._slow = asyncio.Semaphore(PLACES)
        self._large = asyncio.Semaphore(1)
        self._turn = asyncio.Lock()

    async def decode(self, decoder: Decoder, body: bytes, size: int) -> Decoded:
        """Decode a compressed message.

        Args:
            decoder: That of its version.
            body: The message as it came.
            size: Its size when it is decompressed, in bytes.

        Raises:
            BadRequestError: it cannot be decompressed or decoded.
            TooLargeError: it exceeds a limit.
        """
        if size <= decoder.whole:
            decoded = advance(decoder.steps(decompress(body)), SLICE)
            if decoded is not None:
                return decoded
        async with self._slow if size <= decoder.whole else self._large:
            return await self._decode_in_turn(decoder, body)

    async def _decode_in_turn(self, decoder: Decoder, body: bytes) -> Decoded:
        steps = decoder.steps(await asyncio.to_thread(decompress, body))
        decoded = None
        while decoded is None:
            async with self._turn:
                # Hold it meanwhile: however many messages are slow, the loop waits for one of them.
                for _ in range(ROUNDS):
                    await asyncio.sleep(0)
                decoded = advance(steps, TURN)
        return decoded


def advance(steps: Steps, seconds: float) -> Decoded | None:
    """Decode for so many seconds of CPU time; returns None if there is more to do."""
    end = time.thread_time() + seconds
    try:
        while time.thread_time() < end:
            next(steps)
    except StopIteration as finished:
        decoded: Decoded = finished.value
        return decoded
    return None
