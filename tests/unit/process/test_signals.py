"""Signals that arrive while the program starts."""

from __future__ import annotations

import asyncio
import signal

import pytest

from receiver.process.loop import run
from receiver.process.signals import early, end


def test_a_signal_whose_exception_was_dropped_ends_the_program_nevertheless() -> None:
    ran = []

    async def work() -> None:
        await asyncio.sleep(0)
        ran.append("on")

    with pytest.raises(SystemExit) as first:
        end(signal.SIGTERM, None)
    try:
        with pytest.raises(SystemExit) as ended:
            run(work())
    finally:
        early.clear()
    assert first.value.code == ended.value.code == 128 + signal.SIGTERM
    assert not ran
