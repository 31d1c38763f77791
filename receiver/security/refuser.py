"""Answers requests that are refused before they reach a handler."""

from __future__ import annotations

from aiohttp import web

from receiver.config.settings import Settings
from receiver.errors import ReceiverError
from receiver.http import paths
from receiver.http.answers import refusal
from receiver.http.request_id import request_id
from receiver.telemetry.metrics import Metrics


class Refuser:
    """Answers refused requests.

    Args:
        settings: The receiver's settings, with the time that senders should wait.
        metrics: Counts the write requests that are refused.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        self._retry_after = settings.retry_after

    def __call__(self, request: web.Request, error: ReceiverError, hint: str = "") -> web.Response:
        """Return the response; the hint is for people, so not added for remote write and read."""
        response = refusal(error, self._retry_after, request_id(request))
        if request.path == paths.WRITE:
            self._metrics.count_refused(error)
            self._metrics.requests.labels(error.status, "unknown").inc()
        elif request.path == paths.READ:
            self._metrics.reads.labels(error.status, "unknown").inc()
        elif hint:
            response.text = f"{response.text}\n{hint}\n"
        return response
