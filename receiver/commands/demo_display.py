"""What the demo shows: where things are, and the newest rows."""

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
"""Seconds between two tables elsewhere."""


def log_above_table(console: Console) -> None:
    """Let log messages scroll by above the table that stays in place."""
    handler = RichHandler(console=console, show_path=False)
    handler.setFormatter(MessageFormatter())
    logging.getLogger().handlers = [handler]


def print_places(console: Console, places: dict[str, str]) -> None:
    """Say where things are, each in one line that can be copied whole."""
    for name, place in places.items():
        say(console, f"{name:<13}{place}")


async def show_newest(console: Console, settings: Settings) -> None:
    """Show the newest rows, without end: in place in a terminal, else one table after another."""
    if not console.is_terminal:
        await follow(settings, PRINT, console.print)
        return
    with Live(console=console, auto_refresh=False) as live:
        await follow(settings, REFRESH, lambda table: live.update(table, refresh=True))


async def follow(settings: Settings, pause: float, show: Callable[[Table], None]) -> None:
    """Hand over the newest rows again and again; the database may come and go."""
    while True:
        try:
            async with connect(settings) as connection:
                while True:
                    show(logs_table(await newest_logs(connection, ROWS)))
                    await asyncio.sleep(pause)
        except DatabaseUnavailableError as error:
            logger.warning("%s", error)
            await asyncio.sleep(pause)
