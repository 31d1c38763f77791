"""Copies the history of a Prometheus server into the database, window by window."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Protocol, TypeAlias

from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_delay,
    wait_exponential,
)

from receiver.clients.prometheus import Prometheus, TooMuchAtOnceError, selector
from receiver.clients.prometheus_model import Points, RefusedByPrometheusError
from receiver.errors import SetupError, UnavailableError
from receiver.protocol.limits import DEFAULTS, MIB, InvalidSeriesError, Limits
from receiver.protocol.series import FILTERED, SeriesCache, join
from receiver.protocol.tally import describe, for_each_table
from receiver.rows.model import Sample, Series
from receiver.rows.model import Source as SourceLabels
from receiver.rows.tables import Catalogue, Column, Table
from receiver.storage.writing.backfills import Progress
from receiver.write import Storage

RETRY_TIME: Final = 120.0
"""Seconds of retries while Prometheus or the database cannot be reached."""
FIRST_SPAN: Final = 5 * 60_000
LONGEST_SPAN: Final = 24 * 3_600_000
SHORTEST_SPAN: Final = 1_000
"""Milliseconds; a window of a day needs at most two new chunks of a day for each table."""
SAMPLES_AT_ONCE: Final = 100_000
MOST_AT_ONCE: Final = 10 * SAMPLES_AT_ONCE
"""Maximum number of samples of a window; with more, a shorter window is read."""
LABEL_NAME: Final = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")
CACHE_SIZE: Final = 64 * MIB


Fed: TypeAlias = tuple[str, str]
"""The name of a table, and the name of one of its metrics."""


class Found(NamedTuple):
    """The samples of a window."""

    samples: list[Sample]
    """One sample for each column that a sample of Prometheus belongs to."""
    kept: int
    """Number of samples of Prometheus that belong to a table."""
    read: Counter[Fed]
    """Number of samples by table and metric."""


Keep: TypeAlias = Callable[[Progress], Awaitable[None]]
"""Saves the progress, after everything up to it is committed."""


class History(Protocol):
    """Reads samples of the past."""

    async def samples(self, selected: str, begin: int, end: int) -> list[Points]:
        """Return the samples of the selected series after `begin`, up to `end`."""


class Window(NamedTuple):
    """The samples of one time range that were read and stored."""

    progress: Progress
    kept: int
    """Number of samples that belong to a table."""
    read: Counter[Fed]
    """Number of samples by table and metric."""


class Backfill:
    """Copies samples from a Prometheus into storage, in the same way as received samples.

    All metrics of all tables of a window are read before it is stored, so that rows are complete;
    existing rows are not changed.

    Args:
        source: Reads the samples.
        storage: Stores the samples.
        catalogue: The tables, which name the metrics to read.
        external_labels: Labels that Prometheus adds when it sends; a series' own labels win.
        limits: The limits of a series.
    """

    def __init__(
        self,
        source: History,
        storage: Storage,
        catalogue: Catalogue,
        external_labels: Mapping[str, str],
        limits: Limits = DEFAULTS,
    ) -> None:
        self._source = source
        self._storage = storage
        self._selectors = [
            selected
            for metric in catalogue.by_metric
            for selected in find_selectors(catalogue, metric, external_labels)
        ]
        self._external_labels = external_labels
        self._limits = limits
        self._series = SeriesCache(catalogue, CACHE_SIZE, limits)
        self._retrying = AsyncRetrying(
            retry=retry_if_exception(is_temporary),
            wait=wait_exponential(multiplier=0.1, max=5),
            stop=stop_after_delay(RETRY_TIME),
            reraise=True,
        )

    async def run(self, progress: Progress, keep: Keep) -> AsyncIterator[Window]:
        """Read and store from the current position to the end; yield each committed window.

        Args:
            progress: The current position.
            keep: Saves the position after each window.

        Raises:
            UnavailableError: Prometheus or the database cannot be reached for too long, or refuses.
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
            if found.samples:
                await self._retrying(self._storage.store, found.samples)
            progress = progress._replace(done=until)
            await self._retrying(keep, progress)
            yield Window(progress, found.kept, found.read)
            span = next_span(span, len(found.samples))

    async def _read(self, begin: int, end: int) -> Found:
        found = Found([], 0, Counter())
        for selected in self._selectors:
            for points in await self._source.samples(selected, begin, end):
                kept = self._kept(points)
                found.samples.extend(for_each_table(kept))
                found = found._replace(kept=found.kept + len(kept))
                if kept:
                    for column, source in fed_by(kept[0][0]):
                        found.read[source.table.name, column.metric] += len(kept)
            if len(found.samples) > MOST_AT_ONCE and end - begin > SHORTEST_SPAN:
                raise TooMuchAtOnceError(f"Prometheus has {len(found.samples)} samples at once")
        return found

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


def fed_by(series: Series) -> Iterator[tuple[Column, SourceLabels]]:
    """Yield the columns of all tables that a series belongs to, each with its source."""
    for column, source, _ in (series, *series.others):
        yield column, source


def find_selectors(
    catalogue: Catalogue, metric: str, external_labels: Mapping[str, str]
) -> list[str]:
    """Return selectors of a metric's series, so that no series is read twice.

    They may select series that belong to no table: the series cache filters them.
    """
    wanted = {
        selector(metric, usable_match(table, external_labels))
        for table, _ in catalogue.by_metric[metric]
    }
    # Overlapping selectors would return a series twice.
    return [selector(metric)] if len(wanted) > 1 else list(wanted)


def usable_match(table: Table, external_labels: Collection[str]) -> dict[str, str]:
    """Return the part of a table's `match` that a selector can contain.

    Prometheus adds external labels only when it sends, and only some versions can select by labels
    of any name.
    """
    return {
        label: expression
        for label, expression in sorted(table.match.items())
        if LABEL_NAME.fullmatch(label) and label not in external_labels
    }


def is_temporary(error: BaseException) -> bool:
    """Return whether the same request may succeed later."""
    lasting = (TooMuchAtOnceError, RefusedByPrometheusError)
    return isinstance(error, UnavailableError) and not isinstance(error, lasting)


def next_span(span: int, samples: int) -> int:
    """Return the length of the next window, so that about `SAMPLES_AT_ONCE` samples are read."""
    if samples > SAMPLES_AT_ONCE:
        return max(SHORTEST_SPAN, span // 2)
    if samples < SAMPLES_AT_ONCE // 4:
        return min(LONGEST_SPAN, span * 2)
    return span


def to_milliseconds(moment: datetime) -> int:
    """Return a time in milliseconds since the Unix epoch."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def to_text(milliseconds: int) -> str:
    """Return a time as text, in the local time zone."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone().isoformat(" ", "seconds")


async def find_external_labels(prometheus: Prometheus) -> dict[str, str]:
    """Return the labels that Prometheus adds when it sends.

    Raises:
        RefusedByPrometheusError: Prometheus does not report them; the message states what to do.
        UnavailableError: Prometheus cannot be reached.
    """
    try:
        return await prometheus.external_labels()
    except RefusedByPrometheusError as error:
        raise RefusedByPrometheusError(
            f"its external labels cannot be read: {error}; if the URL and the password are right, "
            "give them with --external-label NAME=VALUE, or use --no-external-labels"
        ) from error
