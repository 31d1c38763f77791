"""Runs one serving process, from its start to its graceful end."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from aiohttp import web

from receiver import __version__
from receiver.config.settings import Settings
from receiver.errors import SettingsError
from receiver.http import paths
from receiver.http.peer import Peer
from receiver.process.app import CONNECTIONS, DRAINING, STORE, TLS, build_app
from receiver.process.listening import Listener, Site
from receiver.process.loop import use_small_tls_buffers
from receiver.process.memory import collect_garbage_seldom, keep_freed_memory
from receiver.process.signals import ending_signals
from receiver.process.sockets import bind
from receiver.security.headers import hide_versions
from receiver.write import Record

OWN_FILES: Final = 64
"""Open files besides the connections of clients: database, metrics, logs, certificates."""
FEWEST_CONNECTIONS: Final = 16
HANDSHAKE: Final = 10.0
"""Seconds a TLS handshake may take."""
READ_BUFFER: Final = 64 * 1024
"""Bytes of a body that are buffered before reading from the sender pauses."""

logger = logging.getLogger(__name__)


def stop_signal() -> asyncio.Event:
    """Return an event that is set by the signals that end the program."""
    stop = asyncio.Event()
    for number in ending_signals():
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
    """Serve until the event `stop` is set; accepted requests are finished and answered.

    Args:
        settings: All settings, with a database.
        stop: Ends the server when it is set.
        record: Called with each request.
        shared_metrics: Directory in which the workers of a receiver share their metrics; None:
            this is the only process.
        ready_first: Whether to listen only when samples can be stored; else requests are answered
            503 until then.

    Raises:
        SetupError: settings or database are not set up correctly.
    """
    settings = settings.model_copy(
        update={"max_connections": allow_connections(settings, quiet=ready_first)}
    )
    collect_garbage_seldom()
    keep_freed_memory()
    use_small_tls_buffers()
    app = build_app(settings, record, shared_metrics)

    async def opened() -> None:
        stopping = asyncio.create_task(stop.wait())
        opening = app[STORE].opening
        await asyncio.wait({stopping, opening}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if opening.done():
            # Raises the error of a wrong setup, which waiting does not fix.
            opening.result()

    # With several workers, their parent process logs start and end.
    alone = shared_metrics is None
    async with AsyncExitStack() as stack:
        if alone:
            stack.enter_context(start_and_end_logged(settings))
        runner = await stack.enter_async_context(web_runner(app, settings))
        if ready_first:
            await opened()
        await listen(runner, settings, shared=not alone)
        if not ready_first:
            logger.info("the page is at %s", page_url(runner), extra={"event": "page"})
        await opened()
        await stop.wait()
        logger.info("shutting down", extra={"event": "draining"})
        app[DRAINING].set()
        await asyncio.sleep(settings.shutdown_delay.total_seconds())


@contextmanager
def start_and_end_logged(settings: Settings) -> Iterator[None]:
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


def allow_connections(settings: Settings, *, quiet: bool = False) -> int:
    """Raise the limit of open files as far as needed: every connection is one.

    Args:
        settings: The receiver's settings, with the maximum number of connections.
        quiet: Whether another worker of the same receiver logs the warning.

    Returns:
        The possible number of connections.

    Raises:
        SettingsError: the system allows too few open files.
    """
    needed = settings.max_connections + OWN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    fewest = OWN_FILES + min(FEWEST_CONNECTIONS, settings.max_connections)
    if allowed < fewest:
        raise SettingsError(
            f"`ulimit -n` allows {hard} open files, the receiver needs {fewest} at least: raise it"
        )
    if allowed < needed and not quiet:
        logger.warning(
            "`ulimit -n` allows %d open files, RECEIVER_MAX_CONNECTIONS=%d needs %d: "
            "at most %d connections are open at once",
            *(hard, settings.max_connections, needed, allowed - OWN_FILES),
            extra={"event": "few_files"},
        )
    return allowed - OWN_FILES


@asynccontextmanager
async def running(app: web.Application, settings: Settings) -> AsyncIterator[web.AppRunner]:
    """Listen within this context; at its end, accepted requests are answered.

    Raises:
        SettingsError: the address cannot be listened on.
    """
    async with web_runner(app, settings) as runner:
        await listen(runner, settings)
        yield runner


@asynccontextmanager
async def web_runner(app: web.Application, settings: Settings) -> AsyncIterator[web.AppRunner]:
    """Run the application within this context; at its end, accepted requests are answered."""
    hide_versions()
    # aiohttp waits for this timeout twice.
    runner = web.AppRunner(app, shutdown_timeout=settings.shutdown_timeout.total_seconds() / 2)
    await runner.setup()
    try:
        yield runner
    finally:
        await runner.cleanup()


async def listen(runner: web.AppRunner, settings: Settings, *, shared: bool = False) -> None:
    """Listen on the address in the settings.

    Args:
        runner: Answers the requests.
        settings: The receiver's settings, with the address.
        shared: Whether other processes listen on the same address.

    Raises:
        SettingsError: the address cannot be listened on.
    """
    tls = runner.app.get(TLS)
    context = None if tls is None else tls.context
    idle = settings.idle_timeout.total_seconds()
    try:
        listener = Listener(
            await bind(*settings.address, shared=shared),
            runner.app[CONNECTIONS],
            partial(make_peer, runner, idle),
            context,
            min(HANDSHAKE, idle),
        )
        await Site(runner, listener).start()
    except OSError as error:
        raise cannot_listen(settings, error) from error
    for address in runner.addresses:
        scheme = "http" if context is None else "https"
        url = f"{scheme}://{address[0]}:{address[1]}{paths.WRITE}"
        logger.info("listening on %s", url, extra={"event": "listening"})


def page_url(runner: web.AppRunner) -> str:
    """Return the address of the page for a browser on this machine."""
    address = ipaddress.ip_address(runner.addresses[0][0])
    if address.is_unspecified:
        # A browser cannot open the wildcard address.
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    host = f"[{address}]" if address.version == 6 else address
    scheme = "http" if runner.app.get(TLS) is None else "https"
    return f"{scheme}://{host}:{runner.addresses[0][1]}/"


def make_peer(runner: web.AppRunner, idle_timeout: float) -> Peer:
    """Make the HTTP protocol of one connection."""
    assert runner.server is not None  # noqa: S101  it is set up
    return Peer(
        runner.server,
        runner.app[CONNECTIONS],
        access_log=None,
        # aiohttp would answer unknown content encodings with 400; senders that can fall back to
        # snappy wait for 415.
        auto_decompress=False,
        keepalive_timeout=idle_timeout,
        read_bufsize=READ_BUFFER,
    )


def cannot_listen(settings: Settings, error: OSError) -> SettingsError:
    """Return the error for an address that cannot be listened on."""
    # asyncio adds text to the system's message; errors of a resolver have no number above 0.
    number = error.errno or 0
    reason = os.strerror(number) if number > 0 else error.strerror
    return SettingsError(
        f"RECEIVER_LISTEN={settings.listen}: cannot listen there: {reason}; choose another address "
        "with --listen (RECEIVER_LISTEN), such as --listen 127.0.0.1:9202"
    )
