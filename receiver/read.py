"""Handles `POST /api/v1/read`: a request from its headers to its answer, stage by stage."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from functools import cached_property
from typing import TYPE_CHECKING

from aiohttp import web

from receiver.config.settings import Settings
from receiver.errors import ReceiverError
from receiver.http.answers import refusal
from receiver.http.body import BodyLimits, read_body
from receiver.http.limits import InFlight
from receiver.http.peer import kept
from receiver.http.request_id import request_id
from receiver.http.streaming import Sending
from receiver.protocol.negotiation import check_read
from receiver.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from receiver.protocol.queries import ReadRequest
    from receiver.storage.reading.remote import RemoteReader

logger = logging.getLogger(__name__)


class ReadHandler:
    """Answers read requests.

    Args:
        settings: The receiver's settings, with the limits and the database URL.
        metrics: Counts requests and samples.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._limits = BodyLimits(
            settings.max_body_size, settings.read_timeout, settings.min_body_rate
        )
        # Separate from that of writes, whose commits wait for bodies that are arriving.
        self._in_flight = InFlight(
            settings.max_in_flight_requests,
            settings.max_in_flight_size,
            settings.max_arriving_size,
        )
        self._metrics = metrics

    async def run(self, _: web.Application) -> AsyncIterator[None]:
        """Close the connections when the application ends."""
        yield
        if "_reader" in self.__dict__:
            await self._reader.close()

    @cached_property
    def _reader(self) -> RemoteReader:
        # It loads numpy, which takes 20 MiB, and many receivers are never read from.
        from receiver.storage.reading.remote import RemoteReader  # noqa: PLC0415

        return RemoteReader(self._settings)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Handle one request, and turn every exception into an answer."""
        type_ = "unknown"
        with self._metrics.read_seconds.time():
            try:
                check_read(request.headers)
                body = await self._read_body(request)
                with kept(request), self._in_flight.admit() as admission:
                    admission.claim(len(body))
                    wanted = await self._reader.decode(body)
                    type_ = "streamed_xor_chunks" if wanted.streamed else "samples"
                    response = await self._answer(request, wanted)
            except ReceiverError as error:
                response = self._refuse(request, error)
            except Exception as error:
                about = {"fault": type(error).__name__, "request_id": request_id(request)}
                logger.exception("a read request failed", extra=about)
                response = self._refuse(request, ReceiverError(f"internal error: {error!r}"))
        self._metrics.reads.labels(response.status, type_).inc()
        return response

    def _refuse(self, request: web.Request, error: ReceiverError) -> web.Response:
        return refusal(error, self._settings.retry_after, request_id(request))

    async def _read_body(self, request: web.Request) -> bytes:
        self._in_flight.check()
        return await read_body(request, self._limits, self._in_flight.bodies)

    async def _answer(self, request: web.Request, wanted: ReadRequest) -> web.StreamResponse:
        answer = self._reader.answer_to(wanted)
        sending = Sending(request, answer.headers, whole=not wanted.streamed)
        try:
            self._metrics.samples_read.inc(await self._reader.read(wanted, answer, sending.send))
            await sending.finish()
        except Exception as error:
            if not sending.response.prepared:
                raise
            sending.break_off()
            self._metrics.broken_reads.inc()
            about = {"fault": type(error).__name__, "request_id": request_id(request)}
            logger.warning("an answer to a read request broke off: %s", error, extra=about)
        return sending.response
