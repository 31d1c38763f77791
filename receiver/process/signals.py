"""The signals that end the program gracefully."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
early: Final[list[signal.Signals]] = []
"""Ending signals that arrived before anything ran. The program may go on nevertheless: Python drops
an exception that is raised in some places, such as in the callback of a weak reference."""


def ending_signals() -> list[signal.Signals]:
    """Return the ending signals that were not ignored when the program was started.

    `nohup` ignores SIGHUP, a shell's background SIGINT and SIGQUIT.
    """
    return [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]


def end(number: int, _: FrameType | None) -> None:
    """End the program on a signal that arrives before anything runs."""
    early.append(signal.Signals(number))
    sys.unraisablehook = report_others
    sys.exit(128 + number)


def report_others(dropped: UnraisableHookArgs) -> None:
    """Report an exception that Python drops, unless it is the one that ends the program."""
    if not isinstance(dropped.exc_value, SystemExit):
        sys.__unraisablehook__(dropped)
