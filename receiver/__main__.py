"""The program `receiver`: handles signals first, then imports everything else.

As the first process of a container it would ignore signals that have no handler yet, and the
imports take half a second.
"""

from __future__ import annotations

import getpass
import os
import signal
import sys
from typing import Final

from receiver.process.memory import collect_garbage_seldom
from receiver.process.signals import ENDING, end, ending_signals

IGNORED: Final = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals that would end the process at once, and leave the embedded database running."""


def main() -> None:
    """Run the command line."""
    open_standard_streams()
    name_user()
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    for number in ending_signals():
        signal.signal(number, end)
    collect_garbage_seldom()
    try:
        from receiver.commands.cli import main as run  # noqa: PLC0415  heavy

        run()
    finally:
        # A second Ctrl-C must not show a traceback of Python's own shutdown.
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)


def open_standard_streams() -> None:
    """Replace closed standard streams.

    Otherwise the next opened files would take their descriptors, and a child's output would go
    there. Reading and writing fails, except for messages: with standard error closed, they are
    dropped.
    """
    for number, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            stream = open(number, "w" if number else "r", closefd=False, encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, stream)


def name_user() -> None:
    """Name a user without a name by its UID, since libraries ask for the name and would fail."""
    try:
        getpass.getuser()
    except (KeyError, OSError):  # KeyError before Python 3.13, OSError since
        os.environ["LOGNAME"] = str(os.getuid())


if __name__ == "__main__":
    main()
