"""Run everything on this machine: database, receiver, two sample applications, sender, newest rows.

Nothing needs to be installed: without a database URL the rows go to an embedded database of the
demo's own, below the data directory. Ctrl-C ends it. The demo declares its own tables, app_logs and
press_readings, so it leaves the database of a receiver with other tables alone.

Examples:
    receiver demo
    receiver demo --duration 30s --scrape-interval 1s

With --duration the exit code is 1 if no rows were written.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

from rich.console import Console

from receiver.commands.arguments import duration
from receiver.commands.demo_display import log_above_table, print_places, show_newest
from receiver.commands.terminal import open_console, say
from receiver.config.settings import Settings
from receiver.demo.builtin import builtin
from receiver.demo.history import STOP, history
from receiver.demo.prometheus import prometheus
from receiver.demo.sender import Configuration, Sender, load_configuration, redirect
from receiver.demo.stage import Stage, set_up
from receiver.errors import SetupError
from receiver.process.signals import ending_signals
from receiver.storage.connection.places import LOGS
from receiver.storage.editing.calendar import add_stop
from receiver.storage.reading.listing import Listing
from receiver.storage.reading.sources import find_named
from receiver.storage.reading.tables import connect

logger = logging.getLogger(__name__)

OF_TABLES: Final = ("tables_file", "status_metric", "ocr_metric", "ocr_unit")
"""Settings that declare tables."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the duration, the scrape interval and the sender."""
    parser.add_argument(
        "--duration",
        metavar="DURATION",
        type=some_time,
        help="end after this time, with exit code 0 if there are rows (default: run until Ctrl-C)",
    )
    parser.add_argument(
        "--scrape-interval",
        metavar="DURATION",
        type=some_time,
        help="time between two scrapes (default: as in prometheus.yml)",
    )
    parser.add_argument(
        "--sender",
        choices=("auto", "prometheus", "builtin"),
        default="auto",
        help="auto: Prometheus if it is on PATH, else the built-in one (default: %(default)s)",
    )


def some_time(text: str) -> timedelta:
    """Read a duration of at least 1ms.

    Raises:
        ArgumentTypeError: it is malformed or shorter.
    """
    value = duration(text)
    if value < timedelta(milliseconds=1):
        raise ArgumentTypeError(f"must be a duration of 1ms or more, not {text!r}")
    return value


async def run(settings: Settings, arguments: Namespace) -> int:
    """Run the demo until Ctrl-C or for its duration."""
    stop = asyncio.Event()
    for number in ending_signals():
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    console = open_console()
    set_up_log(console, settings)
    for name in OF_TABLES:
        if name in settings.model_fields_set:
            logger.warning(
                "RECEIVER_%s has no effect: the demo declares its own tables", name.upper()
            )
    started = datetime.now(UTC).isoformat()
    async with set_up(settings) as stage:
        print_places(console, stage.places)
        seconds = arguments.duration and arguments.duration.total_seconds()
        await first_of(stop.wait(), perform(console, stage, arguments), seconds=seconds)
        if stop.is_set():
            return 0
        async with connect(stage.settings) as connection:
            tables = [Listing(table) for table in stage.settings.catalogue.tables]
            rows = sum([len(await table.since(connection, started)) for table in tables])
    say(console, f"{rows} rows were written")
    return 0 if rows else 1


def set_up_log(console: Console, settings: Settings) -> None:
    """Log only warnings and errors, unless a log level is set."""
    if "log_level" not in settings.model_fields_set:
        logging.getLogger().setLevel(logging.WARNING)
    if console.is_terminal:
        log_above_table(console)


async def perform(console: Console, stage: Stage, arguments: Namespace) -> None:
    """Send samples and show the newest rows, as soon as the receiver can store them.

    Raises:
        SetupError: the database cannot be used, or the sender is not installed.
    """
    await asyncio.wait({stage.opening})
    stage.opening.result()
    configuration = redirect(
        load_configuration(),
        targets=stage.targets,
        url=stage.url,
        interval=arguments.scrape_interval,
        token=stage.token,
        metrics=stage.settings.catalogue.by_metric,
    )
    sender = await find_sender(arguments.sender, configuration)
    await make_history(stage, configuration["scrape_configs"][0]["job_name"])
    print_places(console, {"sender": sender.description, "page": stage.page})
    await first_of(sender.work(), show_newest(console, stage.settings))


async def make_history(stage: Stage, job: str) -> None:
    """Store invented samples of the last hours, if the database has no rows yet."""
    table = stage.settings.catalogue.by_name[LOGS]
    now = time.time()
    async with connect(stage.settings) as connection:
        if await Listing(table).newest(connection, 1):
            return
        for samples in history(table, stage.targets, job, now, Random()):  # noqa: S311  it plays
            await stage.store.store(samples)
        (source, *_) = await find_named(connection, next(iter(stage.targets)))
        start, end = (datetime.fromtimestamp(now, UTC) - ago for ago in STOP)
        times = (start.isoformat(), end.isoformat())
        await add_stop(connection, times, "maintenance", source=source)


async def find_sender(choice: str, configuration: Configuration) -> Sender:
    """Return the chosen sender: Prometheus, or the built-in one.

    Raises:
        SetupError: Prometheus is chosen and cannot be run.
    """
    program = shutil.which("prometheus")
    if choice == "builtin" or (choice == "auto" and program is None):
        return builtin(configuration)
    if program is None:
        raise SetupError("prometheus is not on PATH; --sender builtin works without it")
    return await prometheus(program, configuration)


async def first_of(*work: Coroutine[Any, Any, object], seconds: float | None = None) -> None:
    """Run coroutines until the first ends, or for some seconds; then cancel the others."""
    tasks = {asyncio.create_task(coroutine) for coroutine in work}
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
