"""Answers requests that are refused before a handler has seen them."""

from __future__ import annotations

from aiohttp import web

from receiver.config.settings import Settings
from receiver.errors import ReceiverError
from receiver.http import paths
from receiver.http.answers import refusal
from receiver.http.request_id import request_id
from receiver.telemetry.metrics import Metrics


class Refuser:
    """Makes the answers.

    Args:
        settings: How long a sender should wait.
        metrics: Where to count the write requests that are refused.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        self._retry_after = settings.retry_after

    def __call__(self, request: web.Request, error: ReceiverError, hint: str = "") -> web.Response:
        """Return the answer to a request; a hint is for people, so not for those who write."""
        response = refusal(error, self._retry_after, request_id(request))
        if request.path == paths.WRITE:
            self._metrics.count_refused(error)
            self._metrics.requests.labels(error.status, "unknown").inc()
        elif hint:
            response.text = f"{response.text}\n{hint}\n"
        return response
