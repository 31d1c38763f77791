"""The declaration of tables changes while receivers run."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from receiver.config.settings import Settings
from receiver.storage.schema.revisions import migrate
from tests.conftest import MakeSettings
from tests.receivers import Point, Running, encode, receiving
from tests.waiting import until

NOW = 1_700_000_000_000
BEFORE = """
tables:
  press:
    columns:
      pressure: {metric: press_pressure, type: double}
      strokes: {metric: press_strokes, type: bigint}
"""
AFTER = """
tables:
  press:
    columns:
      running: {metric: press_running, type: boolean, required: false}
      strokes: {metric: press_strokes, type: bigint}
      pressure: {metric: press_pressure, type: double}
  strokes:
    columns:
      total: {metric: press_strokes, type: bigint}
"""
WITHOUT = """
tables:
  strokes:
    columns:
      total: {metric: press_strokes, type: bigint}
"""


def declare(make_settings: MakeSettings, directory: Path, url: str, text: str) -> Settings:
    file = directory / f"{abs(hash(text))}.yaml"
    file.write_text(text)
    return make_settings(database_url=url, tables_file=file, maintenance_interval="100ms")


def point(name: str, value: float, moment: int = 0) -> Point:
    return {"__name__": f"press_{name}", "instance": "a"}, NOW + moment, value


async def not_ready(receiver: Running) -> bool:
    return (await receiver.get("/-/ready"))[0] == 503


async def test_a_receiver_with_the_old_declaration_gives_way_and_what_waited_is_read_right(
    empty_database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    old = declare(make_settings, tmp_path, empty_database_url, BEFORE)
    new = declare(make_settings, tmp_path, empty_database_url, AFTER)
    connection = await asyncpg.connect(empty_database_url)
    async with receiving(old) as first:
        await first.send(point("pressure", 1.5))
        async with receiving(new) as second:
            await until(lambda: not_ready(first))
            _, text = await first.get("/-/ready")
            assert "column press.running is only there" in text
            assert "receiver migrate" in text
            assert (await first.post(encode([point("strokes", 9)])))[0] == 503
            # The order of the columns changed while a sample waited.
            await second.send(point("strokes", 9), point("running", 1))
            assert await second.ready()
    row = await connection.fetchrow("SELECT pressure, strokes, running FROM press")
    assert tuple(row) == (1.5, 9, True)
    assert await connection.fetchval("SELECT total FROM strokes") == 9
    assert await connection.fetchval("SELECT count(*) FROM pending_rows") == 0
    await connection.close()


async def test_what_waits_for_a_table_that_is_not_declared_any_more_is_rejected(
    empty_database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    async with receiving(declare(make_settings, tmp_path, empty_database_url, BEFORE)) as first:
        await first.send(point("pressure", 1.5), point("strokes", 9, 1))
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("UPDATE pending_rows SET arrived_at = now() - interval '1 day'")

    async def settled() -> bool:
        return not await connection.fetchval("SELECT count(*) FROM pending_rows")

    async with receiving(declare(make_settings, tmp_path, empty_database_url, WITHOUT)):
        await until(settled)
    rejected = await connection.fetch(
        "SELECT table_name, column_name, value, reason FROM rejected_samples ORDER BY 2"
    )
    assert [tuple(sample) for sample in rejected] == [
        ("press", "pressure", 1.5, "unpaired"),
        ("press", "strokes", 9.0, "unpaired"),
    ]
    await connection.close()


@pytest.mark.parametrize("waiting", [["heat"], ["heat", "pressure"]])
async def test_a_sample_whose_column_is_not_declared_any_more_is_rejected_when_its_row_is_whole(
    empty_database_url: str, make_settings: MakeSettings, tmp_path: Path, waiting: list[str]
) -> None:
    three = BEFORE + "      heat: {metric: press_heat, type: double}\n"
    async with receiving(declare(make_settings, tmp_path, empty_database_url, three)) as first:
        await first.send(*(point(name, 7) for name in waiting))
    two = declare(make_settings, tmp_path, empty_database_url, BEFORE)
    await migrate(two)
    connection = await asyncpg.connect(empty_database_url)
    async with receiving(two) as second:
        rest = {"pressure", "strokes"}.difference(waiting)
        await second.send(*(point(name, 7) for name in rest))

        async def settled() -> bool:
            return not await connection.fetchval("SELECT count(*) FROM pending_rows")

        await until(settled)
    assert await connection.fetchval("SELECT count(*) FROM press") == 1
    (sample,) = await connection.fetch("SELECT column_name, value, detail FROM rejected_samples")
    assert tuple(sample) == ("heat", 7.0, "its column is not declared any more")
    await connection.close()
