"""Signals that arrive while the program starts."""

from __future__ import annotations

import asyncio
import signal
import sys
import weakref
from collections.abc import Iterator

import pytest

from receiver.process.loop import run
from receiver.process.signals import early, end


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    yield
    early.clear()


def test_a_signal_whose_exception_was_dropped_ends_the_program_nevertheless() -> None:
    ran = []

    async def work() -> None:
        await asyncio.sleep(0)
        ran.append("on")

    with pytest.raises(SystemExit) as first:
        end(signal.SIGTERM, None)
    with pytest.raises(SystemExit) as ended:
        run(work())
    assert first.value.code == ended.value.code == 128 + signal.SIGTERM
    assert not ran


def test_an_exception_that_is_dropped_is_reported_unless_it_ends_the_program(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Thing:
        pass

    def fail(_: object) -> None:
        raise ValueError("a fault")

    for called in (lambda _: end(signal.SIGTERM, None), fail):
        thing = Thing()
        reference = weakref.ref(thing, called)
        del thing
        assert reference() is None
    said = capsys.readouterr().err
    assert early == [signal.SIGTERM]
    assert "a fault" in said
    assert "SystemExit" not in said
