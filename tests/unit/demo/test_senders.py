from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import snappy
from aiohttp import web
from aiohttp.test_utils import TestServer

from receiver.commands.demo import find_sender, first_of
from receiver.demo.builtin import builtin
from receiver.demo.prometheus import prometheus
from receiver.demo.sender import load_configuration, redirect
from receiver.errors import SetupError
from receiver.protocol.generated.remote_write_v1_pb2 import WriteRequest
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

EXPOSED = """# TYPE app_status gauge
app_status{camera="3"} 2.0
# TYPE other gauge
other NaN
"""


class Fake:
    """An application, and a receiver that gives preset answers and keeps the requests."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.bodies: list[bytes] = []
        self.headers: list[Any] = []

    async def expose(self, _: web.Request) -> web.Response:
        return web.Response(text=EXPOSED)

    async def receive(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        self.headers.append(request.headers)
        return web.Response(status=self.answers.pop(0) if self.answers else 204)


@asynccontextmanager
async def sending(fake: Fake) -> AsyncIterator[str]:
    """Run the built-in sender against the fake; yield the application's address."""
    app = web.Application()
    app.router.add_get("/metrics", fake.expose)
    app.router.add_post("/write", fake.receive)
    async with TestServer(app) as server:
        target = f"127.0.0.1:{server.port}"
        configuration = redirect(
            load_configuration(),
            targets={"station-1": target},
            url=str(server.make_url("/write")),
            interval=timedelta(milliseconds=20),
        )
        task = asyncio.create_task(builtin(configuration).work())
        try:
            yield target
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def decode(body: bytes) -> list[tuple[list[tuple[str, str]], float, int]]:
    request = WriteRequest.FromString(snappy.uncompress(body))
    decoded = []
    for series in request.timeseries:
        (sample,) = series.samples
        labels = [(label.name, label.value) for label in series.labels]
        decoded.append((labels, sample.value, sample.timestamp))
    return decoded


async def test_the_builtin_sender_writes_as_prometheus_does() -> None:
    fake = Fake()
    async with sending(fake):
        await until(lambda: bool(fake.bodies))
    first, second = decode(fake.bodies[0])[:2]
    job = load_configuration()["scrape_configs"][0]["job_name"]
    common = [("instance", "station-1"), ("job", job)]
    assert first[0] == [("__name__", "app_status"), ("camera", "3"), *common]
    assert first[1] == 2
    assert second[0] == [("__name__", "other"), *common]
    assert math.isnan(second[1])
    assert first[2] == second[2]
    sent = {name: fake.headers[0][name] for name in ("Content-Type", "Content-Encoding")}
    assert sent == {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
    assert fake.headers[0]["X-Prometheus-Remote-Write-Version"] == "0.1.0"


async def test_the_builtin_sender_sends_again_what_could_not_be_stored() -> None:
    fake = Fake(503, 500)
    async with sending(fake):
        await until(lambda: len(fake.bodies) >= 4)
    assert fake.bodies[0] == fake.bodies[1] == fake.bodies[2]
    assert fake.bodies[3] != fake.bodies[2]


async def test_the_builtin_sender_gives_up_what_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake = Fake(400)
    async with sending(fake):
        await until(lambda: len(fake.bodies) >= 2)
    assert fake.bodies[1] != fake.bodies[0]
    assert "refused: 400" in caplog.text


def test_redirecting_changes_addresses_and_interval_only() -> None:
    original = load_configuration()
    changed = redirect(
        original,
        targets={"a": "host:1"},
        url="http://x/api/v1/write",
        interval=timedelta(seconds=1.5),
    )
    assert changed["scrape_configs"][0]["static_configs"] == [
        {"targets": ["host:1"], "labels": {"instance": "a"}}
    ]
    assert changed["remote_write"][0]["url"] == "http://x/api/v1/write"
    assert changed["remote_read"][0]["url"] == "http://x/api/v1/read"
    assert changed["global"]["scrape_interval"] == "1500ms"
    changed["scrape_configs"][0]["static_configs"] = original["scrape_configs"][0]["static_configs"]
    for part in ("remote_write", "remote_read"):
        changed[part][0]["url"] = original[part][0]["url"]
    changed["global"] = original["global"]
    assert changed == original == load_configuration()


@pytest.mark.parametrize("choice", ["auto", "builtin"])
async def test_without_prometheus_the_builtin_sender_is_taken(
    choice: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "built-in" in (await find_sender(choice, load_configuration())).description


async def test_prometheus_that_is_asked_for_must_be_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="--sender builtin"):
        await find_sender("prometheus", load_configuration())


@pytest.fixture
def make_program(tmp_path: Path) -> Callable[[str], str]:
    """Return a function that writes a fake Prometheus: a shell script that reports a version."""

    def make(script: str) -> str:
        program = tmp_path / "prometheus"
        version = 'test "$1" != --version || { echo prometheus, version 9.8.7; exit; }'
        program.write_text(f"#!/bin/sh\n{version}\n{script}\n")
        program.chmod(0o755)
        return str(program)

    return make


async def test_a_prometheus_that_ends_ends_the_demo_with_its_reason(
    make_program: Callable[[str], str],
) -> None:
    sender = await prometheus(make_program("echo no such thing; exit 3"), load_configuration())
    assert "Prometheus 9.8.7" in sender.description
    with pytest.raises(SetupError, match="exit code 3: no such thing"):
        await sender.work()


async def test_what_is_not_prometheus_is_not_run(tmp_path: Path) -> None:
    program = tmp_path / "prometheus"
    program.write_text("#!/bin/sh\necho something else\n")
    program.chmod(0o755)
    with pytest.raises(SetupError, match="does not look like Prometheus"):
        await prometheus(str(program), load_configuration())


async def test_prometheus_is_ended_and_learns_no_secrets(
    make_program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RECEIVER_DATABASE_PASSWORD", "hunter2")
    told = tmp_path / "told"
    program = make_program(
        f"trap 'echo ended >>{told}; exit' TERM; env >{told}; while :; do sleep 0.01; done"
    )
    sender = await prometheus(program, load_configuration())
    await first_of(sender.work(), until(lambda: told.exists() and "PATH" in told.read_text()))
    assert told.read_text().endswith("ended\n")
    assert "hunter2" not in told.read_text()


async def test_the_first_to_end_ends_the_others() -> None:
    ended: list[str] = []

    async def last(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def fail() -> None:
        raise SetupError("that was it")

    with pytest.raises(SetupError, match="that was it"):
        await first_of(last("a"), fail(), last("b"))
    assert sorted(ended) == ["a", "b"]


async def test_time_may_be_up_before_anything_ends() -> None:
    waiting: Coroutine[Any, Any, object] = asyncio.Event().wait()
    await first_of(waiting, seconds=0.001)
