"""Runs the embedded database for commands and for `receiver serve`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from receiver.config.settings import Settings
from receiver.embedded.server import EmbeddedPostgres

INTERVAL: Final = 1.0
"""Seconds between two checks that the embedded PostgreSQL still runs."""

logger = logging.getLogger(__name__)


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[Settings]:
    """Yield settings that name a database; run the embedded one if `settings` name none.

    Raises:
        EmbeddedDatabaseError: the embedded database cannot be started.
    """
    if settings.database_url is not None:
        yield settings
        return
    async with embedded_database(settings.data_dir) as embedded:
        yield settings.model_copy(update={"database_url": SecretStr(embedded.url)})


@asynccontextmanager
async def shared_database(settings: Settings) -> AsyncIterator[Settings]:
    """Yield settings that name a database; share the embedded one if another receiver runs it.

    Raises:
        EmbeddedDatabaseError: the embedded database does not run, and cannot be started.
    """
    shared = await asyncio.to_thread(share_embedded, settings)
    async with database(shared) as reachable:
        yield reachable


def share_embedded(settings: Settings) -> Settings:
    """Return settings that name the embedded database if another receiver runs it."""
    if settings.database_url is None:
        url = EmbeddedPostgres(settings.data_dir).running_url()
        if url is not None:
            return settings.model_copy(update={"database_url": SecretStr(url)})
    return settings


@asynccontextmanager
async def embedded_database(data_dir: Path) -> AsyncIterator[EmbeddedPostgres]:
    """Run the embedded database of a data directory, and restart it if it ends by itself.

    Raises:
        EmbeddedDatabaseError: it cannot be started or restarted.
    """
    embedded = EmbeddedPostgres(data_dir)
    try:
        await asyncio.to_thread(embedded.start)
        async with failing_with(keep_running(embedded)):
            yield embedded
    finally:
        await asyncio.to_thread(embedded.stop)


async def keep_running(embedded: EmbeddedPostgres) -> None:
    """Restart the server whenever it has ended.

    Raises:
        EmbeddedDatabaseError: it cannot be restarted.
    """
    while True:
        await asyncio.sleep(INTERVAL)
        if not embedded.runs:
            logger.error("the embedded PostgreSQL has stopped and is restarted")
            await asyncio.to_thread(embedded.start_again)


@asynccontextmanager
async def failing_with(watch: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a coroutine for as long as the context lasts; if it fails, cancel the context.

    Raises:
        EmbeddedDatabaseError: the coroutine raised it.
    """
    watching = asyncio.create_task(watch)
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  this is a coroutine
    watching.add_done_callback(lambda done: done.cancelled() or task.cancel())
    try:
        yield
    except asyncio.CancelledError:
        if not watching.done():
            raise
        task.uncancel()
        watching.result()
    finally:
        watching.cancel()
