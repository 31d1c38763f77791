"""The benchmarks run; their figures are for people to judge."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import asyncpg
import psutil
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from benchmarks import bodies, pinning, raw, rolling
from benchmarks.__main__ import declared
from benchmarks.bodies import Point, message_v1, message_v2
from benchmarks.measures import MEASURES
from benchmarks.measures.common import TARGETS, Bench, store
from benchmarks.measures.storing import GOALS, WIDTHS
from benchmarks.results import Result, plot, table
from receiver.clients.capture import read_capture
from receiver.config.catalogue import built_in
from receiver.protocol.compression import decompress
from receiver.protocol.generated import remote_write_v2_pb2 as v2
from receiver.protocol.generated.remote_write_v1_pb2 import WriteRequest
from receiver.protocol.generated.remote_write_v2_pb2 import Request
from receiver.rows.tables import Table
from receiver.storage.schema.revisions import migrate
from receiver.storage.writing.settling import settle_waiting
from tests import random_rows
from tests.conftest import MakeSettings
from tests.databases import opened_database
from tests.programs import require_program

SCALE = 0.001
PAYLOADS = Path(__file__).parents[1] / "payloads"

DECLARED = """
tables:
  readings:
    labels: {line: {label: node, type: text}}
    columns:
      level: {metric: level, type: double}
      state: {metric: state, type: code, codes: states}
      read_at: {metric: read_at, type: timestamp, unit: milliseconds, required: false}
  states_alone:
    columns:
      state: {metric: state, type: bigint}
"""


@pytest.fixture
def tables_file(tmp_path: Path) -> Path:
    file = tmp_path / "tables.yaml"
    file.write_text(DECLARED, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "name",
    [
        *("decode", "split", "widths", "latency", "latency-beside", "visible", "read"),
        "read-beside",
    ],
)
async def test_a_measure_gives_ratios(name: str, database_url: str, tmp_path: Path) -> None:
    if name == "visible":
        require_program("prometheus")
    bench = Bench("PostgreSQL", database_url, SCALE)
    results = [result async for result in MEASURES[name](bench)]
    assert results
    assert all(result.ratio > 0 for result in results)
    assert all(result.case in table(results) for result in results)
    plot(results, tmp_path / "report.svg")
    assert (tmp_path / "report.svg").stat().st_size > 0


async def test_workers_have_cores_of_their_own_if_there_are_enough(
    database_url: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("takes two cores")
    server = await pinning.server_processes(database_url)
    lasting = [server[0], psutil.Process(connection.get_server_pid())]
    assert all(one in server for one in lasting)
    ended = await asyncio.create_subprocess_exec("sleep", "60")
    server.append(psutil.Process(ended.pid))
    ended.kill()
    await ended.wait()
    started = await asyncio.create_subprocess_exec("sleep", "60")
    worker = psutil.Process(started.pid)
    monkeypatch.setattr(pinning, "OTHERS", len(cores) - 1)
    with pinning.pinned([worker], server) as is_pinned:
        assert is_pinned
        assert worker.cpu_affinity() == cores[:1]
        assert all(one.cpu_affinity() == cores[1:] for one in (*lasting, psutil.Process()))
    assert worker.cpu_affinity() == psutil.Process().cpu_affinity() == cores
    monkeypatch.setattr(pinning, "OTHERS", len(cores))
    with pinning.pinned([worker], lasting) as is_pinned:
        assert not is_pinned
        assert worker.cpu_affinity() == cores
    started.kill()
    await started.wait()


def test_a_goal_is_reached_or_missed() -> None:
    more, less = Result("m", "c", "f", 1.2, "x", 1.2), Result("m", "c", "f", 1.3, "x", 1.2, True)
    assert (more.reached, less.reached, Result("m", "c", "f", 1, "x").reached) == (
        True,
        False,
        None,
    )


@pytest.mark.parametrize("name", ["decode", "split", "growth"])
async def test_a_measure_takes_any_tables(
    name: str, empty_database_url: str, make_settings: MakeSettings, tables_file: Path
) -> None:
    settings = make_settings(database_url=empty_database_url, tables_file=tables_file)
    await migrate(settings)
    bench = Bench("PostgreSQL", empty_database_url, SCALE, tables_file)
    results = [result async for result in MEASURES[name](bench)]
    assert results
    async with opened_database(settings) as database:
        # An optional sample may still wait if the others completed its row at the same time.
        await settle_waiting(database, settings.catalogue, settings.pair_timeout)
    connection = await asyncpg.connect(empty_database_url)
    stored = [
        await connection.fetchval(f"SELECT count(*) FROM {one}")
        for one in ("readings", "states_alone")
    ]
    left = await connection.fetchval("SELECT count(*) FROM pending_rows")
    rejected = await connection.fetchval("SELECT count(*) FROM rejected_samples")
    lacking = await connection.fetchval("SELECT count(*) FROM readings WHERE read_at IS NULL")
    await connection.close()
    assert stored[0] == stored[1]
    assert (stored[0] > 0) == (name != "decode")
    assert (left, rejected, lacking) == (0, 0, 0)


async def test_rows_of_one_and_of_eight_columns_have_goals(
    database_url: str, connection: asyncpg.Connection
) -> None:
    bench = Bench("PostgreSQL", database_url, SCALE)
    results = [result async for result in MEASURES["widths"](bench)]
    assert [(result.case.partition(",")[0], result.goal) for result in results] == [
        ("1 column", 1.5),
        ("8 columns", 0.5),
    ]
    for name in ("pair", *GOALS):
        # Warm-up and measurement; the pair is measured next to each of the others.
        scrapes = 2 + bench.scrapes(200) * (2 if name == "pair" else 1)
        assert await connection.fetchval(f"SELECT count(*) FROM {name}") == TARGETS * scrapes


async def test_copied_rows_are_those_that_are_sent(
    empty_database_url: str, make_settings: MakeSettings
) -> None:
    """Otherwise the limit of storing would be measured with different rows."""
    await migrate(make_settings(database_url=empty_database_url, tables_file=WIDTHS))
    bench = Bench("PostgreSQL", empty_database_url, SCALE, WIDTHS)
    with bench.receiver() as subject:
        await store(subject, bench.tables, range(2), 1)
        connection = await asyncpg.connect(empty_database_url)
        for one in bench.tables:
            # The ids of sources depend on their order of arrival.
            columns = ", ".join(["created_at", *(column.name for column in one.columns)])
            read = f"SELECT {columns} FROM {one.name} ORDER BY {columns}"
            sent = await connection.fetch(read)
            await connection.execute(f"TRUNCATE {one.name}")
            await raw.copy(empty_database_url, [one], range(2), TARGETS)
            assert await connection.fetch(read) == sent
            assert len(sent) == 2 * TARGETS
        await connection.close()


def test_a_tables_file_is_checked_before_anything_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "tables.yaml"
    for content, said in (
        (DECLARED.replace("double", "float"), "did you mean double"),
        (DECLARED.replace("labels:", "match: {job: x}\n    labels:"), "readings: without `match`"),
    ):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(ArgumentTypeError, match=said):
            declared(str(file))
    file.write_text(DECLARED, encoding="utf-8")
    assert declared(str(file)) == file


@pytest.mark.parametrize("arguments", [["--help"], ["nothing"]])
def test_the_command_names_the_measures(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    answer = subprocess.run(command, check=False, capture_output=True, text=True)
    assert answer.returncode == (0 if arguments == ["--help"] else 2)
    assert "widths" in answer.stdout + answer.stderr


@hypothesis_settings(max_examples=100)
@given(random_rows.tables(), st.integers(0, 2000), st.integers(0, 10**6))
def test_every_column_takes_what_is_sent(one: Table, target: int, scrape: int) -> None:
    for column in one.columns:
        assert column.check(bodies.value_of(column, target, scrape)) is None


class Shape(NamedTuple):
    """The properties of a request of rolling batches."""

    series: int
    kept: int
    timestamps: int
    zeros: int
    label_names: Counter[tuple[str, ...]]


def shape_of(message: WriteRequest | Request) -> Shape:
    names: list[tuple[str, ...]] = []
    metrics: list[str] = []
    for one in message.timeseries:
        if isinstance(one, v2.TimeSeries):
            assert isinstance(message, Request)
            assert one.HasField("metadata")
            assert not one.metadata.ListFields()
            texts = [message.symbols[ref] for ref in one.labels_refs]
        else:
            texts = [text for label in one.labels for text in (label.name, label.value)]
        names.append(tuple(texts[::2]))
        metrics.append(texts[1])
    points = [point for one in message.timeseries for point in one.samples]
    assert len(points) == len(metrics)
    return Shape(
        len(metrics),
        metrics.count("app_status") + metrics.count("ocr_value"),
        len({point.timestamp for point in points}),
        sum(point.value == 0 for point in points),
        Counter(names),
    )


@pytest.mark.parametrize(
    ("version", "parse", "encode"),
    [("v1", WriteRequest.FromString, message_v1), ("v2", Request.FromString, message_v2)],
)
def test_rolling_batches_are_like_those_of_a_real_prometheus(
    version: str,
    parse: Callable[[bytes], WriteRequest | Request],
    encode: Callable[[Iterable[Point]], bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    captured = list(read_capture(PAYLOADS / f"prometheus-3.14.0-rolling-{version}.jsonl"))
    monkeypatch.setattr(rolling, "TARGETS", 4)
    batches = rolling.batches(built_in().tables, rolling.Share(402, 2), range(3), 200)
    made = [encode(batch) for batch in batches][: len(captured)]
    # Prometheus decides which target is scraped first, so requests may have different values.
    for request, own in zip(captured, made, strict=True):
        message = decompress(request.body)
        real, ours = parse(message), parse(own)
        expected, found = shape_of(real), shape_of(ours)
        assert found[:3] == expected[:3]
        assert found.zeros == pytest.approx(expected.zeros, abs=12)
        assert found.label_names == expected.label_names
        assert len(own) == pytest.approx(len(message), rel=0.03)
        assert len(bodies.body(own)) == pytest.approx(len(request.body), rel=0.1)
        if isinstance(real, Request):
            assert isinstance(ours, Request)
            assert len(ours.symbols) == pytest.approx(len(real.symbols), rel=0.1)
            for one in (real, ours):
                used = dict.fromkeys(ref for some in one.timeseries for ref in some.labels_refs)
                assert list(used) == list(range(1, len(one.symbols)))


def test_a_firehose_has_as_many_series_as_were_asked_for() -> None:
    points = bodies.mixed(built_in().tables, 2000, 20, 0)
    names = [labels["__name__"] for labels, _, _ in points]
    assert len(points) == 2000
    assert (names.count("app_status"), names.count("ocr_value")) == (10, 10)
