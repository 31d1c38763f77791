"""`receiver logs` and `receiver export` show each declared table by its own columns."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from receiver.commands.cli import build_parser, load_command
from receiver.config.settings import Settings
from receiver.errors import ErrorCodeError, SchemaError, UsageError
from receiver.storage.schema.revisions import migrate
from tests.conftest import MakeSettings
from tests.receivers import receiving
from tests.tables import PRESS, WITHOUT_LOGS, camera, execute, press, robot, write_tables

NOW = int(datetime(2026, 11, 1, 9, tzinfo=UTC).timestamp() * 1000)
RANGE = ("--start=2026-11-01T00:00:00Z", "--end=2026-11-02T00:00:00Z")
NAMES = """
UPDATE robot_states SET name = 'IDLE', description = 'waits' WHERE code = 3;
"""

Run = Callable[..., Awaitable[int]]


@pytest.fixture
async def run(empty_database_url: str, make_settings: MakeSettings, tmp_path: Path) -> Run:
    """Return a function that runs commands on a database in which all tables have rows."""
    tables = write_tables(tmp_path)
    settings = make_settings(database_url=empty_database_url, tables_file=tables)
    async with receiving(settings) as receiver:
        await receiver.send(*camera(NOW, 2), *press(NOW, 1.5, 1, 12), *press(NOW + 1, math.nan, 0))
        await receiver.send(*robot(NOW, 3, note=1), *robot(NOW + 1, 4))
    await execute(empty_database_url, NAMES)

    async def invoke(command: str, *words: str) -> int:
        parser, flags = build_parser(command)
        flag = f"--database-url={empty_database_url}"
        parsed = parser.parse_args([command, flag, f"--tables-file={tables}", *words])
        given = Settings.load(flags[command](parsed_args=parsed))
        return int(await load_command(command).run(given, parsed))

    return invoke


def cells(text: str) -> list[list[str]]:
    """Return the cells of a printed table, without the line below its header."""
    lines = [line for line in text.splitlines() if line.strip() and "─" not in line]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]


async def test_logs_show_the_columns_of_the_table(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run("logs", "--table=press_readings") == 0
    head, second, first = cells(capsys.readouterr().out)
    assert head == ["created_at", "source", "line", "press", "pressure", "running", "strokes"]
    assert second[1:] == ["plc-1", "A", "7", "nan", "false"]
    assert first[1:] == ["plc-1", "A", "7", "1.5", "true", "12"]
    assert first[0].startswith("2026-11-01 ")


async def test_logs_show_the_names_of_codes(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert await run("logs", "--table=robots") == 0
    head, second, first = cells(capsys.readouterr().out)
    codes = ["state", "state_name", "설명", "설명_name"]
    assert head == ["created_at", "source", *codes, "select"]
    assert first[1:] == ["r-1", "3", "IDLE", "1", "DB_ERROR"]
    assert second[1:] == ["r-1", "4", "UNREGISTERED_4"]


@pytest.mark.parametrize("words", [(), ("--table=app_logs",)])
async def test_app_logs_show_the_source_and_what_the_users_query_gives(
    run: Run, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert await run("logs", *words) == 0
    head, row = cells(capsys.readouterr().out)
    assert head == ["id", "created_at", "source", "ocr_value", "error_name", "description"]
    assert row[-2:] == ["NETWORK_ERROR", "네트워크 장애"]


@pytest.mark.parametrize("command", ["logs", "export"])
async def test_a_table_that_is_not_declared_is_refused(run: Run, command: str) -> None:
    words = ("-o", "-", "--format=csv") if command == "export" else ()
    said = r"--table=press_reading: no such table .*did you mean press_readings\?.*app_logs, press"
    with pytest.raises(UsageError, match=said):
        await run(command, "--table=press_reading", *words)


@pytest.mark.parametrize("command", ["logs", "export"])
async def test_a_table_that_is_not_there_yet_is_named(
    run: Run, tmp_path: Path, command: str
) -> None:
    write_tables(tmp_path, "tables: {new_ones: {columns: {a: {metric: a, type: bigint}}}}")
    words = ("-o", "-", "--format=csv") if command == "export" else ()
    with pytest.raises(SchemaError, match="no table new_ones yet: run `receiver migrate`"):
        await run(command, *words)


async def test_without_app_logs_the_first_table_is_shown(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tables(tmp_path, WITHOUT_LOGS)
    assert await run("logs") == 0
    assert "pressure" in capsys.readouterr().out


async def test_codes_of_any_table_are_listed_and_renamed(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run("codes", "--table=robot_states", "rename", "4", "MOVING", "it moves") == 0
    assert await run("codes", "add", "5", "LOST", "--table=robot_states") == 0
    assert await run("codes", "list", "--table=robot_states") == 0
    _, *rows = cells(capsys.readouterr().out)
    assert [row[:2] for row in rows] == [["3", "IDLE"], ["4", "MOVING"], ["5", "LOST"]]
    with pytest.raises(ErrorCodeError, match="codes --table robot_states rename 5 NAME"):
        await run("codes", "add", "5", "LOST", "--table=robot_states")
    assert await run("codes", "list") == 0
    assert "NETWORK_ERROR" in capsys.readouterr().out
    for name in ("robots", "robot_state"):
        said = f"--table={name}: no such table of codes.*robot_states.*: error_codes, robot_states"
        with pytest.raises(UsageError, match=said):
            await run("codes", "list", f"--table={name}")


async def test_a_table_of_codes_may_be_somebody_elses(
    run: Run, capsys: pytest.CaptureFixture[str], empty_database_url: str
) -> None:
    await execute(empty_database_url, "ALTER TABLE robot_states DROP COLUMN created_at")
    assert await run("codes", "list", "--table=robot_states") == 0
    assert "UNREGISTERED_4" in capsys.readouterr().out


async def test_csv_of_a_table(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "presses.csv"
    assert await run("export", "--table=press_readings", "-o", str(file), *RANGE) == 0
    with file.open(encoding="utf-8", newline="") as opened:
        first, second = csv.DictReader(opened)
    assert list(first) == [
        *("id", "created_at", "line", "press", "pressure", "running", "strokes", "source_id"),
        *("labels", "created_at_local", "time_zone"),
    ]
    assert json.loads(first["labels"]) == PRESS
    values = ("line", "press", "pressure", "running", "strokes")
    assert [first[name] for name in values] == ["A", "7", "1.5", "t", "12"]
    assert [second[name] for name in values] == ["A", "7", "NaN", "f", ""]


async def test_parquet_has_the_types_of_the_columns(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "presses.parquet"
    assert await run("export", "--table=press_readings", "-o", str(file), *RANGE) == 0
    found = pq.read_table(file)
    time = pa.timestamp("us", tz="UTC")
    assert dict(zip(found.schema.names, found.schema.types, strict=True)) == {
        "id": pa.int64(),
        "created_at": time,
        "line": pa.string(),
        "press": pa.int64(),
        "pressure": pa.float64(),
        "running": pa.bool_(),
        "strokes": pa.int64(),
        "source_id": pa.int32(),
        "labels": pa.string(),
    }
    assert found.column("strokes").to_pylist() == [12, None]
    assert math.isnan(found.column("pressure").to_pylist()[1])
    file = tmp_path / "robots.parquet"
    assert await run("export", "--table=robots", "-o", str(file), *RANGE) == 0
    robots = pq.read_table(file)
    assert robots.schema.field("state").type == pa.int32()
    assert robots.schema.field("select").type == time
    assert robots.column("state_name").to_pylist() == ["IDLE", "UNREGISTERED_4"]
    assert robots.column("state_description").to_pylist()[0] == "waits"
    assert robots.column("설명_name").to_pylist() == ["DB_ERROR", None]


async def test_columns_with_names_of_ours_and_names_too_long_stay_apart(
    empty_database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    long = "m" * 63
    columns = {
        **{name: f"{{metric: m_{name}, type: bigint}}" for name in ("labels", "state_name", "l")},
        "state": "{metric: m_state, type: code, codes: error_codes}",
        long: "{metric: m_long, type: code, codes: error_codes}",
    }
    text = "".join(f"      {name}: {entry}\n" for name, entry in columns.items())
    tables = write_tables(tmp_path, f"tables:\n  t:\n    columns:\n{text}")
    settings = make_settings(database_url=empty_database_url, tables_file=tables)
    await migrate(settings)
    file = tmp_path / "t.parquet"
    parser, _ = build_parser("export")
    parsed = parser.parse_args(["export", "-o", str(file)])
    assert await load_command("export").run(settings, parsed) == 0
    names = pq.read_schema(file).names
    assert len(set(names)) == len(names) == 13
    assert max(len(name) for name in names) == 63
    assert {"labels", "labels_2", "state_name", "state_name_2", long} <= set(names)
