"""The aiohttp application: its routes, and the parts that live as long as it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from aiohttp import web

from receiver.config.settings import Settings
from receiver.errors import ReceiverError, ShuttingDownError
from receiver.http import paths
from receiver.http.answers import not_ready
from receiver.http.body import leave_to_handler
from receiver.http.connections import Connections
from receiver.http.limits import InFlight
from receiver.http.request_id import answer_request_id
from receiver.protocol import v1, v2
from receiver.protocol.negotiation import Message
from receiver.protocol.scheduling import Decoder
from receiver.protocol.series import SeriesCache
from receiver.read import ReadHandler
from receiver.security.headers import add_headers
from receiver.security.origin import SameSite
from receiver.security.refuser import Refuser
from receiver.security.tls import ServerTLS
from receiver.storage.store import Store
from receiver.telemetry.metrics import CONTENT_TYPE, Metrics, State
from receiver.web.answers import answer_unknown
from receiver.web.routes import routes
from receiver.write import Record, WriteHandler

METRICS: Final = web.AppKey("metrics", Metrics)
STORE: Final = web.AppKey("store", Store)
TLS: Final = web.AppKey("tls", ServerTLS)
"""Present if the receiver serves HTTPS."""
IN_FLIGHT: Final = web.AppKey("in_flight", InFlight)
CONNECTIONS: Final = web.AppKey("connections", Connections)
EXPOSING: Final = web.AppKey("exposing", asyncio.Lock)
DRAINING: Final = web.AppKey("draining", asyncio.Event)
"""Set during the shutdown delay: requests are still answered, but `/-/ready` fails."""


def build_app(
    settings: Settings, record: Record | None = None, shared_metrics: Path | None = None
) -> web.Application:
    """Build the application; files and connections are opened when it starts.

    Raises:
        SettingsError: the files for credentials or TLS cannot be used.
    """
    in_flight = InFlight(
        settings.max_in_flight_requests, settings.max_in_flight_size, settings.max_arriving_size
    )
    metrics = Metrics(shared_metrics, settings.workers)
    store = Store(settings, lambda: in_flight.arriving, metrics)
    metrics.set_limits(settings, store.database.max_connections)
    metrics.set_tables(settings.catalogue)
    series = SeriesCache(settings.catalogue, settings.series_cache_size, settings.limits)
    decoders: dict[Message, Decoder] = {
        Message.V1: v1.Decoder(series, settings.limits),
        Message.V2: v2.Decoder(series, settings.limits),
    }
    app = web.Application()
    app[METRICS] = metrics
    app[CONNECTIONS] = count_connections(settings, metrics)
    app.cleanup_ctx.append(app[CONNECTIONS].run)
    secure(app, settings)
    app[STORE] = store
    app[IN_FLIGHT] = in_flight
    app[EXPOSING] = asyncio.Lock()
    app[DRAINING] = asyncio.Event()
    app.cleanup_ctx.extend((run_store, show_state))
    app.on_response_prepare.append(answer_request_id)
    write = WriteHandler(settings, decoders, store, in_flight, metrics)
    write.record = record
    app.router.add_post(paths.WRITE, write.handle, expect_handler=leave_to_handler)
    read = ReadHandler(settings, metrics)
    app.cleanup_ctx.append(read.run)
    app.router.add_post(paths.READ, read.handle, expect_handler=leave_to_handler)
    app.router.add_get(paths.METRICS, expose_metrics)
    app.router.add_get(paths.HEALTHY, answer_healthy)
    app.router.add_get(paths.READY, answer_ready)
    app.router.add_routes(routes(settings))
    app.middlewares.append(answer_unknown)
    return app


def count_connections(settings: Settings, metrics: Metrics) -> Connections:
    """Build the limit of connections, which closes those stalled for idle plus read timeout."""
    timeouts = settings.idle_timeout + settings.read_timeout
    return Connections(settings.max_connections, timeouts.total_seconds(), metrics.count_closed)


def secure(app: web.Application, settings: Settings) -> None:
    """Add authentication, TLS and security headers according to the settings."""
    app.on_response_prepare.append(add_headers)
    app.middlewares.append(SameSite(settings, Refuser(settings, app[METRICS])).middleware)
    if settings.tls_cert_file is not None:
        app[TLS] = ServerTLS(settings)
        app.cleanup_ctx.append(app[TLS].run)
    if settings.requires_credentials:
        # Imports PyYAML and bcrypt, 1.5 MiB in each process.
        from receiver.security.authentication import Authentication  # noqa: PLC0415

        guard = Authentication(settings, app[METRICS], app.get(TLS))
        app.cleanup_ctx.append(guard.run)
        app.middlewares.append(guard.middleware)


async def run_store(app: web.Application) -> AsyncIterator[None]:
    """Keep the store open while the application runs."""
    async with app[STORE]:
        yield


async def show_state(app: web.Application) -> AsyncIterator[None]:
    """Update the metrics of the process's state every second while the application runs."""

    async def keep_showing() -> None:
        while True:
            app[METRICS].show(state(app))
            app[METRICS].keep_files()
            await asyncio.sleep(1)

    showing = asyncio.create_task(keep_showing())
    yield
    showing.cancel()


def state(app: web.Application) -> State:
    """Return the current state of the process."""
    store = app[STORE]
    return State(
        store.queue.requests,
        store.queue.oldest_age,
        store.database.connections,
        app[IN_FLIGHT].size,
        app[IN_FLIGHT].bodies.size,
        len(app[CONNECTIONS]),
        store.reachable,
    )


async def expose_metrics(request: web.Request) -> web.Response:
    """Answer `GET /metrics`."""
    # One scrape at a time: each blocks the event loop, so write requests, for milliseconds.
    async with request.app[EXPOSING]:
        metrics = request.app[METRICS]
        metrics.show(state(request.app))
    return web.Response(body=metrics.expose(), headers={"Content-Type": CONTENT_TYPE})


async def answer_healthy(_: web.Request) -> web.Response:
    """Answer `GET /-/healthy`: the process is alive."""
    return web.Response(text="The receiver is healthy.\n")


async def answer_ready(request: web.Request) -> web.Response:
    """Answer `GET /-/ready`: whether samples can be stored now."""
    try:
        if request.app[DRAINING].is_set():
            raise ShuttingDownError
        await request.app[STORE].check()
    except ReceiverError as error:
        return not_ready(error)
    return web.Response(text="The receiver is ready.\n")
