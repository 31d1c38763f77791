"""Two receivers on one database, pairs split over requests, everything sent three times."""

from __future__ import annotations

import asyncio
import random

import asyncpg

from tests.conftest import MakeSettings
from tests.receivers import Point, Running, receiving
from tests.waiting import until

TARGETS = 60
SCRAPES = 30
NOW = 1_700_000_000_000


def halves(moment: int, metric: str, value: float) -> list[Point]:
    return [
        ({"__name__": metric, "instance": f"app-{number}"}, NOW + 5_000 * moment, value + number)
        for number in range(TARGETS)
    ]


async def test_every_pair_is_one_row_however_it_comes(
    database_url: str, make_settings: MakeSettings
) -> None:
    generator = random.Random(7)
    requests = [
        points
        for moment in range(SCRAPES)
        for points in (
            halves(moment, "app_status", 0),
            halves(moment, "ocr_value", 1_700_000_000 + moment),
        )
    ]
    load = requests * 3
    generator.shuffle(load)
    settings = make_settings(database_url=database_url, maintenance_interval="200ms")
    async with receiving(settings) as first, receiving(settings) as second:
        connections = [first] * 6 + [second] * 5

        async def work(receiver: Running) -> None:
            while load:
                await receiver.send(*load.pop())

        await asyncio.gather(*map(work, connections))
        connection = await asyncpg.connect(database_url)
        rows = await connection.fetch(
            "SELECT s.labels ->> 'instance' AS instance, l.created_at, l.app_status, l.ocr_value "
            "FROM app_logs l JOIN sources s ON s.id = l.source_id "
            "JOIN error_codes e ON e.code = l.app_status"
        )
        expected = {
            (f"app-{number}", NOW + 5_000 * moment, number, 1_700_000_000 + moment + number)
            for moment in range(SCRAPES)
            for number in range(TARGETS)
        }
        found = [
            (
                row["instance"],
                round(row["created_at"].timestamp() * 1000),
                row["app_status"],
                row["ocr_value"].timestamp(),
            )
            for row in rows
        ]
        assert len(found) == len(expected)
        assert set(found) == expected
        assert await connection.fetchval("SELECT count(*) FROM rejected_samples") == 0

        async def nothing_pending() -> bool:
            return not await connection.fetchval("SELECT count(*) FROM pending_rows")

        await until(nothing_pending)
        await connection.close()
