"""One process that serves, from its start to its orderly end."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from receiver.app import DRAINING, STORE, build_app
from receiver.errors import SettingsError
from receiver.loop import collect_garbage_seldom
from receiver.settings import Settings
from receiver.write import WRITE_PATH, Record

logger = logging.getLogger(__name__)


def stop_signal() -> asyncio.Event:
    """What SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def work(
    settings: Settings,
    stop: asyncio.Event,
    *,
    record: Record | None = None,
    shared_metrics: Path | None = None,
) -> None:
    """Serve until told to stop; what was accepted by then is finished and answered.

    Args:
        settings: All of them, with a database.
        stop: Set when it is to end.
        record: Is given each request.
        shared_metrics: Where the workers of one receiver share their metrics; without it, this is
            the only process.

    Raises:
        SetupError: something is set up wrongly.
    """
    allow_many_connections()
    collect_garbage_seldom()
    app = build_app(settings, record, shared_metrics)
    async with running(app, settings, shared=shared_metrics is not None):
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


@asynccontextmanager
async def running(
    app: web.Application, settings: Settings, *, shared: bool = False
) -> AsyncIterator[web.AppRunner]:
    """Listen, and in the end answer what was accepted.

    Args:
        app: What answers.
        settings: Where to listen, and the time limits.
        shared: Whether other processes listen at the same address.

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
            await web.TCPSite(runner, host, port, reuse_port=shared).start()
        except OSError as error:
            raise cannot_listen(settings, error) from error
        for address in runner.addresses:
            logger.info("listening on http://%s:%d%s", address[0], address[1], WRITE_PATH)
        yield runner
    finally:
        await runner.cleanup()


def cannot_listen(settings: Settings, error: OSError) -> SettingsError:
    """What to say of an address that cannot be listened on."""
    return SettingsError(
        f"RECEIVER_LISTEN={settings.listen}: cannot listen there: {error.strerror}"
    )
