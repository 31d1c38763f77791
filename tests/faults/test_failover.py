"""A primary dies and its standby takes over: no acknowledged sample is lost, nothing breaks."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlsplit

import asyncpg
import pytest

from receiver.embedded import EmbeddedPostgres
from receiver.embedded.system import Account, run
from tests.faults.harness import SETTINGS, world
from tests.faults.load import NOW, Sender
from tests.faults.processes import Database, Server, children, replica, replicas, standing_still
from tests.faults.requests import request
from tests.faults.wire import post
from tests.receivers import encode
from tests.waiting import until

PRIMARY_PORT = 5432
STANDBY_PORT = 5433  # the primary's socket leaves a file in the copy


class Standby:
    """A standby server, with its own directory and socket.

    Args:
        primary: The running primary.
    """

    def __init__(self, primary: Server) -> None:
        self.data = primary.directory / "standby"
        self._primary = primary
        assert isinstance(primary.postgres, EmbeddedPostgres)
        self._programs = Path(shlex.split(primary.postgres.psql_command)[0]).parent
        owner = (primary.directory / "postgres").stat()
        self._account = Account(owner.st_uid, owner.st_gid) if os.geteuid() == 0 else None

    def start(self) -> None:
        """Copy the primary, and start replication from it."""
        self.data.mkdir(mode=0o700)
        if self._account:
            os.chown(self.data, *self._account)
        sockets = str(self._primary.directory / "postgres")
        copy = ("--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--username=postgres")
        self._must("pg_basebackup", "-D", str(self.data), "-h", sockets, *copy)
        options = shlex.join((f"--port={STANDBY_PORT}", f"--unix_socket_directories={self.data}"))
        options += " --listen_addresses="
        log = str(self.data / "postgres.log")
        self._must("pg_ctl", "-D", str(self.data), "start", "-w", "-l", log, "-o", options)

    def stop(self) -> None:
        self._must("pg_ctl", "-D", str(self.data), "stop", "-w", "-m", "immediate")

    def _must(self, program: str, *arguments: str) -> None:
        code, output = run(self._programs / program, *arguments, to=self._account)
        assert code == 0, output

    def url(self, database: str) -> str:
        return (
            f"postgresql://{database}@/{database}?host={quote(str(self.data))}&port={STANDBY_PORT}"
        )

    async def promote(self) -> None:
        """Promote the standby; return when it accepts writes."""
        connection = await asyncpg.connect(host=str(self.data), port=STANDBY_PORT, user="postgres")
        assert await connection.fetchval("SELECT pg_promote(wait => true)")
        await connection.close()

    def walreceiver(self) -> int:
        """Return the process id of the walreceiver."""
        pid = int((self.data / "postmaster.pid").read_text().split()[0])
        (found,) = (child for child in children(pid) if b"walreceiver" in title(child))
        return found


def title(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.fixture
def primary() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
async def pair(primary: Server) -> AsyncIterator[tuple[Server, Standby]]:
    """Start a primary with synchronous replication, and its standby."""
    standby = Standby(primary)
    await asyncio.to_thread(standby.start)
    await primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    await primary.execute("SELECT pg_reload_conf()")
    await until(lambda: is_synchronous(primary))
    yield primary, standby
    # First the standby: a primary that shuts down waits until its standbys have all of its log.
    await asyncio.to_thread(standby.stop)


async def is_synchronous(primary: Server) -> bool:
    async with primary.session() as connection:
        states = await connection.fetch("SELECT sync_state FROM pg_stat_replication")
    return [state for (state,) in states] == ["sync"]


@asynccontextmanager
async def database_on(primary: Server) -> AsyncIterator[Database]:
    """Create a database and do not drop it, as its server may be gone by then."""
    name = "failover"
    await primary.execute(f"CREATE ROLE {name} LOGIN")
    await primary.execute(f"CREATE DATABASE {name} OWNER {name} ENCODING 'UTF8' TEMPLATE template0")
    url = urlsplit(primary.postgres.url)._replace(netloc=f"{name}@", path=f"/{name}").geturl()
    yield Database(name, url)


async def test_nothing_acknowledged_is_lost_when_the_standby_takes_over(
    pair: tuple[Server, Standby], tmp_path: Path
) -> None:
    primary, standby = pair
    async with database_on(primary) as database:
        hosts = quote(f"{primary.directory / 'postgres'},{standby.data}")
        url = (
            f"postgresql://{database.name}@/{database.name}?host={hosts}&port={PRIMARY_PORT},{STANDBY_PORT}"
            "&target_session_attrs=read-write"
        )
        async with replicas(tmp_path, url, 2, **SETTINGS) as every:
            await asyncio.gather(*(one.start() for one in every))
            sender = Sender(every, 1)
            async with sender.sending():
                await sender.more()
                await primary.stop_at_once()
                await sender.until_refused()
                await standby.promote()
                await sender.more(100)
            verdict = await sender.truth.compare(standby.url(database.name))
            assert verdict.good, verdict
            await primary.start()  # or there would be nothing to stop in the end


async def test_a_second_sending_does_not_pass_for_replicated(
    pair: tuple[Server, Standby], tmp_path: Path
) -> None:
    """The row is visible, but its commit has not reached the standby: the answer must wait for it.

    PostgreSQL makes a commit visible if its wait for the standby is cancelled; a transaction that
    then finds the row and writes nothing itself would be acknowledged without waiting.
    """
    primary, standby = pair
    async with (
        database_on(primary) as database,
        replica(tmp_path, database.url, **SETTINGS) as one,
    ):
        assert (await post(one.port, request(0))).status == 204
        bodies = [request(1), encode([({"__name__": "app_status"}, NOW, 0.5)])]
        async with standing_still([standby.walreceiver()]):
            for body in bodies * 4:
                answer = await post(one.port, body)
                assert answer.status == 503, answer
                await primary.terminate(database.name)
        for body in bodies:
            await until(partial(acknowledged, one.port, body))


async def acknowledged(port: int, body: bytes) -> bool:
    return (await post(port, body)).status == 204


async def test_a_server_that_has_become_a_standby_is_503_until_it_is_none(
    server: Server, tmp_path: Path
) -> None:
    async with world(server, tmp_path) as stage:
        async with stage.sender.sending():
            await stage.sender.more()
            await server.stop()
            signal_file = server.directory / "postgres/standby.signal"
            signal_file.touch()
            await server.start()
            await stage.sender.until_refused()
            before = stage.sender.acknowledged
            answers = [await post(one.port, request(0)) for one in stage.replicas for _ in range(5)]
            assert {answer.status for answer in answers} == {503}
            assert [await one.is_ready() for one in stage.replicas] == [False, False]
            assert stage.sender.acknowledged == before
            await server.stop()
            signal_file.unlink()
            await server.start()
            await stage.sender.more()
        verdict = await stage.verdict()
        assert verdict.good, verdict
