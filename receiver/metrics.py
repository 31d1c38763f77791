"""What `/metrics` tells about the receiver itself."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from receiver import __version__

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


class Metrics:
    """The receiver's own metrics, in a registry of their own.

    Args:
        shared: The directory through which the workers of one receiver share their metrics, if
            there are several. The library must have found it in its environment when it was
            imported.
    """

    def __init__(self, shared: Path | None = None) -> None:
        self._shared = shared
        registry = self._registry = CollectorRegistry()
        if shared is None:
            for collector in (ProcessCollector, PlatformCollector, GCCollector):
                collector(registry=registry)
        self.requests = Counter(
            "receiver_requests", "Write requests, by HTTP status.", ["code"], registry=registry
        )
        self.samples = Counter(
            "receiver_samples",
            "Samples received, by what became of them: accepted, filtered, stale or rejected.",
            ["outcome"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "receiver_request_duration_seconds",
            "Time from the headers of a write request to its answer.",
            registry=registry,
        )
        self.in_flight = Gauge(
            "receiver_requests_in_flight",
            "Write requests under way.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        info = Gauge(
            "receiver_build_info",
            "The version.",
            ["version"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        info.labels(__version__).set(1)

    def expose(self) -> bytes:
        """All metrics in Prometheus' text format, of all workers together."""
        if self._shared is None:
            return generate_latest(self._registry)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone, str(self._shared))  # type: ignore[no-untyped-call]
        return generate_latest(everyone)
