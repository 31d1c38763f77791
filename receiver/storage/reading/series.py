"""Selects the series that a query of remote read asks for: metric columns of sources."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final, NamedTuple

from receiver.errors import ReadLimitError
from receiver.protocol.queries import Query
from receiver.protocol.series import NAME
from receiver.rows.model import Labels
from receiver.rows.tables import Catalogue, Column, Table
from receiver.storage.reading.known_sources import KnownSources

AT_ONCE: Final = 1_000
"""Series that are made in one step."""


class Place(NamedTuple):
    """Where samples of a series are stored."""

    table: Table
    column: Column
    source_id: int


class StoredSeries(NamedTuple):
    """A series, which need not have samples."""

    labels: Labels
    """Sorted, and including the metric's name."""
    places: tuple[Place, ...]
    """Several if several tables have the metric, or sources the same labels."""


def choose(
    catalogue: Catalogue, sources: KnownSources, query: Query, limit: int
) -> Iterator[list[StoredSeries] | None]:
    """Yield None after each piece of work, and finally the series sorted by their labels.

    Args:
        catalogue: The tables.
        sources: All known sources.
        query: The query.
        limit: Maximum number of series.

    Raises:
        ReadLimitError: there are more series.
    """
    names = [matcher for matcher in query.matchers if matcher.label == NAME]
    metrics = [
        metric
        for metric in catalogue.by_metric
        if all(matcher.matches(metric) for matcher in names)
    ]
    yield None
    matched: list[int] = []
    if metrics and query.start <= query.end:
        others = [matcher for matcher in query.matchers if matcher.label != NAME]
        for found in sources.match(others):
            matched = found or []
            yield None
    if (count := len(metrics) * len(matched)) > limit:
        raise ReadLimitError(
            f"a query selects {count} series, the limit is {limit} "
            "(RECEIVER_MAX_REMOTE_READ_SERIES)"
        )
    series: defaultdict[Labels, list[Place]] = defaultdict(list)
    for metric in metrics:
        for number, place in enumerate(matched):
            labels = tuple(sorted((*sources.labels[place], (NAME, metric))))
            series[labels] += [
                Place(table, column, sources.ids[place])
                for table, column in catalogue.by_metric[metric]
            ]
            if not number % AT_ONCE:
                yield None
    yield [StoredSeries(labels, tuple(places)) for labels, places in sorted(series.items())]
