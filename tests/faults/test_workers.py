"""Several processes behind one address: they count, fail and stop as one receiver."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.faults.processes import Database, Replica, children, is_alive, replica, replicas
from tests.faults.requests import request, stored, stuck
from tests.faults.wire import get, post
from tests.metrics import exposed
from tests.waiting import until

WORKERS = 2
IN_FLIGHT_LIMIT = 1000
REQUESTS = 40  # on as many connections: that all go to one worker is next to impossible


def workers(one: Replica) -> list[int]:
    """Return the process ids of the workers."""
    return [pid for pid in children(one.pid) if b"spawn_main" in command(pid)]


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


async def all_ready(one: Replica) -> None:
    await until(lambda: one.log.count("the database is ready") >= WORKERS)


async def test_they_serve_one_address_and_count_together(
    database: Database, tmp_path: Path
) -> None:
    async with replica(tmp_path, database.url, workers=WORKERS) as one:
        await all_ready(one)
        assert len(workers(one)) == WORKERS
        answers = await asyncio.gather(*(post(one.port, request(n)) for n in range(REQUESTS)))
        assert {answer.status for answer in answers} == {204}
        assert await stored(database.url) == REQUESTS
        for _ in range(5):  # whichever worker answers
            metrics = (await get(one.port, "/metrics")).text
            counted = exposed(metrics)
            assert counted['receiver_requests_total{code="204",version="1.0"}'] == REQUESTS
            assert (
                counted['receiver_samples_total{outcome="stored",table="app_logs"}'] == 2 * REQUESTS
            )
            assert counted["receiver_samples_received_total"] == 2 * REQUESTS
            assert counted["receiver_batch_rows_sum"] == REQUESTS
            assert counted["receiver_requests_in_flight_limit"] == IN_FLIGHT_LIMIT
            assert [info for info in counted if "build_info" in info and 'workers="2"' in info]

        async def up() -> bool:
            counted = exposed((await get(one.port, "/metrics")).text)
            return counted["receiver_database_up"] == 1

        await until(up)
        assert await one.terminate() == 0


async def test_one_that_is_killed_is_replaced(database: Database, tmp_path: Path) -> None:
    async with replica(tmp_path, database.url, workers=WORKERS) as one:
        await all_ready(one)
        before = workers(one)
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: one.log.count("the database is ready") > WORKERS)
        after = workers(one)
        assert len(after) == WORKERS
        assert before[0] not in after
        assert "ended (exit code -9): it is restarted" in one.log
        answers = await asyncio.gather(*(post(one.port, request(n)) for n in range(REQUESTS)))
        assert {answer.status for answer in answers} == {204}
        # A dead worker has no request in flight.
        assert await one.in_flight() == 0


@pytest.mark.parametrize("pattern", ["receiver-metrics-*", "receiver-metrics-*/*.db"])
async def test_their_metrics_outlive_a_clean_temporary_directory(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    async with replica(tmp_path, database.url, workers=WORKERS) as one:
        await all_ready(one)

        async def counted() -> float:
            metrics = exposed((await get(one.port, "/metrics")).text)
            return metrics['receiver_requests_total{code="204",version="1.0"}']

        async def all_are_counted(requests: int) -> None:
            for number in range(20):  # whichever worker answers
                assert (await post(one.port, request(requests + number))).status == 204

            async def so() -> bool:
                return {await counted() for _ in range(10)} == {requests + 20}

            await until(so)

        await all_are_counted(0)
        clean(temporary, pattern)
        await all_are_counted(20)
        os.kill(workers(one)[0], signal.SIGKILL)
        await until(lambda: one.log.count("the database is ready") > WORKERS)
        await all_are_counted(40)
        assert "Traceback" not in one.log
        assert await one.terminate() == 0


def clean(directory: Path, pattern: str) -> None:
    """Remove matching files, as cleaners of old temporary files do."""
    for path in directory.glob(pattern):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


async def test_sigterm_lets_all_of_them_finish(database: Database, tmp_path: Path) -> None:
    async with (
        replica(tmp_path, database.url, workers=WORKERS) as one,
        asyncio.TaskGroup() as tasks,
    ):
        await all_ready(one)
        async with stuck(database):
            sent = [tasks.create_task(post(one.port, request(n))) for n in range(REQUESTS)]

            async def accepted() -> bool:
                return await one.in_flight() == REQUESTS

            await until(accepted)

            async def queued() -> bool:
                counted = exposed((await get(one.port, "/metrics")).text)
                waiting = counted["receiver_queue_requests"] == REQUESTS
                return waiting and counted["receiver_queue_oldest_age_seconds"] > 1

            await until(queued)
            one.ask_to_end()
            await until(lambda: one.log.count("shutting down") == WORKERS)
        assert await one.ended() == 0
        assert [(await task).status for task in sent] == [204] * REQUESTS
    assert await stored(database.url) == REQUESTS


async def test_they_do_not_outlive_who_started_them(database: Database, tmp_path: Path) -> None:
    async with replica(tmp_path, database.url, workers=WORKERS) as one:
        await all_ready(one)
        serving = workers(one)
        await one.kill()
        await until(lambda: not any(map(is_alive, serving)))


@pytest.mark.parametrize("fault", ["schema", "address"])
async def test_what_is_set_up_wrongly_ends_them_all(
    database: Database, tmp_path: Path, fault: str
) -> None:
    settings = {"workers": WORKERS, "migrate_on_start": "false" if fault == "schema" else "true"}
    said = {"schema": "run `receiver migrate`", "address": "cannot listen there"}[fault]
    async with replicas(tmp_path, database.url, 1, **settings) as (one,):
        server = None
        if fault == "address":
            server = await asyncio.start_server(lambda *_: None, "127.0.0.1", one.port)
        await one.launch()
        assert await one.ended() == 1
        assert said in one.log
        assert "Traceback" not in one.log
        if server is not None:
            server.close()
            await server.wait_closed()
