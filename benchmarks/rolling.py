"""Bodies as a real Prometheus cuts them: batches that roll over targets and scrapes.

Unlike requests that repeat, each one holds other series than the one before, and each of 2.0 has a
symbol table of its own. Series are those of a common exporter: families of counters and histograms.
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
"""What Prometheus adds to each scrape."""


class Share(NamedTuple):
    """How many series a target exposes, and how many of them are kept."""

    series: int
    kept: int

    def __str__(self) -> str:
        return f"{round(100 * self.kept / self.series, 2):g} %"


# No multiple of a batch, so that no request is cut where an earlier one was.
SHARES: Final = (Share(4002, 2), Share(4002, 40), Share(4002, 4002))


def filtered(number: int, target: Labels) -> Labels:
    """Labels of one of a target's series that are not kept, sorted by name."""
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
    """What comes of a target at a scrape: rows of production lines, then what is not kept."""
    timestamp = START + scrape * INTERVAL + 137 * target
    labels = {"instance": f"10.20.0.{target}:9101", "job": "application"}
    columns = metrics_of(tables)
    for number, (metric, column) in enumerate(islice(cycle(columns.items()), share.kept)):
        line = number // len(columns)
        by_line = {**labels, "line": f"line-{line}"}
        yield {"__name__": metric, **by_line}, timestamp, value_of(column, line, scrape)
    for number in range(share.series - share.kept):
        # A third of all counters stand at zero.
        value = 0.0 if number % 3 == 0 else number * 0.37 + scrape * (number % 7)
        yield filtered(number, labels), timestamp, value
    for name in ADDED:
        yield {"__name__": name, **labels}, timestamp, float(name == "up")


def batches(
    tables: Sequence[Table], share: Share, scrapes: Iterable[int], size: int
) -> Iterator[list[Point]]:
    """The samples of all targets, scrape after scrape, in batches of one size."""
    points = (
        point
        for scrape in scrapes
        for target in range(TARGETS)
        for point in scrape_target(tables, target, scrape, share)
    )
    return bodies.batches(points, size)
