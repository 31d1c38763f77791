"""Writes output files atomically, and never through a symbolic link."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from receiver.errors import SetupError

STANDARD_OUTPUT: Final = "-"


@contextmanager
def opened(name: str) -> Iterator[BinaryIO]:
    """Open a file, which gets its name when the block succeeds, or standard output for `-`.

    Raises:
        SetupError: it cannot be written, or is a symbolic link.
    """
    path = Path(name)
    with naming(name):
        if name == STANDARD_OUTPUT:
            # Without Python's buffer, which would be flushed again at the end after a failure.
            with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as output:
                yield output
        elif path.is_symlink():
            raise SetupError(f"{name} is a symbolic link: name the file itself, or - for stdout")
        elif path.exists() and not path.is_file():
            # A device or a pipe must not be replaced by a file.
            with path.open("wb") as output:
                yield output
        else:
            with replacing(path) as output:
                yield output


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file beside an existing one, which it replaces when the block succeeds.

    Raises:
        OSError: it cannot be written.
    """
    # With a random name, so that no link can exist there, and the usual mode of a new file.
    unfinished = path.with_name(f".{path.name[:50]}.{secrets.token_hex(8)}.unfinished")
    try:
        with unfinished.open("xb") as output:
            yield output
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Translate errors of writing a file.

    Raises:
        SetupError: the file cannot be written; the message names it.
    """
    try:
        yield
    except OSError as error:
        shown = "standard output" if name == STANDARD_OUTPUT else name
        raise SetupError(f"cannot write {shown}: {error.strerror or error}") from error
