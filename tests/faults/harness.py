"""A database, receivers and a load, and the faults that can be injected into them."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import asyncpg

from tests.faults.load import DRAIN_TIMEOUT, Sender, Verdict
from tests.faults.processes import (
    NOT_REACHED,
    Database,
    Replica,
    Server,
    is_alive,
    replicas,
    send_signal,
)
from tests.waiting import until

SHUTDOWN_TIMEOUT = 5.0
SETTINGS: Final = {
    "commit_timeout": "1s",
    "shutdown_timeout": f"{SHUTDOWN_TIMEOUT:g}s",
    "maintenance_interval": "200ms",
    "retry_after": "1s",
}


# More than the loss of all sessions explains: new sessions must have been refused as well.
MANY_TIMES: Final = 15


FIND_SHARDS: Final = """
SELECT shardid FROM pg_dist_shard WHERE logicalrelid = 'app_logs'::regclass ORDER BY 1
"""
# The node that a shard is on, and another node that it can move to.
FIND_MOVE: Final = """
SELECT here.nodeid, target.nodeid FROM pg_dist_placement p
JOIN pg_dist_node here USING (groupid)
JOIN pg_dist_node target ON target.groupid NOT IN (0, here.groupid)
WHERE p.shardid = $1 ORDER BY target.nodeid LIMIT 1
"""


class World(NamedTuple):
    """The target of the faults."""

    server: Server
    database: Database
    replicas: list[Replica]
    sender: Sender
    chance: random.Random

    async def part(self, count: int, *, seed: int, job: str) -> World:
        """Yield a world of the first `count` receivers, with its own load."""
        some = self.replicas[:count]
        for one in some:
            if not one.runs:
                await one.launch()
            await until(one.is_ready)
        sender = Sender(some, seed, job=job)
        return World(self.server, self.database, some, sender, random.Random(seed))

    async def verdict(self) -> Verdict:
        return await self.sender.truth.compare(self.database.url)


Fault: TypeAlias = Callable[[World], Awaitable[None]]


class NotHereError(Exception):
    """A fault cannot be injected on this machine."""


@asynccontextmanager
async def world(
    server: Server, directory: Path, *, count: int = 2, seed: int = 0
) -> AsyncIterator[World]:
    """Start receivers on a fresh database until ready; `sender.sending` starts the load."""
    async with (
        server.database() as database,
        replicas(directory, database.url, count, **{**SETTINGS, **server.settings}) as every,
    ):
        await asyncio.gather(*(one.start() for one in every))
        yield World(server, database, every, Sender(every, seed), random.Random(seed))
        for one in every:
            assert await one.terminate() == 0


# --- faults of receivers ------------------------------------------------------------------------


async def receiver_killed(world: World) -> None:
    replica = world.chance.choice(world.replicas)
    await replica.kill()
    await asyncio.sleep(world.chance.uniform(0, 0.5))
    await replica.start()
    await world.sender.more()


async def receiver_terminated(world: World) -> None:
    replica = world.chance.choice(world.replicas)
    replica.ask_to_end()
    assert await replica.ended(SHUTDOWN_TIMEOUT + 10) == 0
    await replica.start()
    await world.sender.more()


async def receiver_paused(world: World) -> None:
    """Pause a receiver with open transactions, while others receive the other samples."""
    replica = world.chance.choice(world.replicas)
    async with replica.paused():
        await asyncio.sleep(world.chance.uniform(1.5, 2.5))
    await world.sender.more()


# --- faults of the server -----------------------------------------------------------------------


async def server_stopped_at_once(world: World) -> None:
    await world.server.stop_at_once()
    await asyncio.sleep(world.chance.uniform(0, 0.5))
    await world.server.start()
    await world.sender.more()


async def server_restarted(world: World) -> None:
    await world.server.stop()
    await world.server.start()
    await world.sender.more()


async def server_paused(world: World) -> None:
    """Pause the server; nobody waits for longer than the commit timeout."""
    async with world.server.paused():
        await world.sender.until_refused()
        await asyncio.sleep(world.chance.uniform(0.5, 1.5))
    await world.sender.more()


async def backend_crashed(world: World) -> None:
    """Crash a backend, after which PostgreSQL ends all sessions and recovers."""
    if backends := await world.server.backends(world.database.name):
        pid = world.chance.choice(backends)
        send_signal([pid], signal.SIGKILL)
        await until(lambda: not is_alive(pid))
    await world.sender.more()


async def disk_full(world: World) -> None:
    """Fill up the disk of `app_logs`, then free space again."""
    server = world.server
    if server.workers:
        raise NotHereError("a tablespace is that of one node")
    name = f"small_{secrets.token_hex(4)}"
    async with small_disk(server) as disk:
        await server.execute(f"CREATE TABLESPACE {name} LOCATION '{disk}'")
        try:
            await move_logs(world, name)
            with filled(disk):
                await world.sender.until_refused()
            await world.sender.more()
        finally:
            await move_logs(world, "pg_default")
            await server.execute(f"DROP TABLESPACE {name}")


async def move_logs(world: World, tablespace: str) -> None:
    for relation in ("TABLE app_logs", "INDEX app_logs_pkey", "INDEX app_logs_created_at_idx"):
        await world.server.execute(
            f"ALTER {relation} SET TABLESPACE {tablespace}", world.database.name
        )


@asynccontextmanager
async def small_disk(server: Server) -> AsyncIterator[Path]:
    """Mount a file system of 64 MB in memory.

    Raises:
        NotHereError: mounting is not permitted; it takes root, and does not work everywhere.
    """
    place = server.directory / f"disk-{secrets.token_hex(4)}"
    place.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place))
    if shutil.which("mount") is None or (await run(*mount)):
        raise NotHereError("a small file system cannot be mounted here: that takes root's rights")
    try:
        owner = (server.directory / "postgres").stat()
        os.chown(place, owner.st_uid, owner.st_gid)
        place.chmod(0o700)
        yield place
    finally:
        await run("umount", "--lazy", str(place))
        place.rmdir()


async def run(*command: str) -> int:
    """Run a program to its end; return its exit code."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return await process.wait()


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Keep a file system full during the `with` block."""
    balloon = disk / "balloon"
    with balloon.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        balloon.unlink()


# --- faults of the worker nodes, and of moving shards ------------------------------------------


def of_worker(world: World) -> World:
    """Return the world with one of the workers in place of the coordinator.

    Raises:
        NotHereError: there are no workers.
    """
    if not world.server.workers:
        raise NotHereError("only a cluster has workers; RECEIVER_TEST_CITUS_URL asks for one")
    return world._replace(server=world.chance.choice(world.server.workers))


async def worker_stopped_at_once(world: World) -> None:
    await server_stopped_at_once(of_worker(world))


async def worker_restarted(world: World) -> None:
    await server_restarted(of_worker(world))


async def worker_paused(world: World) -> None:
    await server_paused(of_worker(world))


async def worker_backend_crashed(world: World) -> None:
    await backend_crashed(of_worker(world))


async def worker_backends_terminated(world: World) -> None:
    await backends_terminated(of_worker(world))


async def shards_moved(world: World) -> None:
    """Move a shard to another node and back, while more rows arrive."""
    of_worker(world)
    async with world.server.session(world.database.name) as connection:
        shard = world.chance.choice([id_ for (id_,) in await connection.fetch(FIND_SHARDS)])
    for _ in range(2):
        await until(partial(move_shard, world, shard), seconds=DRAIN_TIMEOUT)
        await world.sender.more()


async def move_shard(world: World, shard: int) -> bool:
    """Move a shard; return whether it moved, as other faults at the same time may prevent it."""
    try:
        async with world.server.session(world.database.name) as connection:
            source, target = await connection.fetchrow(FIND_MOVE, shard)
            move = "SELECT citus_move_shard_placement($1, $2, $3)"
            await connection.execute(move, shard, source, target)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return False
    return True


# --- faults of sessions -------------------------------------------------------------------------


async def backends_terminated(world: World) -> None:
    for _ in range(10):
        await world.server.terminate(world.database.name, "random() < 0.5")
        await world.sender.more(3)


async def backend_terminated_in_copy(world: World) -> None:
    """Terminate a backend in a COPY that a lock holds up."""
    for _ in range(3):
        await until(partial(caught_in_copy, world), seconds=DRAIN_TIMEOUT)
        await world.sender.more(10)


async def caught_in_copy(world: World) -> bool:
    """Lock the table for a few seconds; return whether a COPY was caught meanwhile."""
    async with locked(world, "app_logs", "EXCLUSIVE") as holder:
        try:
            await until(partial(ended_in_copy, world, holder), seconds=5)
        except TimeoutError:
            return False
    return True


async def ended_in_copy(world: World, holder: asyncpg.Connection) -> bool:
    """Return whether a COPY was caught, or cannot be because the lock is lost."""
    # On a cluster, transactions do more, so hardly any row comes by COPY while the lock is held.
    waits = "wait_event_type = 'Lock'" if world.server.workers else "query LIKE '%COPY%'"
    during_copy = f"state = 'active' AND {waits}"
    return await world.server.terminate(world.database.name, during_copy) > 0 or holder.is_closed()


async def table_locked(world: World) -> None:
    table = world.chance.choice(("app_logs", "app_logs", "pending_rows", "sources"))
    async with locked(world, table, "ACCESS EXCLUSIVE"):
        await asyncio.sleep(2)
    await world.sender.more()


@asynccontextmanager
async def locked(world: World, table: str, mode: str) -> AsyncIterator[asyncpg.Connection]:
    """Lock a table in another transaction, unless another fault ends it."""
    async with world.server.session(world.database.name) as connection:
        with suppress(*NOT_REACHED):
            await connection.execute(f"BEGIN; LOCK TABLE {table} IN {mode} MODE")
        yield connection
        with suppress(*NOT_REACHED):
            await connection.execute("ROLLBACK")


async def connections_used_up(world: World) -> None:
    """Take all connections, and terminate those of the receivers."""
    hogs: list[asyncpg.Connection] = []
    before = world.sender.refused

    async def refused() -> bool:
        await world.server.terminate(world.database.name)
        with suppress(*NOT_REACHED):
            while True:
                hogs.append(await asyncpg.connect(world.database.url))
        return world.sender.refused > before

    try:
        await until(refused)
    finally:
        for hog in hogs:
            hog.terminate()
    await world.sender.more()


async def statement_timeout_tiny(world: World) -> None:
    async with role_changed(world, "statement_timeout = '1ms'"):
        # On a fast machine hardly any statement takes that long, so there is no error to wait for.
        await asyncio.sleep(1)
    await world.sender.more()


async def server_read_only(world: World) -> None:
    async with role_changed(world, "default_transaction_read_only = on"):
        await world.sender.until_refused(MANY_TIMES)
    await world.sender.more()


@asynccontextmanager
async def role_changed(world: World, change: str) -> AsyncIterator[None]:
    """Change the settings of the receivers' role for a while, and make them open new sessions.

    Sessions opened with the changed settings stay: the receivers must replace them themselves.
    """
    role = world.database.name
    await world.server.execute(f"ALTER ROLE {role} SET {change}")
    try:
        await world.server.terminate(role)
        yield
    finally:
        await world.server.execute(f"ALTER ROLE {role} RESET ALL")


RECEIVER_FAULTS: Final[tuple[Fault, ...]] = (
    receiver_killed,
    receiver_terminated,
    receiver_paused,
)
SERVER_FAULTS: Final[tuple[Fault, ...]] = (
    server_stopped_at_once,
    server_restarted,
    server_paused,
    backend_crashed,
    disk_full,
)
SESSION_FAULTS: Final[tuple[Fault, ...]] = (
    backends_terminated,
    backend_terminated_in_copy,
    table_locked,
    connections_used_up,
    statement_timeout_tiny,
    server_read_only,
)
CLUSTER_FAULTS: Final[tuple[Fault, ...]] = (
    worker_stopped_at_once,
    worker_restarted,
    worker_paused,
    worker_backend_crashed,
    worker_backends_terminated,
    shards_moved,
)
ALL_FAULTS: Final = (*RECEIVER_FAULTS, *SERVER_FAULTS, *SESSION_FAULTS, *CLUSTER_FAULTS)
