"""Backfilling from a real Prometheus produces the same rows as remote write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from receiver.clients import backfill
from receiver.commands.cli import build_parser, load_command
from receiver.config.settings import Settings
from receiver.errors import SetupError
from receiver.storage.schema.revisions import migrate
from receiver.storage.writing.backfills import Bookmark, Progress
from tests.conftest import MakeSettings, fresh_database
from tests.end_to_end.test_prometheus import Application, exposing, prometheus
from tests.faults.processes import free_port
from tests.programs import require_program
from tests.receivers import receiving
from tests.waiting import until

pytestmark = pytest.mark.end_to_end

SCRAPES = 6
ROWS = """
SELECT s.labels, l.created_at, l.app_status, l.ocr_value
FROM app_logs l JOIN sources s ON s.id = l.source_id WHERE l.created_at <= $1
"""
CONFIGURATION = """
global:
  scrape_interval: 1s
  external_labels: {{site: suwon, job: not the series' own}}
scrape_configs:
  - job_name: applications
    static_configs:
      - targets: [{targets}]
remote_write:
  - url: {url}
    queue_config: {{batch_send_deadline: 200ms}}
"""


class Pushed(NamedTuple):
    """A Prometheus that has pushed for a while."""

    url: str
    until: datetime
    rows: set[tuple[object, ...]]
    """The rows from all samples pushed up to then."""


async def rows(database_url: str, end: datetime) -> set[tuple[object, ...]]:
    connection = await asyncpg.connect(database_url)
    try:
        found = [tuple(row) for row in await connection.fetch(ROWS, end)]
    finally:
        await connection.close()
    assert len(set(found)) == len(found)
    return set(found)


@asynccontextmanager
async def pushed(settings: Settings, directory: Path) -> AsyncIterator[Pushed]:
    applications = [Application(), Application()]
    port = free_port()
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving(settings))
        targets = [await stack.enter_async_context(exposing(app.expose)) for app in applications]
        configuration = CONFIGURATION.format(targets=", ".join(targets), url=receiver.url())
        await stack.enter_async_context(prometheus(directory, configuration, port))
        await until(lambda: min(app.scrapes for app in applications) >= SCRAPES)
        assert settings.database_url is not None
        url = settings.database_url.get_secret_value()
        # The latest scrape may not be in Prometheus' own storage yet, or not be pushed.
        end = datetime.now(UTC)
        seen = [app.scrapes for app in applications]
        await until(
            lambda: all(app.scrapes > n + 1 for app, n in zip(applications, seen, strict=True))
        )

        async def all_pushed() -> bool:
            return len(await rows(url, end + timedelta(seconds=1))) > len(await rows(url, end))

        await until(all_pushed)
        yield Pushed(f"http://127.0.0.1:{port}", end, await rows(url, end))


@pytest.fixture
async def other_database_url(server_url: str, make_settings: MakeSettings) -> AsyncIterator[str]:
    """Yield the URL of a second database, to be filled."""
    async with fresh_database(server_url) as url:
        await migrate(make_settings(database_url=url))
        yield url


async def invoke(*words: str) -> int:
    parser, flags = build_parser("backfill")
    parsed = parser.parse_args(["backfill", *words])
    settings = Settings.load(flags["backfill"](parsed_args=parsed))
    return int(await load_command("backfill").run(settings, parsed))


async def test_history_becomes_the_same_rows(
    server_url: str,
    database_url: str,
    other_database_url: str,
    make_settings: MakeSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    require_program("prometheus")
    async with pushed(make_settings(database_url=database_url), tmp_path) as source:
        words = (
            f"--from-url={source.url}",
            "--start=1h",
            f"--end={source.until.isoformat()}",
            f"--database-url={other_database_url}",
        )
        assert len(source.rows) >= 2 * (SCRAPES - 1)
        assert await invoke(*words) == 0
        assert await rows(other_database_url, source.until) == source.rows
        assert "samples from" in capsys.readouterr().out

        # Again, with a gap, in many windows, and with an interruption.
        connection = await asyncpg.connect(other_database_url)
        await connection.execute("DELETE FROM app_logs WHERE id % 2 = 0")
        await connection.close()
        monkeypatch.setattr(backfill, "FIRST_SPAN", 60_000)
        monkeypatch.setattr(backfill, "LONGEST_SPAN", 60_000)
        with monkeypatch.context() as patched:
            patched.setattr(Bookmark, "write", stopping(Bookmark.write, after=30))
            with pytest.raises(asyncio.CancelledError):
                await invoke(*words)
        assert "the same command continues there" in capsys.readouterr().err
        # The progress in one database does not apply to another.
        async with fresh_database(server_url) as url:
            assert await invoke(*words, f"--database-url={url}") == 0
            assert await rows(url, source.until) == source.rows
        capsys.readouterr()
        assert await invoke(*words) == 0
        assert "continuing at" in capsys.readouterr().err
        assert await rows(other_database_url, source.until) == source.rows

        with pytest.raises(SetupError, match="no samples of app_status or ocr_value"):
            await invoke(*words[:1], "--start=2h", "--end=90m", *words[3:])


def stopping(
    write: Callable[[Bookmark, Progress], Awaitable[None]], after: int
) -> Callable[[Bookmark, Progress], Awaitable[None]]:
    """Writes so often, and then is told to stop."""
    count = 0

    async def stop(bookmark: Bookmark, progress: Progress) -> None:
        nonlocal count
        count += 1
        if count > after:
            raise asyncio.CancelledError
        await write(bookmark, progress)

    return stop
