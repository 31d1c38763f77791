"""The program `receiver`: ready for signals at once, then everything else.

As the first process of a container it would not even end by a signal that it has no handler for,
and the imports take a second.
"""

from __future__ import annotations

import getpass
import os
import signal
import sys
from types import FrameType
from typing import Final

from receiver.process.garbage import collect_garbage_seldom
from receiver.process.signals import ENDING, heard

IGNORED: Final = (signal.SIGUSR1, signal.SIGUSR2)
"""They would end the process at once, and leave an embedded database without its receiver."""


def main() -> None:
    """Run the command line."""
    open_standard_streams()
    name_user()
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    for number in heard():
        signal.signal(number, end)
    collect_garbage_seldom()
    try:
        from receiver.commands.cli import main as run  # noqa: PLC0415  heavy

        run()
    finally:
        # Everything is done: a second Ctrl-C must not show where Python ends.
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)


def end(number: int, _: FrameType | None) -> None:
    """End by a signal that comes before there is anything to end in order."""
    sys.exit(128 + number)


def open_standard_streams() -> None:
    """Put something in place of standard streams that are closed.

    Else the next files take their numbers, and a child's output goes there. What is read or written
    fails, except for messages: whoever closes standard error wants none.
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
    """Have a user without a name go by the number: whoever asks for the name would fail."""
    try:
        getpass.getuser()
    except (KeyError, OSError):  # before Python 3.13, and since
        os.environ["LOGNAME"] = str(os.getuid())


if __name__ == "__main__":
    main()
