"""The data directory of the embedded server, locked by one receiver, and its socket."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

from receiver.embedded.system import Account
from receiver.errors import EmbeddedDatabaseError

PORT: Final = 5432
"""Part of the socket's name only; no TCP port is opened."""


def find_directory(data_dir: Path) -> Path:
    """Return the data directory as an absolute path, without links.

    Raises:
        EmbeddedDatabaseError: the path cannot be resolved.
    """
    try:
        return data_dir.expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise EmbeddedDatabaseError(
            f"RECEIVER_DATA_DIR={data_dir}: cannot be found: {error}"
        ) from error


def lock(data_dir: Path) -> IO[str]:
    """Lock the directory for this process until the returned file is closed.

    Raises:
        EmbeddedDatabaseError: another receiver uses it.
    """
    missing = [path for path in (data_dir, *data_dir.parents) if not path.exists()]
    data_dir.mkdir(parents=True, exist_ok=True)
    for path in missing:
        path.chmod(0o711 if os.geteuid() == 0 else 0o700)  # whatever the umask
    file = open_private(data_dir / "lock")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with file:
            file.seek(0)
            pid = file.read().strip()
        raise EmbeddedDatabaseError(
            f"{data_dir} is in use by another receiver, process {pid}: stop that one, or give this "
            "one its own RECEIVER_DATA_DIR (--data-dir) or a RECEIVER_DATABASE_URL"
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def open_private(path: Path) -> IO[str]:
    """Open or create a file that only its owner may open, so that no other user can lock it."""
    file = os.fdopen(
        os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "a+", encoding="ascii"
    )
    with suppress(PermissionError):  # another user's, whose mode is not ours to change
        os.fchmod(file.fileno(), 0o600)
    return file


def socket_directory(pgdata: Path, account: Account | None) -> Path:
    """Return the data directory, or a temporary one if its path cannot be that of a socket.

    Raises:
        EmbeddedDatabaseError: the temporary directory is not private to PostgreSQL's user.
    """
    # The address of a socket has at most 107 bytes (macOS: 103); commas separate addresses.
    socket = os.fsencode(pgdata / f".s.PGSQL.{PORT}")
    if len(socket) <= 100 and not re.search(rb"[\s,\"\\]", socket):
        return pgdata
    name = f"receiver-{hashlib.sha256(socket).hexdigest()[:16]}"
    directory = Path(tempfile.gettempdir(), name)
    owner = account.uid if account else os.geteuid()
    with suppress(FileExistsError):
        directory.mkdir(0o700)
        os.chown(directory, owner, -1, follow_symlinks=False)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
        raise EmbeddedDatabaseError(
            f"{directory} is not private to PostgreSQL's user: remove it, or choose a short "
            "RECEIVER_DATA_DIR (--data-dir) without special characters"
        )
    return directory


def url_at(sockets: str) -> str:
    """Return the URL of the server whose socket is in a directory."""
    # States every part that variables such as PGPORT, meant for other servers, would set.
    where = f"host={quote(sockets)}&port={PORT}"
    return f"postgresql://postgres:@/receiver?{where}&sslmode=disable&target_session_attrs=any"
