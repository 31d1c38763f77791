"""Real processes for fault injection: a PostgreSQL and receivers."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Protocol, Self
from urllib.parse import urlsplit

import asyncpg

from receiver.embedded import EmbeddedPostgres
from tests.faults.wire import HOST, get
from tests.waiting import until

MAX_CONNECTIONS = 30
NOT_REACHED = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
PORTS = range(10_000, 30_000)  # none of those a client's end of a connection is given


def state_of(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the process name: its state, its parent, …"""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="latin-1").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    return state_of(pid)[:1] not in ([], ["Z"])


def children(pid: int) -> list[int]:
    everyone = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
    return [one for one in everyone if state_of(one)[1:2] == [str(pid)] and is_alive(one)]


def memory(pid: int, kind: str = "VmRSS") -> int:
    """Return the memory of a process in bytes, or (`VmHWM`) its peak."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(kind)


def send_signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@asynccontextmanager
async def standing_still(pids: Sequence[int]) -> AsyncIterator[None]:
    """Stop processes with SIGSTOP during the `with` block."""
    send_signal(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        send_signal(pids, signal.SIGCONT)


def postmaster(data_dir: Path) -> int:
    """Return the process id of the embedded server of this data directory."""
    return int((data_dir / "postgres/postmaster.pid").read_text().split()[0])


class Database(NamedTuple):
    """A database that is owned by an unprivileged role, as recommended for receivers."""

    name: str
    """Name of the database and of the role."""
    url: str


class Postgres(Protocol):
    """A server that can be started and stopped."""

    url: str
    """URL of the superuser's database, once the server has started."""

    def start(self) -> str: ...

    def stop(self) -> None: ...


class Server:
    """A PostgreSQL server that runs during the `with` block.

    Args:
        make: Creates the server, with its data in `postgres` below a directory.
    """

    sessions = "application_name = 'receiver'"
    """SQL condition that selects the sessions of receivers."""

    def __init__(self, make: Callable[[Path], Postgres] = EmbeddedPostgres) -> None:
        # When the tests run as root, PostgreSQL runs as another user, who needs access.
        self.directory = Path(tempfile.mkdtemp(prefix="receiver-faults-"))
        self.directory.chmod(0o711)
        self.postgres = make(self.directory)
        self.settings: Mapping[str, object] = {}
        """Settings that receivers need on this server."""
        self.workers: list[Server] = []
        """The worker nodes, if this server is the coordinator of a cluster."""

    def __enter__(self) -> Self:
        self.postgres.start()
        asyncio.run(self.execute(f"ALTER SYSTEM SET max_connections = {MAX_CONNECTIONS}"))
        self.postgres.stop()
        self.postgres.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.postgres.stop()
        shutil.rmtree(self.directory)

    @property
    def pid(self) -> int:
        return postmaster(self.directory)

    async def start(self) -> None:
        await asyncio.to_thread(self.postgres.start)

    async def stop(self) -> None:
        """Stop cleanly, without waiting for clients to disconnect."""
        await asyncio.to_thread(self.postgres.stop)

    async def stop_at_once(self) -> None:
        """Stop immediately, so that the next start has to recover, as after a power failure."""
        everyone = [self.pid, *children(self.pid)]
        os.kill(self.pid, signal.SIGQUIT)
        await until(lambda: not any(map(is_alive, everyone)))
        await self.stop()

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Stop all processes with SIGSTOP: connections stay open, nothing answers."""
        # The postmaster first, so that no new process starts while the others are listed.
        async with standing_still([self.pid]), standing_still(children(self.pid)):
            yield

    @asynccontextmanager
    async def session(self, database: str = "postgres") -> AsyncIterator[asyncpg.Connection]:
        """Connect as superuser, who has reserved connections, as soon as one is available."""
        connection = await self._connect(database)
        try:
            yield connection
        finally:
            connection.terminate()

    async def _connect(self, database: str) -> asyncpg.Connection:
        connections: list[asyncpg.Connection] = []

        async def connected() -> bool:
            with suppress(*NOT_REACHED):
                connections.append(await asyncpg.connect(self.postgres.url, database=database))
            return bool(connections)

        await until(connected)
        return connections[0]

    async def execute(self, statement: str, database: str = "postgres") -> None:
        """Run a statement; retry until the server is available."""

        async def done() -> bool:
            with suppress(*NOT_REACHED):
                async with self.session(database) as connection:
                    await connection.execute(statement)
                    return True
            return False

        await until(done)

    async def backends(self, database: str, which: str = "true") -> list[int]:
        """Return the backend process ids of the receivers; none if the server is unavailable."""
        with suppress(*NOT_REACHED):
            async with self.session() as connection:
                rows = await connection.fetch(
                    f"SELECT pid FROM pg_stat_activity WHERE {self.sessions} AND datname = $1 "
                    f"AND {which}",
                    database,
                )
            return [row["pid"] for row in rows]
        return []

    async def terminate(self, database: str, which: str = "true") -> int:
        """Terminate the sessions of the receivers; return how many there were."""
        pids = await self.backends(database, which)
        with suppress(*NOT_REACHED):
            async with self.session() as connection:
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid", pids
                )
        return len(pids)

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        name = f"faults_{secrets.token_hex(6)}"
        await self.execute(f"CREATE ROLE {name} LOGIN")
        await self.execute(
            f"CREATE DATABASE {name} OWNER {name} ENCODING 'UTF8' TEMPLATE template0"
        )
        url = urlsplit(self.postgres.url)._replace(netloc=f"{name}@", path=f"/{name}").geturl()
        yield Database(name, url)
        await self.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await self.execute(f"DROP ROLE {name}")


def free_port() -> int:
    """Return a port that is unused, and that no other process takes while the receiver is down."""
    while True:
        port = random.choice(PORTS)
        with suppress(OSError), socket.create_server((HOST, port)):
            return port


class Replica:
    """A receiver in its own process, on a port that it keeps over restarts."""

    def __init__(self, directory: Path, database_url: str | None, **settings: object) -> None:
        self.port = free_port()
        self.open_files: int | None = None
        """Limit of open files, as set by `ulimit -n`."""
        self._directory = directory
        self._log = directory / f"replica-{self.port}.log"
        own = {"listen": f"{HOST}:{self.port}", "database_url": database_url, **settings}
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("RECEIVER_")
        } | {f"RECEIVER_{name.upper()}": str(value) for name, value in own.items() if value}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "the receiver has not been started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    async def launch(self, *command: str) -> None:
        """Start the receiver, by another command if one is given, without waiting for it."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(command or (sys.executable, "-m", "receiver", "serve")),
                env=self._environment,
                cwd=self._directory,
                preexec_fn=self._limit_files,
                stdout=log,
                stderr=log,
            )

    def _limit_files(self) -> None:
        if self.open_files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.open_files, self.open_files))

    async def start(self) -> None:
        await self.launch()
        await until(self.is_ready)

    async def is_ready(self) -> bool:
        return await self.says("/-/ready")

    async def is_healthy(self) -> bool:
        return await self.says("/-/healthy")

    async def says(self, path: str) -> bool:
        assert self.runs, f"the receiver ended:\n{self.log}"
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(2):
                return (await get(self.port, path)).status == 200
        return False

    async def in_flight(self) -> int:
        """Return the number of complete write requests in flight, from the receiver's metric."""
        return await self.counted("receiver_requests_in_flight")

    async def counted(self, name: str) -> int:
        """Return the value of a metric of the receiver."""
        metrics = (await get(self.port, "/metrics")).text
        (value,) = (line.split()[1] for line in metrics.splitlines() if line.startswith(f"{name} "))
        return int(float(value))

    async def kill(self) -> None:
        """Kill the receiver with SIGKILL, as the kernel does when memory is short."""
        if self.runs:
            self.process.kill()
            await self.process.wait()

    def ask_to_end(self) -> float:
        """Send SIGTERM; return the time."""
        self.process.terminate()
        return time.monotonic()

    async def ended(self, seconds: float = 60) -> int:
        """Wait until the receiver has exited; return its exit code."""
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    async def terminate(self) -> int:
        self.ask_to_end()
        return await self.ended()

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        async with standing_still([self.pid]):
            yield


@asynccontextmanager
async def replicas(
    directory: Path, database_url: str | None, count: int = 1, **settings: object
) -> AsyncIterator[list[Replica]]:
    """Start receivers and kill them at the end; when the test fails, show their last log lines."""
    every = [Replica(directory, database_url, **settings) for _ in range(count)]
    async with AsyncExitStack() as stack:
        for replica in every:
            stack.push_async_callback(replica.kill)
        try:
            yield every
        except BaseException as error:
            for replica in every:
                lines = "\n".join(replica.log.splitlines()[-40:])
                error.add_note(f"--- log of the receiver at port {replica.port}\n{lines}")
            raise


@asynccontextmanager
async def replica(
    directory: Path, database_url: str | None, **settings: object
) -> AsyncIterator[Replica]:
    """Start one receiver and wait until it is ready."""
    async with replicas(directory, database_url, 1, **settings) as (one,):
        await one.start()
        yield one
