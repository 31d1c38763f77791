r"""Copy the history of a Prometheus server into the database, as if it had been sent.

Existing rows are not changed, so it may run at any time, beside receivers, and repeatedly. After
Ctrl-C or an error the same command continues where it stopped. Other servers with Prometheus' API
work, too: for VictoriaMetrics, name the labels that its senders add, or use --no-external-labels.

The exit code is 1 if there were samples, but none is stored.

Examples:
    receiver backfill --from-url http://localhost:9090 --start 15d
    receiver backfill --from-url http://localhost:9090 \
        --start 2026-11-01 --end 2026-11-08
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from receiver.clients.backfill import (
    Backfill,
    Fed,
    Window,
    find_external_labels,
    to_milliseconds,
    to_text,
)
from receiver.clients.backfill_summary import (
    has_rows,
    require_metrics,
    summarize,
    summarize_tables,
)
from receiver.clients.prometheus import opened, public
from receiver.commands.arguments import base_url, label, moment, past, read_token
from receiver.commands.connection import reachable_database
from receiver.commands.terminal import open_console, say
from receiver.config.catalogue import digest
from receiver.config.sections import Section
from receiver.config.settings import Settings
from receiver.errors import SetupError, UsageError
from receiver.rows.reasons import Fates
from receiver.storage.store import Store
from receiver.storage.writing.backfills import Bookmark, count_waiting
from receiver.storage.writing.backfills import Progress as Position
from receiver.telemetry.metrics import Metrics

SETTINGS: Final = (Section.DATABASE, Section.METRICS)
TIMEOUT: Final = aiohttp.ClientTimeout(total=120)


def add_arguments(parser: ArgumentParser) -> None:
    """Add the source and the time range."""
    parser.add_argument(
        "--from-url",
        metavar="URL",
        type=base_url,
        required=True,
        help="the Prometheus server, such as http://localhost:9090",
    )
    parser.add_argument(
        "--start",
        metavar="TIME",
        type=past,
        required=True,
        help="2026-11-01T00:00:00Z, or a duration before now, such as 7d",
    )
    parser.add_argument(
        "--end", metavar="TIME", type=past, default="0s", help="the same (default: now)"
    )
    parser.add_argument(
        "--external-label",
        metavar="NAME=VALUE",
        type=label,
        action="append",
        default=[],
        help="a label that Prometheus adds when it sends (default: as in its configuration)",
    )
    parser.add_argument(
        "--no-external-labels", action="store_true", help="add no labels to those of the series"
    )
    parser.add_argument(
        "--bearer-token-file", metavar="FILE", type=Path, help="file with a token for Prometheus"
    )
    parser.add_argument(
        "--restart", action="store_true", help="start from the beginning, even after an earlier run"
    )


async def run(settings: Settings, arguments: Namespace) -> int:
    """Copy the samples, and print the result.

    Raises:
        SetupError: an argument is wrong, or there is nothing to copy.
        UnavailableError: Prometheus or the database cannot be reached for too long, or refuses.
    """
    asked, token = begin(arguments), find_token(arguments)
    catalogue = settings.catalogue
    counted = CountedFates()
    async with (
        reachable_database(settings) as reachable,
        opened(arguments.from_url, TIMEOUT, token) as prometheus,
        Store(without_limits(reachable), lambda: 0, counted) as store,
    ):
        labels = dict(arguments.external_label)
        if not (labels or arguments.no_external_labels):
            labels = await find_external_labels(prometheus)
        await store.opening
        bookmark = Bookmark(
            store.database,
            public(arguments.from_url),
            # With other tables the same samples make other rows.
            (
                *(arguments.start, arguments.end),
                *(json.dumps(labels, sort_keys=True), digest(catalogue).hex()),
            ),
        )
        found = None if arguments.restart else await bookmark.read()
        # The end is taken anew: if it is now, it has moved since the earlier run.
        position = found._replace(end=asked.end) if found else asked
        windows = Backfill(prometheus, store, catalogue, labels, settings.limits).run(
            position, bookmark.write
        )
        kept, read = await copy(windows, position)
        waiting = await count_waiting(store.database, position.start, position.end)
        await bookmark.remove()
    span = f"from {to_text(position.done + 1)} to {to_text(position.end)}"
    if found is None:
        require_metrics(read, catalogue, span)
    console = open_console()
    say(console, f"{kept} samples {span}: {summarize(counted.fates, waiting.total())}")
    if len(catalogue.tables) > 1:
        for line in summarize_tables(read, counted.fates, waiting, catalogue):
            say(console, line)
    return 0 if not kept or has_rows(counted.fates) else 1


class CountedFates(Metrics):
    """Counts the outcomes of samples in the database, by table."""

    def __init__(self) -> None:
        super().__init__()
        self.fates: Fates = Counter()

    def count_fates(self, fates: Fates) -> None:
        """Count the outcomes of a transaction."""
        self.fates += fates


def without_limits(settings: Settings) -> Settings:
    """Return settings without limits for the age and number of samples."""
    limits = (
        "max_sample_age",
        "max_sample_lead",
        "max_new_sources",
        "max_new_codes",
        "max_new_chunks",
    )
    return settings.model_copy(update=dict.fromkeys(limits))


def begin(arguments: Namespace) -> Position:
    """Return the range to copy, positioned at its start.

    Raises:
        UsageError: the start is not before the end.
    """
    now = datetime.now(UTC)
    start, end = (to_milliseconds(moment(text, now)) for text in (arguments.start, arguments.end))
    end = min(end, to_milliseconds(now))
    if start >= end:
        raise UsageError(f"--start ({to_text(start)}) must lie before --end ({to_text(end)})")
    # The start of a window is not included.
    return Position(start, end, start - 1)


def find_token(arguments: Namespace) -> str | None:
    """Return the bearer token, if there is one.

    Raises:
        SetupError: its file cannot be read, or the URL names a user, too.
    """
    if arguments.bearer_token_file is None:
        return None
    if urlsplit(arguments.from_url).username is not None:
        raise SetupError("either a user in --from-url or --bearer-token-file, not both")
    return read_token(arguments.bearer_token_file)


async def copy(windows: AsyncIterator[Window], position: Position) -> tuple[int, Counter[Fed]]:
    """Copy the remaining samples, and show the progress.

    Returns:
        Number of samples that belong to a table; number of samples by table and metric.
    """
    kept, read = 0, Counter[Fed]()
    with open_progress() as progress:
        bar = progress.add_task("", total=position.end - position.start, at="")
        if position.done >= position.start:
            progress.console.print(f"continuing at {to_text(position.done)}")
        try:
            async for window in windows:
                position = window.progress
                kept += window.kept
                read += window.read
                progress.update(
                    bar, completed=position.done - position.start, at=to_text(position.done)
                )
        except BaseException:
            progress.console.print(
                f"stopped at {to_text(position.done)}: the same command continues there"
            )
            raise
    return kept, read


def open_progress() -> Progress:
    """Return a progress bar on standard error, hidden if that is not a terminal."""
    console = Console(stderr=True, highlight=False)
    return Progress(
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[at]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
