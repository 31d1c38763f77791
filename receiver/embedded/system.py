"""Functions of the operating system for the embedded server: account, processes, syncing."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, NamedTuple

from receiver.errors import EmbeddedDatabaseError

SYSTEM_USER: Final = "receiver-postgres"
# Not the receiver's environment: it holds secrets, and variables meant for other servers.
ENVIRONMENT: Final = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
USERADD: Final = f"useradd --system --user-group --home-dir=/ --shell=/bin/false {SYSTEM_USER}"
FIND_BLOCKED: Final = 'for d; do test -x "$d" || { printf %s "$d"; exit 1; }; done'

MAX_LINES: Final = 5
"""Lines of a failed program's output that are shown."""


class Account(NamedTuple):
    """The system user that PostgreSQL runs as, if it is not the receiver's."""

    uid: int
    gid: int


def run(
    program: str | Path,
    *arguments: str,
    to: Account | None = None,
    statement: str = "",
    directory: str | Path = "/",
) -> tuple[int, str]:
    """Run a program to its end, as the account `to`; return its exit code and output."""
    # Output goes to a file, since a daemon may keep a pipe open.
    with open_temporary_file() as output:
        code = subprocess.run(  # noqa: S603  arguments of our own, and no shell
            [program, *arguments],
            check=False,
            input=statement.encode(),
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            # Ctrl-C is meant for the receiver, which ends the programs gracefully.
            start_new_session=True,
            env=ENVIRONMENT,
            user=to.uid if to else None,
            group=to.gid if to else None,
            extra_groups=[] if to else None,
        ).returncode
        output.seek(0)
        return code, output.read().decode(errors="replace").strip()


def open_temporary_file() -> IO[bytes]:
    """Open a file without a name, in memory if possible, since no directory may be writable."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("receiver"), "w+b")
    return tempfile.TemporaryFile()


def system_account(pgdata: Path) -> Account:
    """Find or create the user that runs PostgreSQL, which refuses to run as root.

    Raises:
        EmbeddedDatabaseError: there is no such user, and none can be created.
    """
    # The data keep their owner: another container image may number its users differently.
    if pgdata.exists() and (owner := pgdata.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    with suppress(KeyError):
        return Account(*pwd.getpwnam(SYSTEM_USER)[2:4])
    _, output = run("sh", "-c", USERADD)
    with suppress(KeyError):
        return Account(*pwd.getpwnam(SYSTEM_USER)[2:4])
    raise EmbeddedDatabaseError(
        f"PostgreSQL does not run as root, and its user {SYSTEM_USER} cannot be created: {output}; "
        "create it, run the receiver as another user, or set RECEIVER_DATABASE_URL"
    )


def require_reachable(data_dir: Path, account: Account) -> None:
    """Check that the account may pass through all directories down to `data_dir`.

    Raises:
        EmbeddedDatabaseError: it may not enter one of them.
    """
    path = [str(directory) for directory in (*reversed(data_dir.parents), data_dir)]
    code, blocked = run("sh", "-c", FIND_BLOCKED, "sh", *path, to=account)
    if code:
        raise EmbeddedDatabaseError(
            f"PostgreSQL does not run as root but as {SYSTEM_USER}, which may not enter {blocked}: "
            "choose another RECEIVER_DATA_DIR (--data-dir), such as /var/lib/receiver"
        )


def is_postgres(pid: str) -> bool:
    """Return whether a process is a running PostgreSQL server; a zombie is not."""
    try:
        program = Path("/proc", pid, "cmdline").read_bytes().split(b"\0")[0]
    except FileNotFoundError:
        return not Path("/proc/self").exists()  # no /proc on macOS: believe pg_ctl
    return Path(os.fsdecode(program)).name == "postgres"


def last_lines(log: Path) -> str:
    """Return the end of a log as one line; "" if it is missing."""
    with suppress(FileNotFoundError):
        return one_line(log.read_text(errors="replace"))
    return ""


def one_line(output: str) -> str:
    """Return the last lines of a program's output as one line."""
    lines = (line.strip() for line in output.splitlines())
    return "; ".join([line for line in lines if line][-MAX_LINES:])


def sync(directory: Path) -> None:
    """Sync a directory, so that a rename in it survives a power failure."""
    file = os.open(directory, os.O_RDONLY)
    os.fsync(file)
    os.close(file)
