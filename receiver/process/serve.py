"""`receiver serve`: the database where none is named, then one process or several that serve."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from receiver.config.settings import Settings
from receiver.embedded import EmbeddedPostgres
from receiver.process.server import stop_signal, work
from receiver.process.workers import supervise
from receiver.write import Record

LOOK: Final = 1.0
"""Seconds between two looks whether the embedded PostgreSQL runs."""

logger = logging.getLogger(__name__)


async def serve(settings: Settings, record: Record | None = None) -> None:
    """Run until a signal ends it; what was accepted by then is finished and answered.

    Requests are recorded by one process, however many workers the settings ask for.

    Raises:
        SetupError: something is set up wrongly.
    """
    warn_of_open_door(settings)
    stop = stop_signal()
    async with database(settings) as reachable:
        if settings.workers > 1 and record is None:
            await supervise(reachable, stop)
        else:
            await work(reachable, stop, record=record)


def warn_of_open_door(settings: Settings) -> None:
    """Say aloud that whoever reaches this machine may write."""
    if settings.listens_beyond_loopback and not settings.guarded:
        logger.warning(
            "RECEIVER_LISTEN=%s without credentials: "
            "WHOEVER REACHES THIS ADDRESS MAY WRITE AND READ; "
            "set RECEIVER_BEARER_TOKEN or RECEIVER_CREDENTIALS_FILE "
            "(`receiver credential --help` tells how)",
            settings.listen,
        )


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[Settings]:
    """The same settings with a database: the embedded one where none is named.

    Raises:
        EmbeddedDatabaseError: it cannot be started.
    """
    if settings.database_url is not None:
        yield settings
        return
    async with embedded_database(settings.data_dir) as embedded:
        yield settings.model_copy(update={"database_url": SecretStr(embedded.url)})


@asynccontextmanager
async def embedded_database(data_dir: Path) -> AsyncIterator[EmbeddedPostgres]:
    """Run an embedded database; should it end by itself, it is started again.

    Raises:
        EmbeddedDatabaseError: it cannot be started, or not again.
    """
    embedded = EmbeddedPostgres(data_dir)
    try:
        await asyncio.to_thread(embedded.start)
        async with failing_with(keep_running(embedded)):
            yield embedded
    finally:
        await asyncio.to_thread(embedded.stop)


async def keep_running(embedded: EmbeddedPostgres) -> None:
    """Start the server again whenever it has ended.

    Raises:
        EmbeddedDatabaseError: it cannot be started again.
    """
    while True:
        await asyncio.sleep(LOOK)
        if not embedded.runs:
            logger.error("the embedded PostgreSQL has ended: starting it again")
            await asyncio.to_thread(embedded.start_again)


@asynccontextmanager
async def failing_with(watch: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Watch over something for as long as the context lasts, and cancel the context if that fails.

    Raises:
        EmbeddedDatabaseError: it failed.
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
