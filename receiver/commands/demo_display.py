"""The demo's output: addresses and the newest rows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.logging import RichHandler
from rich.text import Text

from receiver.commands.logs import show
from receiver.commands.terminal import say
from receiver.config.settings import Settings
from receiver.errors import DatabaseUnavailableError
from receiver.storage.connection.database import Connection
from receiver.storage.reading.listing import Listing
from receiver.storage.reading.tables import connect
from receiver.telemetry.messages import MessageFormatter

logger = logging.getLogger(__name__)

ROWS: Final = 10
"""Number of rows that are shown of all tables together."""
REFRESH: Final = 1.0
"""Seconds between two updates in a terminal."""
PRINT: Final = 5.0
"""Seconds between two updates in other outputs."""


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
        await follow(settings, REFRESH, lambda tables: live.update(tables, refresh=True))


async def follow(settings: Settings, pause: float, display: Callable[[Group], None]) -> None:
    """Pass the newest rows to `display` repeatedly, also after an outage of the database."""
    listings = [Listing(table, short=True) for table in settings.catalogue.tables]
    while True:
        try:
            async with connect(settings) as connection:
                while True:
                    display(await newest(connection, listings))
                    await asyncio.sleep(pause)
        except DatabaseUnavailableError as error:
            logger.warning("%s", error)
            await asyncio.sleep(pause)


async def newest(connection: Connection, listings: Sequence[Listing]) -> Group:
    """Return the newest rows of each table, under its name."""
    parts: list[RenderableType] = []
    for listing in listings:
        entries = await listing.newest(connection, ROWS // len(listings))
        parts += (Text(f"\n{listing.table.name}", "bold"), show(listing, entries, clock=True))
    return Group(*parts)
