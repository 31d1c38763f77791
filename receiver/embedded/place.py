"""The directory of an embedded server, which one receiver has for itself, and its socket."""

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
"""No more than a part of the socket's name."""


def find_directory(data_dir: Path) -> Path:
    """The data directory as an absolute path, without links.

    Raises:
        EmbeddedDatabaseError: it cannot be said what it is.
    """
    try:
        return data_dir.expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise EmbeddedDatabaseError(
            f"RECEIVER_DATA_DIR={data_dir}: cannot be found: {error}"
        ) from error


def lock(data_dir: Path) -> IO[str]:
    """Make the directory ours for as long as the returned file is open."""
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
    """Open a file, made if need be, that only its owner may open: others could lock it too."""
    file = os.fdopen(
        os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "a+", encoding="ascii"
    )
    with suppress(PermissionError):  # another user's, whose mode is not ours to change
        os.fchmod(file.fileno(), 0o600)
    return file


def socket_directory(pgdata: Path, account: Account | None) -> Path:
    """The data directory, or one in the temporary directory if that cannot hold a socket."""
    # An address ends at 107 bytes (macOS: 103); the client and the server split lists at commas.
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
            f"{directory} is not a directory of PostgreSQL's user alone: remove it, or choose a "
            "short and plain RECEIVER_DATA_DIR (--data-dir)"
        )
    return directory


def url_at(sockets: str) -> str:
    """The URL of the server whose socket is in that directory."""
    # With all that variables such as PGPORT would say otherwise, meant for other servers.
    where = f"host={quote(sockets)}&port={PORT}"
    return f"postgresql://postgres:@/receiver?{where}&sslmode=disable&target_session_attrs=any"
