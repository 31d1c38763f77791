"""How coroutines are run, in commands and in workers."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio import sslproto
from collections.abc import Coroutine
from typing import Any, TypeVar

from receiver.process.signals import heard

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, on uvloop where it is installed (`receiver[fast]`).

    A signal that ends the program cancels the work, unless that has handlers of its own: what it
    holds is given back, such as an embedded database.

    Raises:
        SystemExit: such a signal came, and was not the work's own.
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
    """Do some work, and cancel it once if a signal comes."""
    task = asyncio.current_task()

    def end(number: signal.Signals) -> None:
        if task is not None and not received:
            task.cancel()
        received.append(number)

    for number in heard():
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    return await work


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Uvloop where it is installed, else the standard loop."""
    try:
        import uvloop  # noqa: PLC0415  optional
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def use_small_tls_buffers() -> None:
    """Let a TLS connection cost 32 KiB of buffer in place of 256 KiB, which asyncio fills at once.

    The largest record has 16 KiB. uvloop has buffers of its own, which cost what is used of them.
    """
    sslproto.SSLProtocol.max_size = 32 * 1024
