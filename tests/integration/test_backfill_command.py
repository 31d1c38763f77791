"""`receiver backfill` reports histories without rows, and servers that are not Prometheus."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from receiver.clients import backfill
from receiver.commands.cli import build_parser, load_command
from receiver.config.settings import Settings
from receiver.errors import DatabaseUnavailableError, ReceiverError, SetupError, UnavailableError
from receiver.storage.writing import backfills
from tests.messages import NOW
from tests.tables import write_tables

START, END = "2023-11-14T22:12:20+00:00", "2023-11-14T22:15:20+00:00"

Backfill = Callable[..., Awaitable[int]]


@pytest.fixture
def run(database_url: str, make_settings: Callable[..., Settings]) -> Backfill:
    make_settings()

    async def invoke(url: str, *words: str) -> int:
        parser, flags = build_parser("backfill")
        parsed = parser.parse_args(
            [
                *("backfill", f"--from-url={url}", f"--database-url={database_url}"),
                *(f"--start={START}", f"--end={END}", "--no-external-labels", *words),
            ]
        )
        settings = Settings.load(flags["backfill"](parsed_args=parsed))
        return int(await load_command("backfill").run(settings, parsed))

    return invoke


def series(count: int, **labels: str) -> dict[str, Any]:
    """Build a series of `count` samples, one per second."""
    return {"metric": labels, "values": [[NOW / 1000 + n, "1"] for n in range(count)]}


@asynccontextmanager
async def history(found: Mapping[str, list[dict[str, Any]]], **more: object) -> AsyncIterator[str]:
    """Serve the API of a Prometheus that has these series, by metric."""

    async def query(request: web.Request) -> web.Response:
        match = re.fullmatch(r'\{__name__="(\w+)".*\}\[(\d+)ms\]', request.query["query"])
        assert match is not None
        end = float(request.query["time"])
        begin = end - int(match[2]) / 1000
        result = [
            {
                "metric": {"__name__": match[1], **one["metric"]},
                "values": [value for value in one["values"] if begin < value[0] <= end],
            }
            for one in found.get(match[1], ())
        ]
        data = {"resultType": "matrix", "result": result}
        return web.json_response({"status": "success", "data": data, **more})

    app = web.Application()
    app.router.add_get("/api/v1/query", query)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


BOTH = {"app_status": [series(3, job="a")], "ocr_value": [series(3, job="a")]}


async def test_rows_and_what_waits_are_told_apart(
    run: Backfill, capsys: pytest.CaptureFixture[str]
) -> None:
    async with history({**BOTH, "app_status": [series(5, job="a")]}) as url:
        assert await run(url) == 0
        shown = capsys.readouterr().out
        assert shown.startswith("8 samples from")
        assert ": 6 stored, 0 already present, in rows or rejected; 2 of incomplete rows (" in shown
        assert shown.endswith("; 0 rejected (rejected_samples says why)\n")
    async with history(BOTH) as url:
        assert await run(url, "--restart") == 0


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            {"app_status": [series(4, job="a")]},
            r"no samples of ocr_value .*; the 4 samples of app_status wait for them in "
            r"pending_rows and become no rows: .*RECEIVER_OCR_METRIC,",
        ),
        (
            {"ocr_value": [series(4, job="a")]},
            r"no samples of app_status .*: are the names right \(RECEIVER_STATUS_METRIC ",
        ),
        ({}, "no samples of app_status or ocr_value"),
    ],
)
async def test_a_metric_that_is_not_there_is_named(
    run: Backfill, found: dict[str, Any], said: str
) -> None:
    async with history(found) as url:
        with pytest.raises(SetupError, match=said):
            await run(url)


async def test_a_database_that_cannot_be_reached_ends_it(run: Backfill) -> None:
    async with history(BOTH) as url, asyncio.timeout(10):
        with pytest.raises(DatabaseUnavailableError, match="cannot be reached"):
            await run(url, "--database-url=postgresql://u@127.0.0.1:1/d")


async def test_labels_that_differ_fail(run: Backfill, capsys: pytest.CaptureFixture[str]) -> None:
    found = {**BOTH, "ocr_value": [series(3, job="b")]}
    async with history(found) as url:
        assert await run(url) == 1
    shown = capsys.readouterr().out
    assert ": 0 stored, 0 already present, in rows or rejected; 6 of incomplete rows" in shown


async def test_rejected_samples_are_in_no_row(
    run: Backfill, capsys: pytest.CaptureFixture[str]
) -> None:
    half = {"metric": {"job": "a"}, "values": [[NOW / 1000, "0.5"]]}
    async with history({"app_status": [half], "ocr_value": [series(1, job="a")]}) as url:
        assert await run(url) == 1
        shown = capsys.readouterr().out
        assert ": 0 stored, 0 already present, in rows or rejected; 2 rejected (" in shown
        assert await run(url, "--restart") == 0
        shown = capsys.readouterr().out
        assert ": 0 stored, 2 already present, in rows or rejected; 0 rejected (" in shown


@pytest.mark.parametrize(
    "more", [{"isPartial": True}, {"warnings": ["remote_read: connection refused"]}]
)
async def test_a_part_of_the_samples_is_not_taken_for_all(
    run: Backfill,
    connection: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    more: dict[str, object],
) -> None:
    monkeypatch.setattr(backfill, "RETRY_TIME", 0.2)
    async with history(BOTH, **more) as url:
        with pytest.raises(UnavailableError, match="returns only part of the samples: "):
            await run(url)
    assert not await connection.fetchval("SELECT count(*) FROM app_logs")


@pytest.mark.parametrize(
    "answer",
    [
        *("", "<html>", "[" * 100_000, "null", '{"data":null}', '{"data":{"result":{}}}'),
        *('{"data":{"result":[{"metric":5}]}}', '{"data":{"result":[[1,"1"]]}}'),
        '{"data":{"result":[{"metric":{},"values":[[1,"many"]]}]}}',
        '{"data":{"result":[{"metric":{"a":"\\ud800"},"values":[[1,"1"]]}]}}',
        '{"status":"error","error":"nothing \\n here"}',
    ],
)
async def test_what_is_no_prometheus_is_one_line(run: Backfill, answer: str) -> None:
    async def anything(_: web.Request) -> web.Response:
        return web.Response(text=answer)

    app = web.Application()
    app.router.add_get("/{path:.*}", anything)
    async with TestServer(app) as server:
        for words in ((), ("--external-label=site=a",)):
            with pytest.raises(ReceiverError) as raised:
                await run(str(server.make_url("/")), *words)
            assert str(raised.value).isprintable()
            assert len(str(raised.value)) < 400


PRESSES = {
    "press_pressure_bar": [series(3, job="plc", line="A", press_id="1", sensor="p")],
    "press_running": [
        series(4, job="plc", line="A", press_id="1", sensor="r"),
        series(4, job="plc", line="C"),
    ],
}


async def test_all_metrics_of_all_tables_come_in_one_pass(
    run: Backfill,
    connection: asyncpg.Connection,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    tables = write_tables(tmp_path)
    async with history({**BOTH, **PRESSES}) as url:
        assert await run(url, f"--tables-file={tables}") == 0
        first, *lines = capsys.readouterr().out.splitlines()
        assert first.startswith("13 samples from")
        assert (
            ": 12 stored, 0 already present, in rows or rejected; 1 of incomplete rows (" in first
        )
        assert lines == [
            "app_logs: 6 stored, 0 already present, 0 of incomplete rows, 0 rejected",
            "press_readings: 6 stored, 0 already present, 1 of incomplete rows, 0 rejected",
            "robots: no rows: Prometheus has no samples of robot_state",
        ]
        assert await run(url, f"--tables-file={tables}") == 0
        assert "app_logs: 0 stored, 6 already present" in capsys.readouterr().out
    counts = "SELECT (SELECT count(*) FROM app_logs), (SELECT count(*) FROM press_readings)"
    assert tuple(await connection.fetchrow(counts)) == (3, 3)


async def test_another_declaration_begins_anew(
    run: Backfill,
    connection: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """The previous run stopped after rows that the wider tables also have."""
    monkeypatch.setattr(backfill, "FIRST_SPAN", 1_000)
    monkeypatch.setattr(backfill, "next_span", lambda *_: 1_000)
    write = backfills.Bookmark.write

    async def stop(self: backfills.Bookmark, progress: backfills.Progress) -> None:
        await write(self, progress)
        if progress.done > NOW + 1_000:
            raise UnavailableError("stopped")

    monkeypatch.setattr(backfill, "RETRY_TIME", 0.2)
    monkeypatch.setattr(backfills.Bookmark, "write", stop)
    async with history({**BOTH, **PRESSES}) as url:
        with pytest.raises(UnavailableError):
            await run(url)
        monkeypatch.setattr(backfills.Bookmark, "write", write)
        assert await run(url, f"--tables-file={write_tables(tmp_path)}") == 0
    assert "continuing at" not in capfd.readouterr().err
    assert await connection.fetchval("SELECT count(*) FROM press_readings") == 3
