"""All PromQL functions give the same results by remote read as from Prometheus' own storage."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from receiver.http.paths import READ
from tests.conftest import MakeSettings
from tests.end_to_end.querying import ALONE, READS, Queried, make_blocks, queried
from tests.programs import require_program
from tests.receivers import Point, receiving
from tests.tables import write_tables

pytestmark = pytest.mark.end_to_end

TABLES = """
tables:
  presses:
    columns:
      temperature: {metric: press_celsius, type: double, special: true}
      strokes: {metric: press_strokes_total, type: bigint, required: false}
      running: {metric: press_running, type: boolean, required: false}
      opened: {metric: press_opened, type: timestamp, required: false}
  cycles:
    columns:
      cycle: {metric: press_cycle_seconds_bucket, type: bigint}
  owners:
    columns:
      owned: {metric: press_owner_info, type: double}
"""
START = 1_700_000_000
MINUTES = 90
END = START + 60 * MINUTES
INTERVAL = 15_000
OWNERS = {"p-1": "kim", "p-2": "lee", "p-3": "kim"}
BOUNDS = ("0.5", "1", "2", "+Inf")
BY_SERIES = (
    "press_celsius",
    "press_celsius == press_celsius",
    "press_celsius > 20 < +Inf",
    "-press_strokes_total % 7 ^ 2",
    "rate(press_strokes_total[5m])",
    "increase(press_strokes_total[10m])",
    "irate(press_strokes_total[2m])",
    "resets(press_strokes_total[30m])",
    "delta(press_celsius{press!='p-3'}[10m])",
    "idelta(press_celsius[1m])",
    "deriv(press_celsius[10m])",
    "predict_linear(press_celsius[10m], 600)",
    "changes(press_running[20m])",
    "avg_over_time(press_running[20m])",
    "min_over_time(press_celsius[5m])",
    "max_over_time(press_celsius[5m])",
    "sum_over_time(press_celsius[5m])",
    "count_over_time(press_running[5m])",
    "stddev_over_time(press_celsius[5m])",
    "stdvar_over_time(press_strokes_total[5m])",
    "last_over_time(press_running[30m])",
    "present_over_time(press_running[1m])",
    "quantile_over_time(0.25, press_celsius[10m])",
    "absent(press_celsius{press='p-9'})",
    "absent_over_time(press_running{press='p-2'}[3m])",
    "press_celsius offset 7m",
    "press_celsius offset -7m",
    "press_strokes_total @ 1700002000",
    "press_strokes_total - press_strokes_total @ start()",
    "rate(press_strokes_total[5m] @ end() offset 10m)",
    "max_over_time(rate(press_strokes_total[2m])[20m:30s])",
    "min_over_time(avg_over_time(press_celsius[1m])[10m:1m] offset 3m)",
    "sum_over_time(increase(press_strokes_total[1m])[15m:45s] @ 1700003600)",
    "press_strokes_total * on(press) group_left(owner) press_owner_info",
    "press_owner_info + on(press) group_right(owner) press_running",
    "press_celsius / ignoring(unit) press_strokes_total",
    "press_celsius and on(press) press_running == 1",
    "press_celsius unless on(press) press_running == 1",
    "press_running or press_celsius",
    "press_running == bool 1",
    'label_replace(press_running, "number", "$1", "press", "p-(.*)")',
    'label_join(press_running, "both", "-", "press", "line")',
    "timestamp(press_celsius)",
    "time() - press_opened",
    "hour(press_opened) + day_of_week(press_opened) * 100",
    "clamp(round(press_celsius, 0.5), 10, 30)",
    "scalar(press_celsius{press='p-1'}) * press_running",
    "histogram_quantile(0.9, rate(press_cycle_seconds_bucket[10m]))",
    '{__name__=~"press_(running|celsius)", press!~"p-2|p-3"}',
    '{press=~"p-.", __name__!~".*(bucket|info)", unit=""}',
)
"""Each value comes from one series, or from two, so that it is the same to the last bit."""
ACROSS_SERIES = (
    "count(press_celsius)",
    "sum by (line) (rate(press_strokes_total[5m]))",
    "avg without (press) (press_running)",
    "min by (line) (press_celsius)",
    "max(press_strokes_total)",
    "group by (line) (press_running)",
    "stddev(press_strokes_total)",
    "stdvar by (line) (press_strokes_total)",
    "quantile(0.75, press_strokes_total)",
    'count_values("state", press_running)',
    "topk by (line) (1, press_strokes_total)",
    "bottomk(2, rate(press_strokes_total[10m]))",
    "sum by (owner) (press_running * on(press) group_left(owner) press_owner_info)",
    "histogram_quantile(0.5, sum by (le) (rate(press_cycle_seconds_bucket[5m])))",
    "sum(avg_over_time(press_running[10m])) / count(press_owner_info)",
    "avg_over_time(sum(press_strokes_total)[10m:1m])",
)
"""Sums differ by the order in which series come."""
RAW = (
    "press_celsius[90m]",
    "press_strokes_total[45m] offset 20m",
    "press_running[1h]",
    'press_cycle_seconds_bucket{le="+Inf"}[30m]',
    '{press="p-2"}[90m]',
)


class Both(NamedTuple):
    """Two Prometheus servers with the same samples."""

    local: Queried
    """Has them in its own storage."""
    remote: Queried
    """Reads them from the receiver."""


@pytest.fixture
async def both(
    database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> AsyncIterator[Both]:
    require_program("prometheus")
    points = sorted(history(), key=lambda point: point[1])
    async with AsyncExitStack() as stack:
        tables = write_tables(tmp_path, TABLES)
        settings = make_settings(database_url=database_url, tables_file=tables)
        receiver = await stack.enter_async_context(receiving(settings))
        for begin in range(0, len(points), 5_000):
            await receiver.send(*points[begin : begin + 5_000])
        await make_blocks(tmp_path, points)
        reads = READS.format(read=receiver.url(READ))
        yield Both(
            await stack.enter_async_context(queried(tmp_path / "local", ALONE)),
            await stack.enter_async_context(queried(tmp_path / "remote", reads)),
        )


def history() -> Iterator[Point]:
    """Yield samples with counter resets, gaps, late starts, NaNs and infinities."""
    random = Random(18)
    for number, (press, owner) in enumerate(OWNERS.items()):
        source = {"press": press, "line": "AAB"[number], "site": "seoul"}
        strokes, buckets = 0, dict.fromkeys(BOUNDS, 0)
        for place in range(MINUTES * 60_000 // INTERVAL):
            at = 1000 * START + place * INTERVAL + random.randrange(500)
            # One series pauses for longer than PromQL's lookback, and one begins late.
            if (press == "p-2" and 100 < place < 140) or (press == "p-3" and place < 60):
                continue
            strokes = 0 if random.random() < 0.02 else strokes + random.randrange(9)
            celsius = round(random.gauss(20, 5), 3)
            if press == "p-3":
                celsius = random.choice([math.nan, math.inf, -math.inf, 0.0, -0.0, celsius])
            values = {"celsius": celsius, "strokes_total": float(strokes)}
            if random.random() < 0.9:
                values["running"] = float(random.random() < 0.7)
            if place % 40 == 0:
                values["opened"] = START + place * 15.25
            yield from (
                ({**source, "__name__": f"press_{name}"}, at, values[name]) for name in values
            )
            yield {**source, "owner": owner, "__name__": "press_owner_info"}, at, 1.0
            for bound in BOUNDS[random.randrange(len(BOUNDS)) :]:
                buckets[bound] += 1
            for bound, count in buckets.items():
                labels = {**source, "le": bound, "__name__": "press_cycle_seconds_bucket"}
                yield labels, at, float(count)


async def test_raw_samples(both: Both) -> None:
    for selector in RAW:
        wanted = await both.local.query(selector, END)
        assert wanted, f"{selector} finds nothing"
        assert await both.remote.query(selector, END) == wanted, selector


async def test_functions_of_a_series(both: Both) -> None:
    for expression, step in product(BY_SERIES, (15, 200)):
        steps = (expression, START + 300, END, step)
        wanted = await both.local.query_range(*steps)
        assert wanted, f"{expression} finds nothing"
        assert await both.remote.query_range(*steps) == wanted, expression


async def test_functions_across_series(both: Both) -> None:
    for expression in ACROSS_SERIES:
        steps = (expression, START, END, 60)
        wanted = numbers(await both.local.query_range(*steps))
        assert wanted, f"{expression} finds nothing"
        found = numbers(await both.remote.query_range(*steps))
        assert found.keys() == wanted.keys(), expression
        for labels, samples in wanted.items():
            assert found[labels] == pytest.approx(samples, rel=1e-12, nan_ok=True), expression


def numbers(result: Any) -> dict[str, dict[float, float]]:  # noqa: ANN401  JSON
    """Return the samples of each series, by time."""
    return {
        str(sorted(series["metric"].items())): {at: float(text) for at, text in series["values"]}
        for series in result
    }
