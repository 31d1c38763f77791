"""One process that serves, from its start to its orderly end."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from aiohttp import web

from receiver import __version__
from receiver.app import DRAINING, STORE, TLS, build_app
from receiver.errors import SettingsError
from receiver.loop import collect_garbage_seldom
from receiver.security.headers import hide_versions
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
    ready_first: bool = False,
) -> None:
    """Serve until told to stop; what was accepted by then is finished and answered.

    Args:
        settings: All of them, with a database.
        stop: Set when it is to end.
        record: Is given each request.
        shared_metrics: Where the workers of one receiver share their metrics; without it, this is
            the only process.
        ready_first: Whether to listen only when samples can be stored; else it answers at once,
            and tells that it is not ready.

    Raises:
        SetupError: something is set up wrongly.
    """
    allow_many_connections()
    collect_garbage_seldom()
    app = build_app(settings, record, shared_metrics)

    async def opened() -> None:
        stopping = asyncio.create_task(stop.wait())
        opening = app[STORE].opening
        await asyncio.wait({stopping, opening}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if opening.done():
            # Nothing that is set up wrongly gets better by waiting.
            opening.result()

    # Of several workers' start and end, the process that runs them tells.
    alone = shared_metrics is None
    async with AsyncExitStack() as stack:
        if alone:
            stack.enter_context(told(settings))
        runner = await stack.enter_async_context(web_runner(app, settings))
        if ready_first:
            await opened()
        await listen(runner, settings, shared=not alone)
        await opened()
        await stop.wait()
        logger.info("shutting down", extra={"event": "draining"})
        app[DRAINING].set()
        await asyncio.sleep(settings.shutdown_delay.total_seconds())


@contextmanager
def told(settings: Settings) -> Iterator[None]:
    """Log the start and the end of the receiver."""
    about = {
        "version": __version__,
        "listen": settings.listen,
        "database": settings.database_place,
        "workers": settings.workers,
    }
    logger.info("starting", extra={"event": "start", **about})
    yield
    logger.info("stopped", extra={"event": "stopped"})


def allow_many_connections() -> None:
    """Raise the limit of open files as far as the system allows: every connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@asynccontextmanager
async def running(app: web.Application, settings: Settings) -> AsyncIterator[web.AppRunner]:
    """Listen, and in the end answer what was accepted.

    Raises:
        SettingsError: the address cannot be listened on.
    """
    async with web_runner(app, settings) as runner:
        await listen(runner, settings)
        yield runner


@asynccontextmanager
async def web_runner(app: web.Application, settings: Settings) -> AsyncIterator[web.AppRunner]:
    """Start the application, and end it when what was accepted is answered."""
    hide_versions()
    runner = web.AppRunner(
        app,
        access_log=None,
        # A content encoding is ours to judge: aiohttp would answer 400 to those it cannot read,
        # where senders that can fall back to snappy wait for 415.
        auto_decompress=False,
        keepalive_timeout=settings.idle_timeout.total_seconds(),
        # aiohttp waits for so long, and then as long again.
        shutdown_timeout=settings.shutdown_timeout.total_seconds() / 2,
    )
    await runner.setup()
    try:
        yield runner
    finally:
        await runner.cleanup()


async def listen(runner: web.AppRunner, settings: Settings, *, shared: bool = False) -> None:
    """Listen at the address that the settings say.

    Args:
        runner: What answers.
        settings: Where.
        shared: Whether other processes listen there too.

    Raises:
        SettingsError: the address cannot be listened on.
    """
    host, port = settings.address
    tls = runner.app.get(TLS)
    context = None if tls is None else tls.context
    try:
        await web.TCPSite(runner, host, port, reuse_port=shared, ssl_context=context).start()
    except OSError as error:
        raise cannot_listen(settings, error) from error
    for address in runner.addresses:
        scheme = "http" if context is None else "https"
        url = f"{scheme}://{address[0]}:{address[1]}{WRITE_PATH}"
        logger.info("listening on %s", url, extra={"event": "listening"})


def cannot_listen(settings: Settings, error: OSError) -> SettingsError:
    """What to say of an address that cannot be listened on."""
    # asyncio puts more around the system's words; those of a resolver have no number above 0.
    number = error.errno or 0
    reason = os.strerror(number) if number > 0 else error.strerror
    return SettingsError(
        f"RECEIVER_LISTEN={settings.listen}: cannot listen there: {reason}; choose another address "
        "with --listen (RECEIVER_LISTEN), such as --listen 127.0.0.1:9202"
    )
