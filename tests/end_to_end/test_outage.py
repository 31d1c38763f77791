"""The receiver of a real Prometheus is killed, and stays down for longer than several backoffs."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest

from receiver.http.paths import WRITE as WRITE_PATH
from tests.end_to_end.test_prometheus import (
    CONFIGURATION,
    Application,
    assert_every_scrape_is_a_row,
    exposing,
    prometheus,
)
from tests.faults.processes import replicas
from tests.faults.wire import HOST
from tests.programs import require_program
from tests.waiting import until

pytestmark = [pytest.mark.end_to_end, pytest.mark.faults]

BEFORE = 5
AWAY = 10
AFTER = 5
TWO_SHARDS = CONFIGURATION.replace("min_shards: 4", "min_shards: 2\n      max_shards: 2")


class Applications(list[Application]):
    async def scraped(self, times: int) -> None:
        """Return when each application has been scraped this many more times."""
        wanted = [application.scrapes + times for application in self]
        await until(
            lambda: all(one.scrapes >= goal for one, goal in zip(self, wanted, strict=True)),
            seconds=times + 40,
        )


async def test_every_scrape_during_an_outage_becomes_a_row(
    database_url: str, tmp_path: Path
) -> None:
    require_program("prometheus")
    applications = Applications([Application(), Application()])
    async with (
        replicas(tmp_path, database_url, 1, maintenance_interval="200ms") as (receiver,),
        AsyncExitStack() as stack,
    ):
        await receiver.start()
        targets = [await stack.enter_async_context(exposing(app.expose)) for app in applications]
        url = f"http://{HOST}:{receiver.port}{WRITE_PATH}"
        configuration = TWO_SHARDS.format(targets=", ".join(targets), url=url)
        # Prometheus sends its remaining samples on shutdown.
        async with prometheus(tmp_path, configuration):
            await applications.scraped(BEFORE)
            await receiver.kill()
            await applications.scraped(AWAY)
            await receiver.start()
            await applications.scraped(AFTER)
        connection = await asyncpg.connect(database_url)
        rows = await connection.fetch(
            "SELECT s.labels ->> 'instance' AS instance, l.app_status, l.ocr_value "
            "FROM app_logs l JOIN error_codes e ON l.app_status = e.code "
            "JOIN sources s ON s.id = l.source_id"
        )

        async def nothing_pending() -> bool:
            return not await connection.fetchval("SELECT count(*) FROM pending_rows")

        await until(nothing_pending)
        assert await connection.fetchval("SELECT count(*) FROM rejected_samples") == 0
        await connection.close()
        assert await receiver.terminate() == 0
    assert_every_scrape_is_a_row(rows, dict(zip(targets, applications, strict=True)))
