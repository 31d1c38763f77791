"""SIGTERM and SIGKILL: accepted requests are finished, and interrupted ones are sent again."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.embedded import EmbeddedPostgres
from tests.faults.processes import (
    Database,
    Replica,
    Server,
    children,
    is_alive,
    postmaster,
    replica,
    replicas,
)
from tests.faults.requests import request, stored, stuck
from tests.faults.wire import Answer, Link, post
from tests.waiting import until

REQUESTS = 20
# Seconds that the shutdown of the interpreter takes on a busy machine, in addition to waiting.
SLACK = 3.0


async def accepted(one: Replica, requests: int) -> bool:
    return await one.in_flight() == requests


async def test_what_was_accepted_is_stored_and_answered(database: Database, tmp_path: Path) -> None:
    settings = {"shutdown_timeout": "20s", "commit_timeout": "20s"}
    async with replica(tmp_path, database.url, **settings) as one, asyncio.TaskGroup() as tasks:
        async with stuck(database):
            sent = [tasks.create_task(post(one.port, request(n))) for n in range(REQUESTS)]
            await until(lambda: accepted(one, REQUESTS))
            asked = one.ask_to_end()
            await until(lambda: "shutting down" in one.log)
            assert not any(task.done() for task in sent)
        assert await one.ended() == 0
        assert time.monotonic() - asked < 20
        assert [(await task).status for task in sent] == [204] * REQUESTS
    assert await stored(database.url) == REQUESTS


async def test_what_cannot_be_stored_in_time_is_refused(database: Database, tmp_path: Path) -> None:
    settings = {"shutdown_timeout": "1s", "commit_timeout": "20s"}
    async with replica(tmp_path, database.url, **settings) as one, stuck(database):
        sent = [asyncio.create_task(answer_or_none(one, n)) for n in range(REQUESTS)]
        await until(lambda: accepted(one, REQUESTS))
        asked = one.ask_to_end()
        assert await one.ended() == 0
        assert time.monotonic() - asked < 1 + SLACK
        for task in sent:
            answer = await task
            assert answer is None or answer.status == 503
    assert await stored(database.url) == 0


async def answer_or_none(one: Replica, number: int) -> Answer | None:
    """Send a request; return the answer, or None if the receiver closed the connection."""
    try:
        return await post(one.port, request(number))
    except (ConnectionError, asyncio.IncompleteReadError):
        return None


async def test_it_is_not_ready_before_it_stops_working(database: Database, tmp_path: Path) -> None:
    settings = {"shutdown_delay": "2s", "shutdown_timeout": "5s"}
    async with replica(tmp_path, database.url, **settings) as one:
        asked = one.ask_to_end()
        await until(lambda: not_ready(one))
        served = 0
        while time.monotonic() - asked < 1.5:
            assert (await post(one.port, request(served))).status == 204
            assert await one.is_healthy()
            served += 1
        assert served > 0
        assert await one.ended() == 0
        assert 2 <= time.monotonic() - asked < 2 + 5
    assert await stored(database.url) == served


async def not_ready(one: Replica) -> bool:
    return not await one.is_ready()


async def test_it_ends_in_time_while_the_database_stands_still(
    server: Server, database: Database, tmp_path: Path
) -> None:
    settings = {"shutdown_timeout": "2s", "commit_timeout": "20s"}
    async with replica(tmp_path, database.url, **settings) as one:
        assert (await post(one.port, request(0))).status == 204
        async with server.paused():
            sent = [asyncio.create_task(answer_or_none(one, n)) for n in range(REQUESTS)]
            await until(lambda: accepted(one, REQUESTS))
            asked = one.ask_to_end()
            assert await one.ended() == 0
            assert time.monotonic() - asked < 2 + SLACK
            for task in sent:
                answer = await task
                assert answer is None or answer.status == 503


async def test_it_ends_at_once_while_it_waits_for_a_database(tmp_path: Path) -> None:
    url = f"postgresql://postgres@/receiver?host={tmp_path}&port=5432"
    async with replicas(tmp_path, url) as (one,):
        await one.launch()
        await until(one.is_healthy)
        assert not await one.is_ready()
        assert (await post(one.port, request(0))).status == 503
        asked = one.ask_to_end()
        assert await one.ended() == 0
        assert time.monotonic() - asked < SLACK


async def test_idle_connections_do_not_delay_the_end(database: Database, tmp_path: Path) -> None:
    settings = {"shutdown_timeout": "20s"}
    async with (
        replica(tmp_path, database.url, **settings) as one,
        Link(one.port) as silent,
        Link(one.port) as kept_alive,
    ):
        assert (await kept_alive.post(request(0))).status == 204
        asked = one.ask_to_end()
        assert await one.ended() == 0
        assert time.monotonic() - asked < SLACK
        assert await silent.closed() == await kept_alive.closed() == b""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Yield a directory for an embedded database, which is stopped and removed afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="receiver-faults-"))
    directory.chmod(0o711)
    yield directory
    if EmbeddedPostgres(directory).running_url():
        with EmbeddedPostgres(directory):
            pass  # takes over the server that the test left running, and stops it
    shutil.rmtree(directory)


async def test_the_embedded_database_ends_with_its_receiver(data_dir: Path, tmp_path: Path) -> None:
    async with replica(tmp_path, None, data_dir=data_dir) as one:
        assert (await post(one.port, request(0))).status == 204
        pid = postmaster(data_dir)
        processes = [pid, *children(pid)]
        assert await one.terminate() == 0
        assert not any(map(is_alive, processes))
        assert (data_dir / "postgres/PG_VERSION").exists()


@pytest.mark.parametrize("both", [False, True], ids=["receiver", "receiver and database"])
async def test_after_a_kill_the_embedded_database_recovers_by_itself(
    both: bool,
    data_dir: Path,
    tmp_path: Path,
) -> None:
    async with replica(tmp_path, None, data_dir=data_dir) as one:
        for number in range(10):
            assert (await post(one.port, request(number))).status == 204
        pid = postmaster(data_dir)
        await one.kill()
        if both:
            os.kill(pid, signal.SIGKILL)
            await until(lambda: not is_alive(pid))
        await one.start()
        assert (await post(one.port, request(10))).status == 204
        embedded = EmbeddedPostgres(data_dir)
        url = embedded.running_url()
        assert url is not None
        assert await stored(url) == 11
        assert await one.terminate() == 0
        assert embedded.running_url() is None
