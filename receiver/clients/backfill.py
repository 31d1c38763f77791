"""Reads the history that a Prometheus still has, window by window, into the database."""

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
from receiver.rows.batch import Outcomes
from receiver.rows.model import Sample, Series
from receiver.rows.model import Source as SourceLabels
from receiver.rows.tables import Catalogue, Column, Table
from receiver.storage.writing.backfills import Progress
from receiver.write import Storage

PATIENCE: Final = 120.0
"""Seconds for which Prometheus or the database may be away."""
FIRST_SPAN: Final = 5 * 60_000
LONGEST_SPAN: Final = 24 * 3_600_000
SHORTEST_SPAN: Final = 1_000
"""Milliseconds of one window; a day is at most two chunks to create in one transaction."""
SAMPLES_AT_ONCE: Final = 100_000
MOST_AT_ONCE: Final = 10 * SAMPLES_AT_ONCE
"""Samples of a window above which a shorter one is read."""
LABEL_NAME: Final = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")
CACHE_SIZE: Final = 64 * MIB


class Found(NamedTuple):
    """The samples of a window."""

    samples: list[Sample]
    """One for each column that they feed."""
    kept: int
    """How many samples of Prometheus those are."""
    read: Counter[Fed]


Fed: TypeAlias = tuple[str, str]
"""A table and one of the metrics that feed it, by their names."""

Keep: TypeAlias = Callable[[Progress], Awaitable[None]]
"""Remembers how far it came, after all up to there is committed."""


class Source(Protocol):
    """Where samples are read."""

    async def samples(self, selected: str, begin: int, end: int) -> list[Points]:
        """Return the samples of the series that a selector gives, after `begin`, until `end`."""


class Window(NamedTuple):
    """What was read and stored of one stretch of time."""

    progress: Progress
    kept: int
    """How many samples were read that feed a column."""
    read: Counter[Fed]
    """How many of each metric feed each table."""
    outcomes: Outcomes


class Backfill:
    """Copies samples from a Prometheus into storage, by the path that pushed samples take.

    All metrics of all tables are read of a window before it is stored, so rows are whole; what is
    stored already is left as it is.

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
            outcomes = Outcomes()
            if found.samples:
                outcomes = await self._retrying(self._storage.store, found.samples)
            progress = progress._replace(done=until)
            await self._retrying(keep, progress)
            yield Window(progress, found.kept, found.read, outcomes)
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
    """Yield the columns that a series feeds, of all tables, each with its source."""
    for column, source, _ in (series, *series.others):
        yield column, source


def find_selectors(
    catalogue: Catalogue, metric: str, external_labels: Mapping[str, str]
) -> list[str]:
    """Write what selects the series of a metric that tables want, none of them twice.

    More may be read than tables want: the cache of series leaves them out.
    """
    wanted = {
        selector(metric, usable_match(table, external_labels))
        for table, _ in catalogue.by_metric[metric]
    }
    # Two that overlap would give a series twice.
    return [selector(metric)] if len(wanted) > 1 else list(wanted)


def usable_match(table: Table, external_labels: Collection[str]) -> dict[str, str]:
    """Return what a table's series must match, as far as Prometheus can look for it.

    It cannot for labels that it adds when it sends, nor, in some versions, for every name.
    """
    return {
        label: expression
        for label, expression in sorted(table.match.items())
        if LABEL_NAME.fullmatch(label) and label not in external_labels
    }


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
