"""The signals that end the program gracefully."""

from __future__ import annotations

import signal
from typing import Final

ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def ending_signals() -> list[signal.Signals]:
    """Return the ending signals that were not ignored when the program was started.

    `nohup` ignores SIGHUP, a shell's background SIGINT and SIGQUIT.
    """
    return [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
