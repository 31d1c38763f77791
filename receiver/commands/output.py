"""Files that commands write: whole or not at all, and never where a link leads."""

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
    """Open a file that gets its name when the block ends well, or `-`, standard output.

    Raises:
        SetupError: it cannot be written, or is a symbolic link.
    """
    path = Path(name)
    with naming(name):
        if name == STANDARD_OUTPUT:
            # Not its own buffer: what cannot be written would be tried again at the end.
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
    """Open a new file beside another one, which it replaces when the block ends well.

    Raises:
        OSError: it cannot be written.
    """
    # Under a name where nobody can have laid a link, and with the rights that any new file has.
    unfinished = path.with_name(f".{path.name[:50]}.{secrets.token_hex(8)}.unfinished")
    try:
        with unfinished.open("xb") as output:
            yield output
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Name the file that cannot be written.

    Raises:
        SetupError: it cannot.
    """
    try:
        yield
    except OSError as error:
        shown = "standard output" if name == STANDARD_OUTPUT else name
        raise SetupError(f"cannot write {shown}: {error.strerror or error}") from error
