"""Handles a standard output that cannot be written: a closed pipe, or a full disk."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

NOT_WRITTEN: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


@contextmanager
def writing_output() -> Iterator[None]:
    """End with one line if the output cannot be written, or silently if its pipe is closed.

    Raises:
        SystemExit: the output cannot be written.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        if error.errno not in NOT_WRITTEN or error.filename is not None:
            raise
        discard_output()
        sys.exit(f"receiver: cannot write the output: {error.strerror}")


def discard_output() -> None:
    """Discard buffered output, which Python would try to write again at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
