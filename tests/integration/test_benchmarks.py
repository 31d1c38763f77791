"""The benchmarks run; their figures are for people to judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import bodies
from benchmarks.measures import MEASURES
from benchmarks.measures.common import Bench
from benchmarks.results import Result, plot, table
from tests.programs import require_program

SCALE = 0.001


@pytest.mark.parametrize("name", ["decode", "split", "latency", "visible"])
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


def test_a_goal_is_reached_or_missed() -> None:
    more, less = Result("m", "c", "f", 1.2, "x", 1.2), Result("m", "c", "f", 1.3, "x", 1.2, True)
    assert (more.reached, less.reached, Result("m", "c", "f", 1, "x").reached) == (
        True,
        False,
        None,
    )


def test_a_firehose_has_as_many_series_as_were_asked_for() -> None:
    points = bodies.mixed(2000, 20, 0)
    names = [labels["__name__"] for labels, _, _ in points]
    assert len(points) == 2000
    assert (names.count("app_status"), names.count("ocr_value")) == (10, 10)
