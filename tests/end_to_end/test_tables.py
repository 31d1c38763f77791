"""A real Prometheus fills five declared tables, through two receivers at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest
from aiohttp import web

from receiver.storage.schema.revisions import migrate
from tests.conftest import MakeSettings
from tests.end_to_end.test_prometheus import exposing, prometheus, settle
from tests.programs import require_program
from tests.receivers import receiving
from tests.waiting import until

pytestmark = pytest.mark.end_to_end

SCRAPES = 15

TABLES = """
tables:
  app_logs:
    columns:
      app_status: {metric: app_status, type: code, codes: error_codes}
      ocr_value: {metric: ocr_value, type: timestamp}
  press_readings:
    match: {line: "A|B"}
    ignoring: [sensor]
    labels: {line: text}
    columns:
      pressure: {metric: press_pressure_bar, type: double}
      strokes: {metric: press_strokes_total, type: bigint}
      running: {metric: press_running, type: boolean}
  strokes:
    columns:
      total: {metric: press_strokes_total, type: bigint}
  robots:
    columns:
      state: {metric: robot_state, type: code, codes: robot_states}
      load: {metric: robot_load, type: double, required: false, special: true}
  "여덟":
    columns:
      c1: {metric: m1, type: double}
      c2: {metric: m2, type: double}
      c3: {metric: m3, type: double}
      c4: {metric: m4, type: double}
      c5: {metric: m5, type: double}
      c6: {metric: m6, type: double}
      c7: {metric: m7, type: bigint}
      id8: {metric: m8, type: bigint}
"""

# Relabelling drops `secret` and sets the name of each line; `press_*` of line C makes no row of
# press_readings.
CONFIGURATION = """
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: floor
    static_configs:
      - targets: [{target}]
    metric_relabel_configs:
      - {{source_labels: [place], regex: "hall (.)", target_label: line}}
      - {{regex: place, action: labeldrop}}
remote_write:
  - &queue
    name: first
    url: {urls[0]}
    queue_config: {{min_shards: 4, max_samples_per_send: 7, batch_send_deadline: 200ms}}
    write_relabel_configs:
      - {{source_labels: [__name__], regex: "secret|scrape_.*|up", action: drop}}
  - <<: *queue
    name: second
    url: {urls[1]}
"""


class Floor:
    """Exposes the metrics of all tables; each encodes the number of the scrape."""

    def __init__(self) -> None:
        self.scrapes = 0

    async def expose(self, _: web.Request) -> web.Response:
        number = self.scrapes
        self.scrapes += 1
        lines = [
            f"app_status {number % 3}",
            f"ocr_value {1_700_000_000 + number}.5",
            f"secret {number}",
            f"robot_state {number % 2}",
            *([f"robot_load {number}.25"] if number % 2 else []),
            *(f"m{place} {number * place}" for place in range(1, 9)),
        ]
        for hall in "ABC":
            lines += [
                f'press_pressure_bar{{place="hall {hall}",sensor="p"}} {number}.125',
                f'press_strokes_total{{place="hall {hall}",sensor="s"}} {number}',
                f'press_running{{place="hall {hall}",sensor="r"}} {number % 2}',
            ]
        return web.Response(text="\n".join(lines) + "\n")


QUERIES: Mapping[str, Callable[[int], list[tuple[object, ...]]]] = {
    "SELECT app_status, EXTRACT(EPOCH FROM ocr_value)::float8 FROM app_logs": lambda n: [
        (n % 3, 1_700_000_000 + n + 0.5)
    ],
    "SELECT line, pressure, strokes, running FROM press_readings": lambda n: [
        (line, n + 0.125, n, bool(n % 2)) for line in "AB"
    ],
    "SELECT total FROM strokes": lambda n: [(n,)] * 3,
    "SELECT state, load FROM robots": lambda n: [(n % 2, n + 0.25 if n % 2 else None)],
    'SELECT c1, c2, c3, c4, c5, c6, c7, id8 FROM "여덟"': lambda n: [
        tuple(n * place for place in range(1, 9))
    ],
}
"""For each table a query, and the rows of the n-th scrape."""


async def test_every_scrape_is_a_row_of_each_table(
    empty_database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    require_program("prometheus")
    file = tmp_path / "tables.yaml"
    file.write_text(TABLES)
    settings = make_settings(database_url=empty_database_url, tables_file=file)
    await migrate(settings)
    floor = Floor()
    async with AsyncExitStack() as stack:
        some = [await stack.enter_async_context(receiving(settings)) for _ in range(2)]
        target = await stack.enter_async_context(exposing(floor.expose))
        urls = [receiver.url() for receiver in some]
        async with prometheus(tmp_path, CONFIGURATION.format(target=target, urls=urls)):
            await until(lambda: floor.scrapes >= SCRAPES, seconds=SCRAPES + 60)
    await settle(settings)
    connection = await asyncpg.connect(empty_database_url)
    try:
        for query, rows_of in QUERIES.items():
            found = sorted(map(tuple, await connection.fetch(query)), key=repr)
            # On shutdown, Prometheus aborts a scrape that has just started.
            assert found in [
                sorted((row for n in range(number) for row in rows_of(n)), key=repr)
                for number in (floor.scrapes, floor.scrapes - 1)
            ], query
        # Line C only has the table of strokes. An interrupted scrape leaves incomplete rows.
        assert not await connection.fetch(
            "SELECT FROM pending_rows WHERE created_at < (SELECT max(created_at) FROM app_logs)"
        )
        assert await connection.fetchval("SELECT count(*) FROM rejected_samples") == 0
    finally:
        await connection.close()
