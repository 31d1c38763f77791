"""`receiver serve`: the server from start to orderly end."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from pydantic import SecretStr

from receiver.app import DRAINING, STORE, build_app
from receiver.embedded import EmbeddedPostgres
from receiver.errors import SettingsError
from receiver.settings import Settings
from receiver.write import WRITE_PATH, Record

logger = logging.getLogger(__name__)


async def serve(settings: Settings, record: Record | None = None) -> None:
    """Run until SIGTERM or SIGINT; what was accepted by then is finished and answered.

    Raises:
        SetupError: something is set up wrongly.
    """
    allow_many_connections()
    collect_garbage_seldom()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with database(settings) as reachable:
        app = build_app(reachable, record)
        async with running(app, reachable):
            stopping = asyncio.create_task(stop.wait())
            opening = app[STORE].opening
            await asyncio.wait({stopping, opening}, return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                # Nothing that is set up wrongly gets better by waiting.
                opening.result()
            await stopping
            logger.info("shutting down")
            app[DRAINING].set()
            await asyncio.sleep(settings.shutdown_delay.total_seconds())


def allow_many_connections() -> None:
    """Raise the limit of open files as far as the system allows: every connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def collect_garbage_seldom() -> None:
    """Let a batch come and go between two searches for cycles.

    Samples and rows are in none, but are made by the ten thousand: at Python's defaults the
    searches would take a quarter of the time.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


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
    """Run an embedded database.

    Raises:
        EmbeddedDatabaseError: it cannot be started.
    """
    embedded = EmbeddedPostgres(data_dir)
    try:
        await asyncio.to_thread(embedded.start)
        yield embedded
    finally:
        await asyncio.to_thread(embedded.stop)


@asynccontextmanager
async def running(app: web.Application, settings: Settings) -> AsyncIterator[web.AppRunner]:
    """Listen, and in the end answer what was accepted.

    Raises:
        SettingsError: the address cannot be listened on.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        # A content encoding is ours to judge: aiohttp would answer 400 to those it cannot read,
        # where senders that can fall back to snappy wait for 415.
        auto_decompress=False,
        keepalive_timeout=settings.idle_timeout.total_seconds(),
        shutdown_timeout=settings.shutdown_timeout.total_seconds(),
    )
    await runner.setup()
    try:
        host, port = settings.address
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise SettingsError(
                f"RECEIVER_LISTEN={settings.listen}: cannot listen there: {error.strerror}"
            ) from error
        for address in runner.addresses:
            logger.info("listening on http://%s:%d%s", address[0], address[1], WRITE_PATH)
        yield runner
    finally:
        await runner.cleanup()
