"""Handles `POST /api/v1/write`: a request from its headers to its answer, stage by stage."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Final, Protocol, TypeAlias

from aiohttp import web

from receiver.config.settings import Settings
from receiver.errors import ReceiverError
from receiver.http.answers import acknowledgement, count_written, refusal
from receiver.http.body import BodyLimits, read_body
from receiver.http.limits import Admission, InFlight
from receiver.http.peer import kept
from receiver.http.request_id import request_id
from receiver.protocol.compression import check_size
from receiver.protocol.negotiation import Message, negotiate
from receiver.protocol.scheduling import Decoder, Scheduler
from receiver.rows.batch import Outcomes
from receiver.rows.model import Faults, Sample, WriteRequest
from receiver.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

VERSIONS: Final = {Message.V1: "1.0", Message.V2: "2.0"}
NOTHING: Final = WriteRequest([], 0, 0, 0, 0, Faults(0, 0, []))


class Storage(Protocol):
    """Stores samples."""

    async def store(self, samples: Collection[Sample]) -> Outcomes:
        """Store samples, or none if all are filtered; return when they are committed."""


Record: TypeAlias = Callable[[web.Request, bytes], Awaitable[None]]
"""Called with each request and its body as received, before it is decoded."""


class WriteHandler:
    """Answers write requests.

    Args:
        settings: The receiver's settings, with the limits.
        decoders: The decoder of each message that can be negotiated.
        storage: Stores the samples.
        in_flight: Counts the requests in flight.
        metrics: Counts requests and samples.
    """

    def __init__(
        self,
        settings: Settings,
        decoders: dict[Message, Decoder],
        storage: Storage,
        in_flight: InFlight,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._limits = BodyLimits(
            settings.max_body_size, settings.read_timeout, settings.min_body_rate
        )
        self._decoders = decoders
        self._storage = storage
        self._in_flight = in_flight
        self._metrics = metrics
        self._scheduler = Scheduler()
        self.record: Record | None = None

    async def handle(self, request: web.Request) -> web.Response:
        """Handle one request, and turn every exception into an answer."""
        version = "unknown"
        with self._metrics.request_seconds.time():
            try:
                message = negotiate(request.headers)
            except ReceiverError as error:
                response = self._refuse(request, error)
            else:
                version = VERSIONS[message]
                response = await self._answer(message, request)
        self._metrics.requests.labels(response.status, version).inc()
        return response

    async def _answer(self, message: Message, request: web.Request) -> web.Response:
        written = NOTHING
        try:
            body = await self._read(request)
            with kept(request), self._in_flight.admit() as admission:
                written = await self._take(message, request, body, admission)
            response = acknowledgement(written, request_id(request))
        except ReceiverError as error:
            response = self._refuse(request, error)
        except Exception as error:
            # Unknown errors are answered 500, so that the sender retries.
            about = {"fault": type(error).__name__, "request_id": request_id(request)}
            logger.exception("a write request failed", extra=about)
            response = self._refuse(request, ReceiverError(f"internal error: {error!r}"))
        if message is not Message.V1:
            # 1.0 has no such headers, and its senders could take a 0 for a loss.
            response.headers.update(count_written(written))
        return response

    def _refuse(self, request: web.Request, error: ReceiverError) -> web.Response:
        self._metrics.count_refused(error)
        return refusal(error, self._settings.retry_after, request_id(request))

    async def _read(self, request: web.Request) -> bytes:
        self._in_flight.check()
        return await read_body(request, self._limits, self._in_flight.bodies)

    async def _take(
        self, message: Message, request: web.Request, body: bytes, admission: Admission
    ) -> WriteRequest:
        with self._metrics.in_flight.track_inprogress():
            admission.claim(len(body))
            if self.record is not None:
                await self.record(request, body)
            decoded = await self._decode(message, request, body, admission)
            await self._store(decoded)
        return decoded

    async def _decode(
        self, message: Message, request: web.Request, body: bytes, admission: Admission
    ) -> WriteRequest:
        def is_gone() -> bool:
            return request.transport is None or request.transport.is_closing()

        size = check_size(body, self._settings.max_message_size)
        admission.claim(size)
        decoded = await self._scheduler.decode(self._decoders[message], body, size, is_gone)
        admission.claim(max(0, decoded.size - size))
        admission.arrive()
        return decoded.request

    async def _store(self, decoded: WriteRequest) -> None:
        outcomes = await self._storage.store(decoded.samples) if decoded.received else Outcomes()
        self._metrics.count_acknowledged(
            received=decoded.received,
            filtered=decoded.received - decoded.kept,
            stale=outcomes.stale,
        )
