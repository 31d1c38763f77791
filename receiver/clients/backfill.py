"""Reads the history that a Prometheus still has, window by window, into the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Protocol, TypeAlias

from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_delay,
    wait_exponential,
)

from receiver.clients.prometheus import Prometheus, TooMuchAtOnceError
from receiver.clients.prometheus_model import Points, RefusedByPrometheusError
from receiver.errors import SetupError, UnavailableError
from receiver.protocol.limits import DEFAULTS, MIB, InvalidSeriesError, Limits
from receiver.protocol.series import FILTERED, SeriesCache, join
from receiver.protocol.tally import describe, for_each_table
from receiver.rows.batch import Outcomes
from receiver.rows.model import Sample
from receiver.rows.tables import Catalogue
from receiver.storage.writing.backfills import Progress
from receiver.write import Storage

PATIENCE: Final = 120.0
"""Seconds for which Prometheus or the database may be away."""
FIRST_SPAN: Final = 5 * 60_000
LONGEST_SPAN: Final = 24 * 3_600_000
SHORTEST_SPAN: Final = 1_000
"""Milliseconds of one window; a day is at most two chunks to create in one transaction."""
SAMPLES_AT_ONCE: Final = 100_000
CACHE_SIZE: Final = 64 * MIB


Found: TypeAlias = tuple[list[Sample], Counter[str]]
"""The samples of a window, and how many there are of each metric, by its name."""

Keep: TypeAlias = Callable[[Progress], Awaitable[None]]
"""Remembers how far it came, after all up to there is committed."""


class Source(Protocol):
    """Where samples are read."""

    async def samples(self, metric: str, begin: int, end: int) -> list[Points]:
        """The samples of a metric after `begin`, until `end`."""


class Window(NamedTuple):
    """What was read and stored of one stretch of time."""

    progress: Progress
    read: Counter[str]
    """Samples of each metric, by its name."""
    outcomes: Outcomes


class Backfill:
    """Copies samples from a Prometheus into storage, by the path that pushed samples take.

    All metrics of a window are read before it is stored, so rows are whole; what is stored already
    is left as it is.

    Args:
        source: Where samples are read.
        storage: Where they go.
        catalogue: The tables, which say which metrics are read.
        external_labels: What the source adds to all it pushes; a series' own labels win.
    """

    def __init__(
        self,
        source: Source,
        storage: Storage,
        catalogue: Catalogue,
        external_labels: Mapping[str, str],
        limits: Limits = DEFAULTS,
    ) -> None:
        self._source = source
        self._storage = storage
        self._metrics = list(catalogue.by_metric)
        self._external_labels = external_labels
        self._limits = limits
        self._series = SeriesCache(catalogue, CACHE_SIZE, limits)
        self._retrying = AsyncRetrying(
            retry=retry_if_exception(is_temporary),
            wait=wait_exponential(multiplier=0.1, max=5),
            stop=stop_after_delay(PATIENCE),
            reraise=True,
        )

    async def run(self, progress: Progress, keep: Keep) -> AsyncIterator[Window]:
        """Read and store from where it stands to the end; each window as it is committed.

        Args:
            progress: Where it stands.
            keep: Remembers where it stands after each window.

        Raises:
            UnavailableError: Prometheus or the database is away for too long, or refuses.
        """
        span = FIRST_SPAN
        while progress.done < progress.end:
            until = min(progress.done + span, progress.end)
            try:
                found: Found = await self._retrying(self._read, progress.done, until)
            except TooMuchAtOnceError:
                if span <= SHORTEST_SPAN:
                    raise
                span = max(SHORTEST_SPAN, span // 2)
                continue
            samples, read = found
            outcomes = Outcomes()
            if samples:
                outcomes = await self._retrying(self._storage.store, samples)
            progress = progress._replace(done=until)
            await self._retrying(keep, progress)
            yield Window(progress, read, outcomes)
            span = next_span(span, len(samples))

    async def _read(self, begin: int, end: int) -> Found:
        samples: list[Sample] = []
        read: Counter[str] = Counter()
        for name in self._metrics:
            for points in await self._source.samples(name, begin, end):
                kept = self._kept(points)
                samples += for_each_table(kept)
                read[name] += len(kept)
        return samples, read

    def _kept(self, points: Points) -> list[Sample]:
        labels = {**self._external_labels, **points.labels}
        key = join(text for label in sorted(labels.items()) for text in label)
        series = self._series.find(key)
        if series is None:
            try:
                self._limits.check_labels(len(labels))
                series = self._series.add(key, labels.items())
            except InvalidSeriesError as error:
                raise SetupError(f"the series {describe(labels.items())}: {error}") from error
        if series is FILTERED:
            return []
        return [(series, timestamp, value) for timestamp, value in points.values]


def is_temporary(error: BaseException) -> bool:
    """Whether to try the same again."""
    lasting = (TooMuchAtOnceError, RefusedByPrometheusError)
    return isinstance(error, UnavailableError) and not isinstance(error, lasting)


def next_span(span: int, samples: int) -> int:
    """The length of the next window, so that about `SAMPLES_AT_ONCE` are read at once."""
    if samples > SAMPLES_AT_ONCE:
        return max(SHORTEST_SPAN, span // 2)
    if samples < SAMPLES_AT_ONCE // 4:
        return min(LONGEST_SPAN, span * 2)
    return span


def to_milliseconds(moment: datetime) -> int:
    """A time in milliseconds since the Unix epoch."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def to_text(milliseconds: int) -> str:
    """A time as people read it, in the local time zone."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone().isoformat(" ", "seconds")


async def find_external_labels(prometheus: Prometheus) -> dict[str, str]:
    """What Prometheus adds to all it pushes.

    Raises:
        RefusedByPrometheusError: it does not tell; the message says what to do.
        UnavailableError: it cannot be reached.
    """
    try:
        return await prometheus.external_labels()
    except RefusedByPrometheusError as error:
        raise RefusedByPrometheusError(
            f"its external labels cannot be read: {error}; if the URL and the password are right, "
            "give them with --external-label NAME=VALUE, or say --no-external-labels"
        ) from error
