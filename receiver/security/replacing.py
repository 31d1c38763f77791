"""Replaces the content of a file atomically, by one process at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from receiver.errors import SetupError


def edit(file: Path, change: Callable[[str], str]) -> None:
    """Replace the content of a file: readers see the old content or the new one.

    Mode, owner and extended attributes are kept; a new file is readable by its owner only (0600).
    For a symbolic link, the target is replaced.

    Args:
        file: The file, which need not exist.
        change: Returns the new content for the old one; if it raises, the file is not changed.

    Raises:
        SetupError: the file cannot be read or written.
    """
    with faults_named(file):
        target = file.resolve()
        with locked(target.parent):
            replace(target, change(read(target)))


def look(file: Path) -> str:
    """Return the content of a file that is to be edited, "" if there is no such file.

    Raises:
        SetupError: the file cannot be read.
    """
    with faults_named(file):
        return read(file)


@contextmanager
def faults_named(file: Path) -> Iterator[None]:
    """Raise SetupError, with the file's name, for errors of the operating system."""
    try:
        yield
    except UnicodeDecodeError:
        raise SetupError(f"{file}: is not text in UTF-8") from None
    except (OSError, RuntimeError) as error:
        raise SetupError(f"{file}: cannot be changed: {reason(error)}") from error


def reason(error: OSError | RuntimeError) -> str:
    """Return why a file cannot be replaced."""
    if not isinstance(error, OSError):
        return str(error)
    if error.errno == errno.EBUSY:
        # A file mounted into a container: replacing it would not change the original.
        return "it is mounted by itself; change it on the host"
    return error.strerror or str(error)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Wait until no other process edits a file of the directory."""
    # Locks the directory, since the file is another one after it is replaced.
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(file: Path) -> str:
    """Return the content with its line ends unchanged, "" if there is no such file.

    Raises:
        OSError: it is not a regular file, or cannot be read.
        UnicodeDecodeError: it is not UTF-8.
    """
    if not file.exists():
        return ""
    if not file.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file")
    with file.open(encoding="utf-8", newline="") as opened:
        return opened.read()


def replace(file: Path, content: str) -> None:
    """Write a new file, and rename it over the old one."""
    descriptor, name = tempfile.mkstemp(prefix=".receiver-new-", dir=file.parent)
    new = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as opened:
            if file.exists():
                keep_attributes(file, new)
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        new.replace(file)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def keep_attributes(old: Path, new: Path) -> None:
    """Give a file the owner, mode and extended attributes of another.

    Raises:
        OSError: the owner cannot be kept.
    """
    kept, made = old.stat(), new.stat()
    if (kept.st_uid, kept.st_gid) != (made.st_uid, made.st_gid):
        try:
            os.chown(new, kept.st_uid, kept.st_gid)
        except PermissionError as error:
            owner = f"it belongs to user {kept.st_uid}, group {kept.st_gid}; run this as that user"
            raise OSError(errno.EPERM, owner) from error
    shutil.copystat(old, new)
