"""The demo's past: a shift's worth of states, so that pages and reports have something to show.

Each sample application has run for hours with failures and micro-stops; one of them had a planned
stop. A third application has been silent for a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import islice
from random import Random
from typing import Final

from receiver.rows.model import Sample, Series, Source
from receiver.rows.tables import Table

LENGTH: Final = timedelta(hours=8)
STEP: Final = timedelta(seconds=5)
SILENT_FOR: Final = timedelta(minutes=25)
STOP: Final = (timedelta(hours=4), timedelta(hours=3, minutes=30))
"""How long ago the planned stop began and ended."""
SILENT: Final = "station-3"
"""The application that no longer runs."""

ERRORS: Final = (1, 2, 2, 99)
BETWEEN_STOPS: Final = (300.0, 3000.0)
MICRO_STOP: Final = (10.0, 240.0)
FAILURE: Final = (330.0, 1500.0)
"""Ranges of durations in seconds: between stops, and of micro-stops and failures."""
FAILURES: Final = 0.2
"""Share of stops that are longer than a micro-stop."""
MISSED: Final = 0.0002
"""Share of scrapes after which scrapes are missed for some minutes."""
MISSED_FOR: Final = 60
"""Number of scrape intervals until the next scrape then."""
AT_ONCE: Final = 10_000


def history(
    table: Table, instances: Iterable[str], job: str, until: float, random: Random
) -> Iterator[list[Sample]]:
    """Yield the samples of the past, at most `AT_ONCE` at once.

    Args:
        table: The table app_logs.
        instances: Label `instance` of each application that runs.
        job: Their label `job`.
        until: When the history ends, in seconds since the Unix epoch.
        random: Draws the states.
    """
    ends = dict.fromkeys(instances, until) | {SILENT: until - SILENT_FOR.total_seconds()}
    for instance, end in ends.items():
        source = Source(table, (("instance", instance), ("job", job)))
        status, reading = (Series(column, source) for column in table.columns)
        samples = (
            sample
            for at, code in states(until - LENGTH.total_seconds(), end, random)
            for sample in (
                (status, round(at * 1000), float(code)),
                (reading, round(at * 1000), at - random.uniform(0.2, 1)),
            )
        )
        while part := list(islice(samples, AT_ONCE)):
            yield part


def states(start: float, end: float, random: Random) -> Iterator[tuple[float, int]]:
    """Yield the time of each scrape, and the status at that time."""
    at, code = start, 0
    changes = at + random.uniform(*BETWEEN_STOPS)
    while at < end:
        if at >= changes:
            code = 0 if code else random.choice(ERRORS)
            length = FAILURE if random.random() < FAILURES else MICRO_STOP
            changes = at + random.uniform(*(length if code else BETWEEN_STOPS))
        yield at, code
        at += STEP.total_seconds() * (MISSED_FOR if random.random() < MISSED else 1)
