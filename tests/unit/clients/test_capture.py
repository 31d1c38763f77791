from __future__ import annotations

import asyncio
import base64
import json
import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request

from receiver.clients.capture import CaptureError, Recorder, read_capture

HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "User-Agent": "Prometheus/3.0.0",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
LINE = {
    "received_at": "2026-02-03T04:05:06.789Z",
    "path": "/api/v1/write",
    "headers": HEADERS,
    "body": base64.b64encode(b"body").decode(),
}


async def record(recorder: Recorder, body: bytes, **more: str) -> None:
    headers = {**HEADERS, **more}
    await recorder.record(make_mocked_request("POST", "/api/v1/write", headers), body)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Make writes beyond the size fail half-way, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def line(**changes: object) -> str:
    return json.dumps({**LINE, **changes}) + "\n"


async def test_what_is_recorded_is_read_back(tmp_path: Path) -> None:
    body = bytes(range(256))
    with Recorder(tmp_path / "not" / "there") as recorder:
        await record(recorder, body)
    (request,) = read_capture(recorder.path)
    assert request.body == body
    assert request.headers == HEADERS
    assert request.path == "/api/v1/write"
    assert datetime.now(UTC) - request.received_at < timedelta(seconds=10)


async def test_a_line_is_plain_json(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        await record(recorder, b"\xfb\xff body")
    written = json.loads(recorder.path.read_text())
    assert list(written) == ["received_at", "path", "headers", "body"]
    assert base64.b64decode(written["body"], validate=True) == b"\xfb\xff body"
    assert datetime.fromisoformat(written["received_at"]).utcoffset() == timedelta(0)
    assert recorder.path.name.startswith("capture-")
    assert recorder.path.suffix == ".jsonl"


async def test_no_credential_is_recorded(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        await record(recorder, b"", Authorization="Bearer hush", Cookie="hush", X_Token="hush")
    assert "hush" not in recorder.path.read_text()


async def test_requests_at_the_same_time_keep_their_order(tmp_path: Path) -> None:
    bodies = [b"%d" % number * 20_000 for number in range(50)]
    with Recorder(tmp_path) as recorder:
        await asyncio.gather(*(record(recorder, body) for body in bodies))
    assert [request.body for request in read_capture(recorder.path)] == bodies


async def test_a_request_is_in_the_file_as_soon_as_it_is_recorded(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        await record(recorder, b"first")
        assert [request.body for request in read_capture(recorder.path)] == [b"first"]


async def test_a_full_disk_is_logged_and_leaves_whole_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Recorder(tmp_path) as recorder:
        await record(recorder, b"first")
        with largest_file(recorder.path.stat().st_size + 100), caplog.at_level(logging.ERROR):
            await record(recorder, b"second" * 1000)
        await record(recorder, b"third")
    assert str(recorder.path) in caplog.text
    assert "File too large" in caplog.text
    assert [request.body for request in read_capture(recorder.path)] == [b"first", b"third"]


def test_a_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CaptureError, match=f"{tmp_path}/file/capture-.*File exists"):
        Recorder(tmp_path / "file").__enter__()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("\n", "is not a request of `receiver capture`$"),
        ("nonsense\n", "is not a request of `receiver capture`$"),
        ("[]\n", "is not a request of `receiver capture`$"),
        ('{"path": "/"}\n', "is not a request of `receiver capture`: received_at: is missing"),
        (line(body="?"), "body: "),
        (line(body=5), "body: .*must be text"),
        (line(headers={"Content-Type": 5}), "headers: Content-Type: must be text"),
        (line(received_at="yesterday"), "received_at: "),
        (line(received_at="2026-02-03T04:05:06"), "received_at: .*timezone"),
        (line()[:-20], "is incomplete"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, broken: str, message: str) -> None:
    path = tmp_path / "capture.jsonl"
    path.write_text(line() + broken)
    requests = read_capture(path)
    assert next(requests).body == b"body"
    with pytest.raises(CaptureError, match=f"{path}, line 2: .*{message}"):
        next(requests)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=f"cannot read {tmp_path}/none: No such file"):
        list(read_capture(tmp_path / "none"))
