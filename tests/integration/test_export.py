"""Exports match the stored rows, to the microsecond."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import resource
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.commands.cli import build_parser, load_command
from receiver.commands.export import require_pyarrow
from receiver.config.settings import Settings
from receiver.errors import RefusedByDatabaseError, SetupError
from receiver.storage.reading import exporting
from receiver.storage.reading.exported import select_as_text
from receiver.storage.reading.exporting import IncompleteExportError
from tests.roles import execute

FIRST = datetime(2026, 11, 1, 9, 0, 0, 1, tzinfo=UTC)
ROWS = 250
COLUMNS = (
    *("id", "created_at", "app_status", "error_name", "description", "ocr_value", "source_id"),
    "labels",
)
COLUMNS_OF_CSV = (*COLUMNS, "created_at_local", "time_zone")

FILL = """
INSERT INTO sources (labels, digest)
SELECT jsonb_build_object('instance', 'app-' || n, 'job', '검사, "따옴표"'), n::text::bytea
FROM generate_series(1, 2) AS n;
INSERT INTO error_codes (code, name, description) VALUES (7, E'LENS\\nDIRTY', NULL);
INSERT INTO app_logs (created_at, app_status, ocr_value, source_id)
SELECT TIMESTAMPTZ '2026-11-01 09:00:00.000001Z' + n * INTERVAL '1 second',
    CASE WHEN n % 3 = 0 THEN 7 ELSE 0 END,
    TIMESTAMPTZ '50000-01-01 00:00:00Z' + n * INTERVAL '1 microsecond', 1 + n % 2
FROM generate_series(0, 249) AS n;
"""
RANGE = ("--start=2026-11-01T09:00:00Z", "--end=2026-11-01T10:00:00Z")

Export = Callable[..., Awaitable[int]]


@pytest.fixture
async def export(database_url: str) -> Export:
    connection = await asyncpg.connect(database_url)
    await connection.execute(FILL)
    await connection.close()

    async def run(*words: str) -> int:
        parser, flags = build_parser("export")
        parsed = parser.parse_args(["export", f"--database-url={database_url}", *words])
        settings = Settings.load(flags["export"](parsed_args=parsed))
        return int(await load_command("export").run(settings, parsed))

    return run


def expected(number: int) -> dict[str, Any]:
    """Return the row of this number, without its OCR value, which no datetime can represent."""
    return {
        "id": number + 1,
        "created_at": FIRST + timedelta(seconds=number),
        "app_status": 0 if number % 3 else 7,
        "error_name": "OK" if number % 3 else "LENS\nDIRTY",
        "description": "정상 상태" if number % 3 else None,
        "source_id": 1 + number % 2,
        "labels": {"instance": f"app-{1 + number % 2}", "job": '검사, "따옴표"'},
    }


def read_ids(file: Path) -> list[int]:
    """Return the ids of the rows in a file."""
    if file.suffix == ".parquet":
        return [int(value) for value in pq.read_table(file).column("id").to_pylist()]
    with file.open(encoding="utf-8", newline="") as opened:
        return [int(row["id"]) for row in csv.DictReader(opened)]


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def test_csv(export: Export, tmp_path: Path) -> None:
    file = tmp_path / "logs.csv"
    assert await export("-o", str(file), *RANGE) == 0
    with file.open(encoding="utf-8", newline="") as opened:
        found = list(csv.DictReader(opened))
    assert tuple(found[0]) == COLUMNS_OF_CSV
    for number, row in enumerate(found):
        assert row.pop("time_zone") == "UTC"
        # In the date format that Excel recognizes.
        local = FIRST + timedelta(seconds=number)
        assert row.pop("created_at_local") == f"{local:%Y-%m-%d %H:%M:%S}"
        fraction = f".{number:06}".rstrip("0").rstrip(".")
        assert row.pop("ocr_value") == f"50000-01-01 00:00:00{fraction}+00"
        assert {
            **row,
            "id": int(row["id"]),
            "created_at": datetime.fromisoformat(row["created_at"]),
            "app_status": int(row["app_status"]),
            "description": row["description"] or None,
            "source_id": int(row["source_id"]),
            "labels": json.loads(row["labels"]),
        } == expected(number)
    assert len(found) == ROWS
    assert names(tmp_path) == ["logs.csv"]


TIMES = (
    "-infinity",
    "0044-03-15 12:00:00Z BC",
    "0001-01-01 00:00:00Z",
    "2026-11-01 09:00:00Z",
    "2026-11-01 09:00:00.5+09",
    "2026-11-01 09:00:00.123456Z",
    "9999-12-31 23:59:59.999999Z",
    "10000-01-01 00:00:00Z",
    "infinity",
)


async def test_times_that_parquet_cannot_hold_are_null(
    export: Export, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    await insert_times(connection)
    assert await export("-o", str(tmp_path / "logs.parquet"), *RANGE) == 0
    found = pq.read_table(tmp_path / "logs.parquet").column("ocr_value")
    assert [time.is_valid for time in found] == [t not in {"infinity", "-infinity"} for t in TIMES]


async def insert_times(connection: asyncpg.Connection) -> None:
    """Replace the rows with one for each of the times, half a second apart."""
    await connection.execute("TRUNCATE app_logs")
    # As values, since not all of them are allowed as the time of a row.
    await connection.execute(
        "INSERT INTO app_logs (created_at, app_status, ocr_value, source_id) "
        "SELECT '2026-11-01 09:00Z'::timestamptz + n * INTERVAL '0.5 s', 0, t::timestamptz, 1 "
        "FROM unnest($1::text[]) WITH ORDINALITY AS given (t, n)",
        TIMES,
    )


async def test_times_are_alike_and_come_back_by_copy(
    export: Export, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    file = tmp_path / "logs.csv"
    await connection.execute("UPDATE report_settings SET time_zone = 'Asia/Seoul'")
    await insert_times(connection)
    assert await export("-o", str(file), *RANGE) == 0
    with file.open(encoding="utf-8", newline="") as opened:
        found = list(csv.DictReader(opened))
    assert {len(row["created_at"]) for row in found} == {len("2026-11-01T09:00:00.500000+00:00")}
    assert [row["ocr_value"] for row in found[2:7]] == [
        "0001-01-01T00:00:00.000000+00:00",
        "2026-11-01T09:00:00.000000+00:00",
        "2026-11-01T00:00:00.500000+00:00",
        "2026-11-01T09:00:00.123456+00:00",
        "9999-12-31T23:59:59.999999+00:00",
    ]
    for row in found:
        at = datetime.fromisoformat(row["created_at"])
        local = datetime.fromisoformat(f"{row['created_at_local']}+09:00")
        assert (at.utcoffset(), row["time_zone"]) == (timedelta(0), "Asia/Seoul")
        assert local == at.replace(microsecond=0)
    await connection.execute(
        "CREATE TABLE again (id BIGINT, created_at TIMESTAMPTZ, app_status INT, error_name TEXT, "
        "description TEXT, ocr_value TIMESTAMPTZ, source_id INT, labels JSONB, "
        "created_at_local TIMESTAMP, time_zone TEXT)"
    )
    await connection.copy_to_table("again", source=file, format="csv", header=True)
    same = "SELECT count(*) FROM again JOIN app_logs USING (id, created_at, ocr_value, source_id)"
    assert await connection.fetchval(same) == len(TIMES)


async def test_without_the_calendar_local_times_are_utc(
    export: Export, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    file = tmp_path / "logs.csv"
    await connection.execute("ALTER TABLE report_settings RENAME TO of_somebody_else")
    assert await export("-o", str(file), *RANGE) == 0
    with file.open(encoding="utf-8", newline="") as opened:
        assert {row["time_zone"] for row in csv.DictReader(opened)} == {"UTC"}


async def test_parquet_in_row_groups(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "AT_ONCE", 100)
    file = tmp_path / "logs.parquet"
    assert await export("-o", str(file), *RANGE) == 0
    assert pq.ParquetFile(file).num_row_groups == 3
    table = pq.read_table(file)
    assert table.column_names == list(COLUMNS)
    ocr_values = table.column("ocr_value").cast("int64").to_pylist()
    assert [value - ocr_values[0] for value in ocr_values] == list(range(ROWS))
    # 120 times 400 years after 2000-01-01, which is day 10957.
    assert ocr_values[0] == (120 * 146_097 + 10_957) * 86_400_000_000
    for number, row in enumerate(table.drop_columns(["ocr_value"]).to_pylist()):
        assert {**row, "labels": json.loads(row["labels"])} == expected(number)


async def test_only_matching_sources_and_the_range_without_its_end(
    export: Export, tmp_path: Path
) -> None:
    file = tmp_path / "some"
    end = (FIRST + timedelta(seconds=10)).isoformat()
    words = ("--format=csv", "--match=instance=app-2", RANGE[0], f"--end={end}")
    assert await export("-o", str(file), *words) == 0
    with file.open(encoding="utf-8", newline="") as opened:
        assert [row["id"] for row in csv.DictReader(opened)] == ["2", "4", "6", "8", "10"]


async def test_nothing_is_a_whole_file_too(
    export: Export, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("none.csv", "none.parquet"):
        assert await export("-o", str(tmp_path / name), "--match=instance=none", *RANGE) == 0
        assert "0 rows: no source has instance=none" in capfd.readouterr().err
    assert (tmp_path / "none.csv").read_text().strip() == ",".join(COLUMNS_OF_CSV)
    assert pq.read_table(tmp_path / "none.parquet").column_names == list(COLUMNS)


async def test_standard_output_gets_csv(export: Export, capfd: pytest.CaptureFixture[str]) -> None:
    assert await export("-o", "-", *RANGE) == 0
    assert capfd.readouterr().out.startswith(",".join(COLUMNS_OF_CSV))


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.commands.export.find_spec", lambda _: None)
    with pytest.raises(SetupError, match=r"pip install 'receiver\[parquet\]'"):
        require_pyarrow()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-o", "logs.txt"), "choose with --format"),
        (("-o", "missing/logs.csv"), "cannot write missing/logs.csv"),
        (("-o", "logs.csv", "--start=1h", "--end=2h"), r"--start .* must lie before --end"),
        (("-o", "logs.csv", "--start=1h", "--end=1h"), r"--start .* must lie before --end"),
        (("-o", "/dev/full", "--format=csv", *RANGE), "/dev/full: No space left on device"),
        (("-o", "/dev/full", "--format=parquet", *RANGE), "/dev/full: No space left on device"),
        (("-o", "/", "--format=csv", *RANGE), "cannot write /: Is a directory"),
    ],
)
async def test_what_cannot_be_written_is_said(
    export: Export, words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SetupError, match=said):
        await export(*words)


@pytest.mark.parametrize("time", ["then", "0001-01-01T00:00:00+23:59", "2001y", "", "\x1b"])
async def test_what_is_no_time_is_refused(
    export: Export, time: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        await export("-o", "logs.csv", f"--start={time}")
    assert ended.value.code == 2
    assert "--start: must be a time such as 2026-11-01T00:00:00Z" in capsys.readouterr().err


async def test_a_file_that_was_not_finished_does_not_appear(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "logs.csv"
    file.write_text("before")
    monkeypatch.setattr(
        exporting,
        "select_as_text",
        lambda table: f"SELECT 1 / (9 - id) FROM ({select_as_text(table)}) AS logs",
    )
    with pytest.raises(RefusedByDatabaseError, match="division by zero"):
        await export("-o", str(file), *RANGE)
    assert file.read_text() == "before"
    assert names(tmp_path) == ["logs.csv"]


# Reading a row of app_logs raises a message.
NOISY = """
CREATE FUNCTION noisy(id BIGINT) RETURNS BIGINT LANGUAGE plpgsql AS $$
BEGIN RAISE {} 'row %', id; RETURN id; END $$;
ALTER TABLE app_logs RENAME TO app_logs_of_before;
CREATE VIEW app_logs AS
SELECT noisy(id) AS id, created_at, app_status, ocr_value, source_id FROM app_logs_of_before;
"""


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("level", ["NOTICE", "WARNING"])
async def test_notices_displace_no_row(
    export: Export, database_url: str, tmp_path: Path, kind: str, level: str
) -> None:
    await execute(database_url, NOISY.format(level))
    file = tmp_path / f"logs.{kind}"
    assert await export("-o", str(file), *RANGE) == 0
    assert read_ids(file) == list(range(1, ROWS + 1))


async def test_what_no_setting_silences_loses_no_row_unseen(
    export: Export, database_url: str, tmp_path: Path
) -> None:
    """INFO is sent to every session."""
    await execute(database_url, NOISY.format("INFO"))
    file = tmp_path / "logs.csv"
    file.write_text("before")
    with pytest.raises(IncompleteExportError, match=f"of the {ROWS} rows that the database sent"):
        await export("-o", str(file), *RANGE)
    assert file.read_text() == "before"
    assert names(tmp_path) == ["logs.csv"]
    whole = tmp_path / "logs.parquet"
    assert await export("-o", str(whole), *RANGE) == 0
    assert read_ids(whole) == list(range(1, ROWS + 1))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
async def test_a_full_disk_leaves_nothing(export: Export, tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"logs.{kind}"
    file.write_text("before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
    try:
        with pytest.raises(SetupError, match=f"cannot write {file}: File too large"):
            await export("-o", str(file), *RANGE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_text() == "before"
    assert names(tmp_path) == [file.name]


async def test_no_link_is_followed(export: Export, tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "logs.csv"
    victim.write_text("mine")
    link.symlink_to(victim)
    # As an attacker with write access to the directory could place it.
    (tmp_path / ".logs.csv.unfinished").symlink_to(victim)
    with pytest.raises(SetupError, match="is a symbolic link"):
        await export("-o", str(link), *RANGE)
    link.unlink()
    assert await export("-o", str(link), *RANGE) == 0
    assert victim.read_text() == "mine"
    assert len(link.read_bytes()) > 1000


async def test_a_pipe_is_written_to(export: Export, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = asyncio.create_task(asyncio.to_thread(pipe.read_text))
    assert await export("-o", str(pipe), "--format=csv", *RANGE) == 0
    assert (await reader).startswith("id,created_at,")
    assert pipe.is_fifo()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_standard_output_that_takes_nothing_is_one_line(database_url: str, kind: str) -> None:
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            [*(sys.executable, "-m", "receiver", "export", "-o", "-", f"--format={kind}"), *RANGE],
            env={**os.environ, "RECEIVER_DATABASE_URL": database_url},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    said = "receiver: cannot write standard output: No space left on device\n"
    assert (ran.returncode, ran.stderr) == (1, said)


fields = st.text(alphabet='a,"\n\r \\', max_size=6)


@given(st.lists(st.lists(fields, min_size=2, max_size=3)), st.integers(1, 7))
def test_records_are_counted_however_they_come(records: list[list[str]], size: int) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(records)
    data = text.getvalue().encode()
    counter = exporting.RecordCounter()
    for start in range(0, len(data), size):
        counter.count(data[start : start + size])
    assert counter.records == len(records)
