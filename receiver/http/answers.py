"""Builds the responses to write requests and health checks.

The class of an error states its status, except in a health check, which is answered 503 for every
reason. A request of which only some series are invalid raises no error, and is answered 400.
"""

from __future__ import annotations

import logging
import math
from datetime import timedelta
from http import HTTPStatus

from aiohttp import web

from receiver.errors import ReceiverError
from receiver.printable import printable
from receiver.rows.model import WriteRequest

logger = logging.getLogger(__name__)


def acknowledgement(decoded: WriteRequest, request_id: str) -> web.Response:
    """Answer a request whose valid series are all stored (2.0, "Response", "Partial Write")."""
    faults = decoded.faults
    if not faults.invalid:
        return web.Response(status=HTTPStatus.NO_CONTENT)
    text = (
        f"{faults.invalid} of {faults.total} series are invalid, the others are stored "
        f"(request {request_id}):\n" + "\n".join(map(printable, faults.first)) + "\n"
    )
    return web.Response(status=HTTPStatus.BAD_REQUEST, text=text)


def refusal(error: ReceiverError, retry_after: timedelta, request_id: str) -> web.Response:
    """Answer a request that is refused, and log why; parts of a large one may be stored."""
    ours = error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    logger.log(
        logging.WARNING if ours else logging.INFO,
        "%d %s",
        error.status,
        error,
        extra={"fault": error.cause, "status": int(error.status), "request_id": request_id},
    )
    text = f"{printable(str(error))} (request {request_id})\n"
    return web.Response(status=error.status, headers=retry_header(error, retry_after), text=text)


def not_ready(error: ReceiverError) -> web.Response:
    """Answer a health check of a receiver that cannot store samples: 503 for every reason."""
    text = f"The receiver is not ready: {error}\n"
    return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text=text)


def retry_header(error: ReceiverError, retry_after: timedelta) -> dict[str, str]:
    """Return the header `Retry-After`, in whole seconds, for an error with status 503."""
    if error.status != HTTPStatus.SERVICE_UNAVAILABLE:
        return {}
    return {"Retry-After": str(math.ceil(retry_after.total_seconds()))}


def count_written(decoded: WriteRequest) -> dict[str, str]:
    """Return the headers that 2.0 demands ("Required Written Response Headers").

    Filtered and rejected samples are included: the receiver has accepted them, and a sender treats
    a lower number as a failure.
    """
    return {
        "X-Prometheus-Remote-Write-Samples-Written": str(decoded.received),
        "X-Prometheus-Remote-Write-Histograms-Written": str(decoded.histograms),
        "X-Prometheus-Remote-Write-Exemplars-Written": str(decoded.exemplars),
    }
