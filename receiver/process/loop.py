"""Runs coroutines, in commands and workers."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio import sslproto
from collections.abc import Coroutine
from typing import Any, TypeVar

from receiver.process.signals import early, ending_signals

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, on uvloop if that is installed (`receiver[fast]`).

    A signal that ends the program cancels the coroutine, so that it can clean up, for example stop
    the embedded database; a coroutine may replace these signal handlers by its own.

    Raises:
        SystemExit: a signal cancelled the coroutine.
    """
    received: list[signal.Signals] = []
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        try:
            return runner.run(cancelled_by_signals(work, received))
        except asyncio.CancelledError:
            if not received:
                raise
    sys.exit(128 + received[0])


async def cancelled_by_signals(work: Coroutine[Any, Any, T], received: list[signal.Signals]) -> T:
    """Await a coroutine, and cancel it once if a signal arrives."""
    task = asyncio.current_task()

    def end(number: signal.Signals) -> None:
        if task is not None and not received:
            task.cancel()
        received.append(number)

    for number in ending_signals():
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    for number in early:
        end(number)
    return await work


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop of uvloop if that is installed, else of asyncio."""
    try:
        import uvloop  # noqa: PLC0415  optional
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def use_small_tls_buffers() -> None:
    """Reduce a TLS connection's buffer from 256 KiB, which asyncio allocates at once, to 32 KiB.

    The largest TLS record has 16 KiB. uvloop has its own buffers, which grow as needed.
    """
    sslproto.SSLProtocol.max_size = 32 * 1024
