"""What an embedded server needs of the operating system: an account, programs run, files synced."""

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
# Not our own environment: it holds secrets, and variables meant for other servers.
ENVIRONMENT: Final = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
USERADD: Final = f"useradd --system --user-group --home-dir=/ --shell=/bin/false {SYSTEM_USER}"
FIND_BLOCKED: Final = 'for d; do test -x "$d" || { printf %s "$d"; exit 1; }; done'

MAX_LINES: Final = 5
"""Of what a program has said before it failed."""


class Account(NamedTuple):
    """The system user PostgreSQL runs as, where that is not our own."""

    uid: int
    gid: int


def run(
    program: str | Path,
    *arguments: str,
    to: Account | None = None,
    statement: str = "",
    directory: str | Path = "/",
) -> tuple[int, str]:
    """Run a program to its end, switched to an account; return its exit code and output."""
    # A file, since a daemon may keep a pipe open.
    with open_temporary_file() as output:
        code = subprocess.run(  # noqa: S603  arguments of our own, and no shell
            [program, *arguments],
            check=False,
            input=statement.encode(),
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            # Ctrl-C is meant for the receiver, which ends the others in order.
            start_new_session=True,
            env=ENVIRONMENT,
            user=to.uid if to else None,
            group=to.gid if to else None,
            extra_groups=[] if to else None,
        ).returncode
        output.seek(0)
        return code, output.read().decode(errors="replace").strip()


def open_temporary_file() -> IO[bytes]:
    """A file without a name; in memory where that can be, for no directory may be writable."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("receiver"), "w+b")
    return tempfile.TemporaryFile()


def system_account(pgdata: Path) -> Account:
    """Find or create the user that runs PostgreSQL for root, whom it refuses."""
    # Data stay with their owner: another container image may number its users differently.
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
    """Check that the account may pass through all directories down to `data_dir`."""
    path = [str(directory) for directory in (*reversed(data_dir.parents), data_dir)]
    code, blocked = run("sh", "-c", FIND_BLOCKED, "sh", *path, to=account)
    if code:
        raise EmbeddedDatabaseError(
            f"PostgreSQL does not run as root but as {SYSTEM_USER}, who may not enter {blocked}: "
            "choose another RECEIVER_DATA_DIR (--data-dir), such as /var/lib/receiver"
        )


def is_postgres(pid: str) -> bool:
    """Tell whether a living process is a PostgreSQL server; a zombie is not."""
    try:
        program = Path("/proc", pid, "cmdline").read_bytes().split(b"\0")[0]
    except FileNotFoundError:
        return not Path("/proc/self").exists()  # no /proc on macOS: believe pg_ctl
    return Path(os.fsdecode(program)).name == "postgres"


def last_lines(log: Path) -> str:
    """The end of a log that may be missing, as one line."""
    with suppress(FileNotFoundError):
        return one_line(log.read_text(errors="replace"))
    return ""


def one_line(output: str) -> str:
    """What a program has said last, as one line."""
    lines = (line.strip() for line in output.splitlines())
    return "; ".join([line for line in lines if line][-MAX_LINES:])


def sync(directory: Path) -> None:
    """Let a rename in the directory outlast a power cut."""
    file = os.open(directory, os.O_RDONLY)
    os.fsync(file)
    os.close(file)
