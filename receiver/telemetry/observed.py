"""Metrics of the database's content.

They are collected at each scrape rather than set, so that the series of removed sources disappear,
which the files of prometheus_client's multiprocess mode do not support.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from receiver.rows.model import Newest, Observed


class ObservedCollector(Collector):
    """Collects the values that were read last; none before the first reading."""

    def __init__(self) -> None:
        self._observed: Observed | None = None
        self._at = 0.0

    def take(self, observed: Observed) -> None:
        """Set the values to collect."""
        self._observed, self._at = observed, time.monotonic()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the metrics."""
        observed = self._observed
        if observed is None:
            return
        some_wait = any(observed.pending.values())
        waited = observed.oldest + time.monotonic() - self._at if some_wait else 0
        yield pending_rows(observed.pending)
        for name, meaning, value in (
            (
                "receiver_pending_oldest_age_seconds",
                "How long the oldest incomplete row has waited for its missing samples.",
                waited,
            ),
            ("receiver_sources", "Number of stored label sets.", observed.sources),
            (
                "receiver_sources_unlisted",
                "Number of sources beyond the limit, which have no metric of their newest row.",
                observed.unlisted,
            ),
        ):
            yield GaugeMetricFamily(name, meaning, value)
        yield newest_samples(observed.newest)


def pending_rows(pending: dict[str, int]) -> GaugeMetricFamily:
    """Return the metric of the number of incomplete rows of each table."""
    family = GaugeMetricFamily(
        "receiver_pending_rows",
        "Incomplete rows that wait for their missing samples, by table.",
        labels=["table"],
    )
    for table, count in pending.items():
        family.add_metric([table], count)
    return family


def newest_samples(newest: list[Newest]) -> GaugeMetricFamily:
    """Return the metric of each source's newest row."""
    family = GaugeMetricFamily(
        "receiver_source_newest_sample_timestamp_seconds",
        "Timestamp of the newest row of each source, leaving out rows in the future.",
        labels=["table", "source_id", "source_job", "source_instance"],
    )
    for table, source_id, job, instance, timestamp in newest:
        family.add_metric([table, str(source_id), job, instance], timestamp)
    return family
