"""The log lines of real receivers, in normal operation and under faults."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.faults.processes import Database, Replica, Server, replica
from tests.faults.requests import request
from tests.faults.wire import post
from tests.waiting import until

SECRET = "s3cr3t-word"


def lines(one: Replica) -> list[dict[str, Any]]:
    return [json.loads(line) for line in one.log.splitlines()]


def events(one: Replica) -> list[str]:
    return [line["event"] for line in lines(one) if "event" in line]


def with_password(url: str) -> str:
    parts = urlsplit(url)
    name = parts.netloc.partition("@")[0].partition(":")[0]
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{name}:{SECRET}@{host}").geturl()


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_life_in_json(database: Database, tmp_path: Path, workers: int) -> None:
    async with replica(
        tmp_path, with_password(database.url), workers=workers, log_format="json"
    ) as one:
        await until(lambda: events(one).count("ready") == workers)
        for number in range(5):
            assert (await post(one.port, request(number))).status == 204
        assert await one.terminate() == 0
    assert SECRET not in one.log
    told = events(one)
    start = lines(one)[0]
    assert (start["event"], start["workers"]) == ("start", workers)
    assert start["listen"] == f"127.0.0.1:{one.port}"
    assert start["database"].endswith(f"/{database.name}")
    assert told[-1] == "stopped"
    for event in ("listening", "ready", "draining"):
        assert told.count(event) == workers
    numbers = {line.get("worker") for line in lines(one) if line.get("event") == "ready"}
    assert numbers == ({1, 2} if workers == 2 else {None})
    assert len(lines(one)) < 7 * workers + 2  # no line per request


async def test_many_faults_are_few_lines(server: Server, tmp_path: Path) -> None:
    async with (
        server.database() as database,
        replica(
            tmp_path, database.url, log_format="json", pair_linger="0s", commit_timeout="300ms"
        ) as one,
    ):
        async with server.paused():
            answers = await asyncio.gather(*(post(one.port, request(n)) for n in range(100)))
        refused = sum(answer.status == 503 for answer in answers)
        bad = [await post(one.port, b"no snappy") for _ in range(50)]
        assert {answer.status for answer in bad} == {400}
        assert await one.terminate() == 0
    for status, count in ((503, refused), (400, 50)):
        told = [line for line in lines(one) if line.get("status") == status]
        assert sum(line.get("repeated", 1) for line in told) == count
        assert count > 40
        assert len(told) <= 4  # per cause: the first fault, and a summary of the others
        assert all(line["request_id"] for line in told)
    assert bad[0].headers["x-request-id"] in bad[0].text
