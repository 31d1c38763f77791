"""How coroutines are run, in commands and in workers."""

from __future__ import annotations

import asyncio
import gc
import os
from asyncio import sslproto
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, on uvloop where it is installed (`receiver[fast]`)."""
    open_standard_descriptors()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Uvloop where it is installed, else the standard loop."""
    try:
        import uvloop  # noqa: PLC0415  optional
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def open_standard_descriptors() -> None:
    """Let nothing else get the numbers of standard streams that are closed: libuv would abort."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest number that is free is this one.
            os.open(os.devnull, os.O_RDWR)


def collect_garbage_seldom() -> None:
    """Let a batch come and go between two searches for cycles.

    Samples and rows are in none, but are made by the ten thousand: at Python's defaults the
    searches would take a quarter of the time.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def use_small_tls_buffers() -> None:
    """Let a TLS connection cost 32 KiB of buffer in place of 256 KiB, which asyncio fills at once.

    The largest record has 16 KiB. uvloop has buffers of its own, which cost what is used of them.
    """
    sslproto.SSLProtocol.max_size = 32 * 1024
