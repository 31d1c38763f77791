"""The demo's output: addresses and the newest rows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.logging import RichHandler
from rich.table import Table

from receiver.commands.logs import logs_table
from receiver.commands.terminal import say
from receiver.config.settings import Settings
from receiver.errors import DatabaseUnavailableError
from receiver.storage.reading.tables import connect, newest_logs
from receiver.telemetry.messages import MessageFormatter

logger = logging.getLogger(__name__)

ROWS: Final = 10
REFRESH: Final = 1.0
"""Seconds between two tables in a terminal."""
PRINT: Final = 5.0
"""Seconds between two tables in other outputs."""


def log_above_table(console: Console) -> None:
    """Print log messages above the table, which stays in place."""
    handler = RichHandler(console=console, show_path=False)
    handler.setFormatter(MessageFormatter())
    logging.getLogger().handlers = [handler]


def print_places(console: Console, places: dict[str, str]) -> None:
    """Print addresses and paths, one per line."""
    for name, place in places.items():
        say(console, f"{name:<13}{place}")


async def show_newest(console: Console, settings: Settings) -> None:
    """Show the newest rows until cancelled: in place in a terminal, else as repeated tables."""
    if not console.is_terminal:
        await follow(settings, PRINT, console.print)
        return
    with Live(console=console, auto_refresh=False) as live:
        await follow(settings, REFRESH, lambda table: live.update(table, refresh=True))


async def follow(settings: Settings, pause: float, show: Callable[[Table], None]) -> None:
    """Pass the newest rows to `show` repeatedly, also after an outage of the database."""
    while True:
        try:
            async with connect(settings) as connection:
                while True:
                    show(logs_table(await newest_logs(connection, ROWS)))
                    await asyncio.sleep(pause)
        except DatabaseUnavailableError as error:
            logger.warning("%s", error)
            await asyncio.sleep(pause)
