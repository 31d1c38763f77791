"""Makes batches that roll over targets and scrapes, as those of a real Prometheus do.

Each request holds other series than the one before, and each 2.0 request has its own symbol table.
The series are those of a common exporter: families of counters and histograms.
tests/integration/test_benchmarks.py compares the batches with those that a real Prometheus sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle, islice
from typing import Final, NamedTuple

from benchmarks import bodies
from benchmarks.bodies import INTERVAL, START, Labels, Point, metrics_of, value_of
from receiver.rows.tables import Table

TARGETS: Final = 8
HANDLERS: Final = 4
BUCKETS: Final = ("0.005", "0.01", "0.05", "0.1", "0.5", "1", "5", "+Inf")
ADDED: Final = (
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
)
"""Metrics that Prometheus adds to each scrape."""


class Share(NamedTuple):
    """The number of series that a target exposes, and how many of them are kept."""

    series: int
    kept: int

    def __str__(self) -> str:
        return f"{round(100 * self.kept / self.series, 2):g} %"


# Not a multiple of the batch size, so that no request begins where an earlier one did.
SHARES: Final = (Share(4002, 2), Share(4002, 40), Share(4002, 4002))


def filtered(number: int, target: Labels) -> Labels:
    """Return the labels of one of a target's filtered series, sorted by name."""
    family, place = divmod(number, HANDLERS * len(BUCKETS))
    handler, bucket = divmod(place, len(BUCKETS))
    name = f"service_{family}"
    if family % 3 == 0:
        return {"__name__": f"{name}_bytes", "device": f"device-{number}", **target}
    by_handler = {"handler": f"/api/v1/{handler}", **target}
    if family % 3 == 1:
        code = str(200 + bucket)
        return {"__name__": f"{name}_requests_total", "code": code, **by_handler, "method": "get"}
    return {"__name__": f"{name}_seconds_bucket", **by_handler, "le": BUCKETS[bucket]}


def scrape_target(
    tables: Sequence[Table], target: int, scrape: int, share: Share
) -> Iterator[Point]:
    """Yield the samples of a target at a scrape: rows of production lines, then filtered series."""
    timestamp = START + scrape * INTERVAL + 137 * target
    labels = {"instance": f"10.20.0.{target}:9101", "job": "application"}
    columns = metrics_of(tables)
    for number, (metric, column) in enumerate(islice(cycle(columns.items()), share.kept)):
        line = number // len(columns)
        by_line = {**labels, "line": f"line-{line}"}
        yield {"__name__": metric, **by_line}, timestamp, value_of(column, line, scrape)
    for number in range(share.series - share.kept):
        # A third of all counters are zero.
        value = 0.0 if number % 3 == 0 else number * 0.37 + scrape * (number % 7)
        yield filtered(number, labels), timestamp, value
    for name in ADDED:
        yield {"__name__": name, **labels}, timestamp, float(name == "up")


def batches(
    tables: Sequence[Table], share: Share, scrapes: Iterable[int], size: int
) -> Iterator[list[Point]]:
    """Yield the samples of all targets, scrape by scrape, in batches of `size`."""
    points = (
        point
        for scrape in scrapes
        for target in range(TARGETS)
        for point in scrape_target(tables, target, scrape, share)
    )
    return bodies.batches(points, size)
