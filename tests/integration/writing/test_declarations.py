"""The declaration of tables changes while receivers run."""

from __future__ import annotations

import math
import re
import time
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import asyncpg
import pytest

from receiver.config.settings import Settings
from receiver.process.app import STORE
from receiver.storage.schema.revisions import migrate, plan
from tests.conftest import MakeSettings
from tests.receivers import Point, Running, encode, receiving
from tests.waiting import until

NOW = 1_700_000_000_000
HOUR = 3_600_000
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
STATES = """
tables:
  press:
    columns:
      state: {metric: press_state, type: code, codes: states}
      pressure: {metric: press_pressure, type: double}
"""
# What docs/tables.md renames and widens, before and after.
OLD_NAMES = """
tables:
  press_readings:
    columns:
      pressure: {metric: press_pressure, type: double}
      heat: {metric: press_heat, type: double}
  press_counts:
    columns:
      strokes: {metric: press_strokes, type: bigint}
      rejects: {metric: press_rejects, type: bigint}
  robot_logs:
    columns:
      state: {metric: press_state, type: code, codes: robot_states}
      speed: {metric: press_speed, type: double}
"""
NEW_NAMES = (
    OLD_NAMES.replace("pressure:", "pressure_bar:")
    .replace("robot_logs", "arm_logs")
    .replace("press_strokes, type: bigint", "press_strokes, type: double")
)
DOCUMENT = Path(__file__).parents[3] / "docs" / "tables.md"
CHANGE = re.compile(r"```sql\n(DROP VIEW [^`]*(?:RENAME|TYPE)[^`]*)```")


def declare(
    make_settings: MakeSettings, directory: Path, url: str, text: str, interval: str = "100ms"
) -> Settings:
    file = directory / f"{abs(hash(text))}.yaml"
    file.write_text(text)
    return make_settings(database_url=url, tables_file=file, maintenance_interval=interval)


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
            assert "column press.running is only in the database" in text
            assert "receiver migrate" in text
            assert (await first.post(encode([point("strokes", 9)])))[0] == 503
            # A metric that only the new declaration has.
            assert (await first.post(encode([point("running", 1)])))[0] == 503
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


async def test_what_waits_is_stored_after_the_changes_that_the_document_shows(
    empty_database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    async with receiving(declare(make_settings, tmp_path, empty_database_url, OLD_NAMES)) as old:
        await old.send(point("pressure", 1.5), point("strokes", 9), point("state", 3))
    connection = await asyncpg.connect(empty_database_url)
    changes = CHANGE.findall(DOCUMENT.read_text(encoding="utf-8"))
    assert len(changes) == 3
    for statement in "".join(changes).strip().split(";\n"):
        await connection.execute(statement)
    async with receiving(declare(make_settings, tmp_path, empty_database_url, NEW_NAMES)) as new:
        await new.send(point("heat", 7), point("rejects", 2), point("speed", 0.5))
    for query, row in (
        ("SELECT pressure_bar, heat FROM press_readings", (1.5, 7)),
        ("SELECT strokes, rejects FROM press_counts", (9, 2)),
        ("SELECT state, speed FROM arm_logs", (3, 0.5)),
    ):
        assert list(map(tuple, await connection.fetch(query))) == [row]
    await connection.close()


async def test_what_waits_is_left_alone_by_a_receiver_that_has_not_noticed_another_declaration(
    empty_database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    text = "tables: {{press: {{columns: {{a: {{metric: press_a, type: double}}, {0}}}}}}}"
    optional = "{0}: {{metric: press_{0}, type: double, required: false}}".format
    old_text = text.format("x: {metric: press_old, type: double}, " + optional("y"))
    new_text = text.format(
        f"x: {{metric: press_new, type: double}}, {optional('y')}, {optional('z')}"
    )
    old = declare(make_settings, tmp_path, empty_database_url, old_text, "1h")
    new = declare(make_settings, tmp_path, empty_database_url, new_text)
    connection = await asyncpg.connect(empty_database_url)
    async with receiving(old) as first, receiving(new) as second:
        # Its value must not wait for a row in which the column has another metric.
        assert (await first.post(encode([point("old", 5)])))[0] == 503
        await second.send(point("z", 4))
        # The row must not take, and reject, the sample of a column that is not declared here.
        status, answer = await first.post(encode([point("a", 1), point("old", 5)]))
        assert status == 503
        assert "declared differently" in answer
        await second.send(point("a", 1), point("new", 7))
    row = await connection.fetchrow("SELECT a, x, y, z FROM press")
    assert tuple(row) == (1, 7, None, 4)
    assert await connection.fetchval("SELECT count(*) FROM rejected_samples") == 0
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
    assert tuple(sample) == ("heat", 7.0, "its column is no longer declared")
    await connection.close()


@pytest.mark.parametrize("line", ["7", "x"])
async def test_what_waited_is_stored_if_it_lacks_nothing_by_a_new_declaration(
    empty_database_url: str, make_settings: MakeSettings, tmp_path: Path, line: str
) -> None:
    old = declare(make_settings, tmp_path, empty_database_url, STATES)
    async with receiving(old) as first:
        labels = {"__name__": "press_state", "line": line}
        await first.send((labels, NOW, 3), ({**labels, "__name__": "press_pressure"}, NOW + 1, 1.5))
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("DELETE FROM states")
    await connection.execute("UPDATE pending_rows SET arrived_at = now() - interval '1 day'")

    async def settled() -> bool:
        return not await connection.fetchval("SELECT count(*) FROM pending_rows")

    optional = STATES.replace("type: double", "type: double, required: false")
    optional = optional.replace("columns:", "labels: {line: bigint}\n    columns:")
    async with receiving(declare(make_settings, tmp_path, empty_database_url, optional)):
        await until(settled)
    rows = await connection.fetch("SELECT line, state, pressure FROM press")
    rejected = await connection.fetch("SELECT metric, reason FROM rejected_samples ORDER BY 1")
    alone = ("press_pressure", "unpaired")
    if line == "7":
        assert [tuple(row) for row in rows] == [(7, 3, None)]
        assert [tuple(sample) for sample in rejected] == [alone]
        assert await connection.fetchval("SELECT name FROM states") == "UNREGISTERED_3"
    else:
        assert not rows
        misfit = ("press_state", "label_does_not_fit")
        assert [tuple(sample) for sample in rejected] == [alone, misfit]
    await connection.close()


async def test_what_waits_does_not_become_a_value_of_another_metric(
    empty_database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    metrics = ("press_pressure, type: double", "press_heat, type: double")
    text = 'tables: {"press \'A\'": {columns: {a: {metric: %s}, "b\'": {metric: %s}}}}'
    old = declare(make_settings, tmp_path, empty_database_url, text % metrics)
    async with receiving(old) as first:
        await first.send(point("pressure", 180.5), point("heat", 1e300, 1), point("heat", 20, 2))
    connection = await asyncpg.connect(empty_database_url)
    swapped = declare(make_settings, tmp_path, empty_database_url, text % metrics[::-1])
    assert any(statement.startswith("DO") for statement in await plan(swapped))
    async with receiving(swapped) as second:
        await second.send(point("heat", 21), point("pressure", 181))
    rows = await connection.fetch('SELECT a, "b\'" FROM "press \'A\'"')
    assert [tuple(row) for row in rows] == [(21.0, 181.0)]
    rejected = await connection.fetch(
        "SELECT metric, timestamp_ms, value, reason, detail, table_name, column_name "
        "FROM rejected_samples ORDER BY timestamp_ms"
    )
    reason = ("unpaired", "its column has another metric now", "press 'A'")
    assert [tuple(sample) for sample in rejected] == [
        ("press_pressure", NOW, 180.5, *reason, "a"),
        ("press_heat", NOW + 1, 1e300, *reason, "b'"),
        ("press_heat", NOW + 2, 20.0, *reason, "b'"),
    ]
    assert await connection.fetchval("SELECT count(*) FROM pending_rows") == 0
    await connection.close()


@pytest.mark.parametrize("between", [WITHOUT, BEFORE.replace("pressure: {", "# pressure: {")])
@pytest.mark.parametrize("metric", ["press_pressure", "press_heat"])
async def test_what_waits_for_a_removed_column_is_a_value_of_it_only_if_its_metric_comes_back(
    empty_database_url: str, make_settings: MakeSettings, tmp_path: Path, between: str, metric: str
) -> None:
    async with receiving(declare(make_settings, tmp_path, empty_database_url, BEFORE)) as first:
        await first.send(point("pressure", 180.5))
    for text in (between, WITHOUT):
        await migrate(declare(make_settings, tmp_path, empty_database_url, text))
    again = BEFORE.replace("metric: press_pressure", f"metric: {metric}")
    async with receiving(declare(make_settings, tmp_path, empty_database_url, again)) as last:
        await last.send(point("strokes", 9), point("heat", 21))
    connection = await asyncpg.connect(empty_database_url)
    rejected = await connection.fetch("SELECT metric, value, reason FROM rejected_samples")
    kept = metric == "press_pressure"
    assert [tuple(sample) for sample in rejected] == (
        [] if kept else [("press_pressure", 180.5, "unpaired")]
    )
    assert await connection.fetchval("SELECT pressure FROM press") == (180.5 if kept else 21)
    await connection.close()


def table(column: str, others: str = "") -> str:
    """Declare a table whose rows need `press_a`, a column `x` of this declaration, and others."""
    a = "a: {metric: press_a, type: double}"
    return f"tables: {{press: {{columns: {{{a}, x: {{metric: press_x, {column}}}{others}}}}}}}"


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize(
    ("before", "value", "after", "reason"),
    [
        ("type: double", 1.5, "type: bigint", "not_whole"),
        ("type: double", 1e30, "type: bigint", "out_of_range"),
        ("type: double, special: true", math.inf, "type: bigint", "infinite"),
        ("type: double, special: true", math.nan, "type: bigint", "not_a_number"),
        ("type: double, special: true", math.nan, "type: double", "not_a_number"),
        ("type: bigint", 7, "type: boolean", "out_of_range"),
        ("type: bigint", 5e9, "type: code, codes: states", "out_of_range"),
        (
            "type: timestamp, unit: milliseconds",
            9e13,
            "type: timestamp, unit: seconds",
            "out_of_range",
        ),
    ],
)
async def test_a_waiting_sample_that_does_not_fit_another_type_is_rejected(
    empty_database_url: str,
    make_settings: MakeSettings,
    tmp_path: Path,
    before: str,
    value: float,
    after: str,
    reason: str,
    *,
    required: bool,
) -> None:
    optional = "" if required else ", required: false"
    old = declare(make_settings, tmp_path, empty_database_url, table(before + optional))
    async with receiving(old) as first:
        await first.send(point("x", value))
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("ALTER TABLE press RENAME COLUMN x TO x_old")
    new = declare(make_settings, tmp_path, empty_database_url, table(after + optional))
    await migrate(new)
    async with receiving(new) as second:
        await second.send(point("a", 2))
        assert await connection.fetchval("SELECT count(*) FROM pending_rows") == 0
    rows = await connection.fetch("SELECT a, x FROM press")
    assert [tuple(row) for row in rows] == ([] if required else [(2.0, None)])
    rejected = await connection.fetch(
        "SELECT metric, value::text, reason FROM rejected_samples ORDER BY 1"
    )
    assert [tuple(sample) for sample in rejected] == [
        *([("press_a", "2", "other_sample_rejected")] if required else []),
        ("press_x", await connection.fetchval("SELECT $1::float8::text", float(value)), reason),
    ]
    await connection.close()


async def test_a_waiting_sample_of_a_removed_column_is_rejected_with_whatever_takes_it_out(
    empty_database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    old = table("type: double", ", old: {metric: press_old, type: double}")
    async with receiving(declare(make_settings, tmp_path, empty_database_url, old)) as first:
        await first.send(point("old", 5))
    new = declare(make_settings, tmp_path, empty_database_url, table("type: double"))
    await migrate(new)
    connection = await asyncpg.connect(empty_database_url)
    idle = new.model_copy(update={"maintenance_interval": timedelta(hours=1)})
    async with receiving(idle) as second:
        # The whole row is copied; then one of its samples finds what waits.
        await second.send(point("a", 1), point("x", 2))
        await second.send(point("x", 2))
        assert await connection.fetchval("SELECT count(*) FROM pending_rows") == 0
    (sample,) = await connection.fetch("SELECT column_name, value, detail FROM rejected_samples")
    assert tuple(sample) == ("old", 5.0, "its column is no longer declared")
    await connection.close()


async def test_a_receiver_with_the_old_declaration_settles_and_deletes_nothing(
    empty_database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    text = "tables: {{press: {{pair_timeout: {0}, retention: {1}, columns: {{{2}, {3}}}}}}}"
    columns = "a: {metric: press_a, type: double}", "x: {metric: press_x, type: double}"
    more = f"{columns[1]}, y: {{metric: press_y, type: double, required: false}}"
    old_text = text.format("1s", "1h", *columns)
    new_text = text.format("1h", "3650d", columns[0], more)
    old = declare(make_settings, tmp_path, empty_database_url, old_text)
    new = declare(make_settings, tmp_path, empty_database_url, new_text)
    recent = int(time.time() * 1000) - NOW
    connection = await asyncpg.connect(empty_database_url)
    async with receiving(old) as first, receiving(new) as second:
        await until(lambda: not_ready(first))
        await second.send(point("a", 1, recent - 3 * HOUR), point("x", 2, recent - 3 * HOUR))
        await second.send(point("a", 3, recent), point("y", 4, recent))
        await connection.execute("UPDATE pending_rows SET arrived_at = now() - interval '1 min'")
        await rounds_of_maintenance(first)
        assert await connection.fetchval("SELECT count(*) FROM press") == 1
        assert await connection.fetchval("SELECT count(*) FROM pending_rows") == 1
    assert await connection.fetchval("SELECT count(*) FROM rejected_samples") == 0
    await connection.close()


async def rounds_of_maintenance(receiver: Running) -> None:
    """Wait for two whole rounds of a receiver's maintenance."""
    checks = 0
    check = receiver.app[STORE].check

    async def counted() -> None:
        nonlocal checks
        checks += 1
        await check()

    with patch.object(receiver.app[STORE], "check", counted):

        async def done() -> bool:
            return checks >= 3

        await until(done)
