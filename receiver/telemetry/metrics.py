"""The receiver's own metrics; docs/metrics.md explains each of them.

Counters are incremented where the event happens, once per request or transaction. The state of a
process (`show`) is set every second, since only one of several workers answers a scrape. The state
of the database is the same for all workers: the one that answers exposes the values it read last.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from receiver import __version__
from receiver.config.settings import Settings
from receiver.errors import (
    BadRequestError,
    DatabaseUnavailableError,
    OverloadedError,
    ReceiverError,
    SlowSenderError,
    TooLargeError,
    UnsupportedMediaTypeError,
)
from receiver.http.connections import Cause
from receiver.rows.model import Observed
from receiver.rows.reasons import Fate, Fates, Reason
from receiver.rows.tables import Catalogue
from receiver.telemetry.observed import ObservedCollector
from receiver.telemetry.shared_metrics import KeptFiles

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
COMMIT_BUCKETS: Final = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)
READ_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
REFUSALS: Final = (
    BadRequestError,
    UnsupportedMediaTypeError,
    TooLargeError,
    OverloadedError,
    SlowSenderError,
    DatabaseUnavailableError,
)
"""The most frequent causes of refused requests."""
ROW_BUCKETS: Final = (0, 1, 10, 100, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000)


class State(NamedTuple):
    """The state of a process."""

    queue_requests: int
    queue_seconds: float
    connections: Mapping[str, int]
    in_flight_size: int
    arriving_size: int
    open_connections: int
    database_up: bool


class Metrics:
    """The receiver's metrics, in their own registry.

    Args:
        shared: Directory in which the workers of a receiver share their metrics; None: there is one
            process. prometheus_client must have found it in the environment on import.
        workers: The number of processes.
    """

    def __init__(self, shared: Path | None = None, workers: int = 1) -> None:
        # In Prometheus' text format, each `_created` metric would be another series.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._shared = shared
        self._files = None if shared is None else KeptFiles(shared)
        registry = self._registry = CollectorRegistry()
        if shared is None:
            for collector in (ProcessCollector, PlatformCollector, GCCollector):
                collector(registry=registry)
        self._make_requests(registry)
        self._make_reads(registry)
        self._make_connections(registry)
        self._make_samples(registry)
        self._make_state(registry)
        self._observed = ObservedCollector()
        info = gauge(
            "receiver_build_info",
            "Constant 1, with the versions of the receiver and Python and the number of processes.",
            registry,
            ("version", "python", "workers"),
            "livemax",
        )
        info.labels(__version__, platform.python_version(), workers).set(1)

    def _make_requests(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "receiver_requests",
            "Write requests, by HTTP status and version of the protocol.",
            ["code", "version"],
            registry=registry,
        )
        self._refused = Counter(
            "receiver_refused_requests",
            "Write requests that were refused, by cause; parts of a large one may be stored.",
            ["cause"],
            registry=registry,
        )
        for error in REFUSALS:
            self._refused.labels(error().cause).inc(0)
        self.request_seconds = Histogram(
            "receiver_request_duration_seconds",
            "Time from the headers of a write request to its answer.",
            registry=registry,
        )
        self.in_flight = gauge(
            "receiver_requests_in_flight", "Complete write requests in flight.", registry
        )
        self._max_in_flight = gauge(
            "receiver_requests_in_flight_limit",
            "Maximum number of complete write requests in flight.",
            registry,
        )
        self._in_flight_size = gauge(
            "receiver_in_flight_bytes", "Decompressed size of the requests in flight.", registry
        )
        self._max_in_flight_size = gauge(
            "receiver_in_flight_bytes_limit",
            "Maximum decompressed size of the requests in flight.",
            registry,
        )
        self._arriving_size = gauge(
            "receiver_arriving_bytes", "Size of the request bodies still arriving.", registry
        )
        self._max_arriving_size = gauge(
            "receiver_arriving_bytes_limit",
            "Maximum size of the request bodies still arriving.",
            registry,
        )

    def _make_reads(self, registry: CollectorRegistry) -> None:
        self.reads = Counter(
            "receiver_read_requests",
            "Read requests (remote read), by HTTP status and type of the answer.",
            ["code", "type"],
            registry=registry,
        )
        for answer in ("samples", "streamed_xor_chunks"):
            self.reads.labels(200, answer).inc(0)
        self.read_seconds = Histogram(
            "receiver_read_request_duration_seconds",
            "Time from the headers of a read request to the end of its answer.",
            buckets=READ_BUCKETS,
            registry=registry,
        )
        self.samples_read = Counter(
            "receiver_samples_read",
            "Samples in complete answers to read requests.",
            registry=registry,
        )
        self.broken_reads = Counter(
            "receiver_read_answers_broken_off",
            "Answers to read requests that ended before they were complete.",
            registry=registry,
        )

    def _make_connections(self, registry: CollectorRegistry) -> None:
        self._open_connections = gauge("receiver_connections", "Open connections.", registry)
        self._max_open_connections = gauge(
            "receiver_connections_limit", "Maximum number of open connections.", registry
        )
        self._closed = Counter(
            "receiver_connections_closed",
            "Connections that the receiver closed, by cause.",
            ["cause"],
            registry=registry,
        )
        for cause in Cause:
            self._closed.labels(cause).inc(0)

    def _make_samples(self, registry: CollectorRegistry) -> None:
        self._received = Counter(
            "receiver_samples_received", "Samples of acknowledged requests.", registry=registry
        )
        self._samples = Counter(
            "receiver_samples",
            "Samples by outcome and table, without those of incomplete rows that still wait.",
            ["outcome", "reason", "table"],
            registry=registry,
        )
        self.count_acknowledged(0, 0, {})
        self._batch_rows = Histogram(
            "receiver_batch_rows",
            "Complete rows in a batch, including repeated ones.",
            buckets=ROW_BUCKETS,
            registry=registry,
        )
        self._commit_seconds = Histogram(
            "receiver_commit_duration_seconds",
            "Duration of the commit of a batch.",
            buckets=COMMIT_BUCKETS,
            registry=registry,
        )
        self._failed_batches = Counter(
            "receiver_batches_failed", "Batches that could not be committed.", registry=registry
        )

    def _make_state(self, registry: CollectorRegistry) -> None:
        self._queue = gauge(
            "receiver_queue_requests", "Write requests waiting for their commit.", registry
        )
        self._queue_seconds = gauge(
            "receiver_queue_oldest_age_seconds",
            "Time that the oldest request in the queue has waited for its commit.",
            registry,
            mode="livemax",
        )
        self._connections = gauge(
            "receiver_pool_connections",
            "Connections in the pool to the database, by state.",
            registry,
            ("state",),
        )
        self._max_connections = gauge(
            "receiver_pool_connections_limit",
            "Maximum number of connections in the pool.",
            registry,
        )
        self._database_up = gauge(
            "receiver_database_up",
            "1 if every worker could store rows when it last tried or checked, else 0.",
            registry,
            mode="livemin",
        )

    def set_tables(self, catalogue: Catalogue) -> None:
        """Expose the counters of each table at 0, so that `rate` shows the first increment."""
        for table in catalogue.tables:
            for fate in (*Fate, *Reason):
                self._samples.labels(*labels_of(fate), table.name)
            self._samples.labels("stale", "", table.name)

    def set_limits(self, settings: Settings, connections: int) -> None:
        """Set the metrics of limits.

        Args:
            settings: The settings of this process.
            connections: Maximum number of connections to the database.
        """
        self._max_in_flight.set(settings.max_in_flight_requests)
        self._max_in_flight_size.set(settings.max_in_flight_size)
        self._max_arriving_size.set(settings.max_arriving_size)
        self._max_open_connections.set(settings.max_connections)
        self._max_connections.set(connections)

    def count_closed(self, cause: Cause) -> None:
        """Count a connection that the receiver closed."""
        self._closed.labels(cause).inc()

    def count_refused(self, error: ReceiverError) -> None:
        """Count a refused request."""
        self._refused.labels(error.cause).inc()

    def count_acknowledged(self, received: int, filtered: int, stale: Mapping[str, int]) -> None:
        """Count the samples of a request that was acknowledged; stale markers by table."""
        self._received.inc(received)
        self._samples.labels("filtered", "", "").inc(filtered)
        for table, count in stale.items():
            self._samples.labels("stale", "", table).inc(count)

    def count_fates(self, fates: Fates) -> None:
        """Count the outcomes of the samples of a transaction."""
        # `+` drops negative counts, which a counter refuses: a wrong count must not make a commit
        # look failed.
        for (table, fate), count in (+fates).items():
            self._samples.labels(*labels_of(fate), table).inc(count)

    @contextmanager
    def time_commit(self, rows: int) -> Iterator[None]:
        """Measure the commit of a batch within this context."""
        start = time.perf_counter()
        try:
            yield
        except ReceiverError:
            self._failed_batches.inc()
            raise
        self._commit_seconds.observe(time.perf_counter() - start)
        self._batch_rows.observe(rows)

    def show(self, state: State) -> None:
        """Set the metrics of the process's state."""
        self._queue.set(state.queue_requests)
        self._queue_seconds.set(state.queue_seconds)
        self._in_flight_size.set(state.in_flight_size)
        self._arriving_size.set(state.arriving_size)
        self._open_connections.set(state.open_connections)
        self._database_up.set(state.database_up)
        for name, count in state.connections.items():
            self._connections.labels(name).set(count)

    def keep_files(self) -> None:
        """Restore the files with this worker's metrics if they were removed."""
        if self._files is not None:
            self._files.keep()

    def show_observed(self, observed: Observed) -> None:
        """Set the metrics of the database's content."""
        self._observed.take(observed)

    def expose(self) -> bytes:
        """Return the metrics of all workers in Prometheus' text format."""
        self.keep_files()
        everyone = self._registry
        if self._shared is not None:
            everyone = CollectorRegistry()
            MultiProcessCollector(everyone, str(self._shared))  # type: ignore[no-untyped-call]
        observed = CollectorRegistry()
        observed.register(self._observed)
        return generate_latest(everyone) + generate_latest(observed)


def labels_of(fate: Fate | Reason) -> tuple[str, str]:
    """Return the labels outcome and reason of `receiver_samples_total`."""
    if isinstance(fate, Reason) and fate is not Reason.UNPAIRED:
        return "rejected", fate
    return fate, ""


def gauge(
    name: str,
    meaning: str,
    registry: CollectorRegistry,
    labels: Iterable[str] = (),
    mode: str = "livesum",
) -> Gauge:
    """Make a gauge; `mode` states how the values of several workers are combined."""
    return Gauge(name, meaning, labels, registry=registry, multiprocess_mode=mode)  # type: ignore[arg-type]
