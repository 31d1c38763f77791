"""Metrics of what the database holds.

They are made anew for each scrape rather than set: a source that is gone has none any more, which
prometheus_client's files for several processes do not allow for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from receiver.rows.model import Newest, Observed


class ObservedCollector(Collector):
    """Tells what was seen last; nothing, as long as nothing was seen."""

    def __init__(self) -> None:
        self._observed: Observed | None = None
        self._at = 0.0

    def take(self, observed: Observed) -> None:
        """Remember what was seen just now."""
        self._observed, self._at = observed, time.monotonic()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metrics."""
        observed = self._observed
        if observed is None:
            return
        waited = observed.oldest + time.monotonic() - self._at if observed.pending else 0
        for name, meaning, value in (
            (
                "receiver_pending_halves",
                "Samples that wait for the other sample of their row.",
                observed.pending,
            ),
            ("receiver_pending_oldest_age_seconds", "How long the first one has waited.", waited),
            ("receiver_sources", "Label sets that have ever come.", observed.sources),
            ("receiver_sources_unlisted", "Sources too many to be watched.", observed.unlisted),
        ):
            yield GaugeMetricFamily(name, meaning, value)
        yield newest_samples(observed.newest)


def newest_samples(newest: list[Newest]) -> GaugeMetricFamily:
    """The time of each source's newest row."""
    family = GaugeMetricFamily(
        "receiver_source_newest_sample_timestamp_seconds",
        "Timestamp of the newest row of each source that does not lie in the future.",
        labels=["source_id", "source_job", "source_instance"],
    )
    for source_id, job, instance, timestamp in newest:
        family.add_metric([str(source_id), job, instance], timestamp)
    return family
