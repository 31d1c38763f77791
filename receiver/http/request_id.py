"""The id of a request, for its response and the log: the sender's, or a generated one."""

from __future__ import annotations

import re
import secrets
from typing import Final

from aiohttp import web

HEADER: Final = "X-Request-ID"
SANE: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}", re.ASCII)
REQUEST_ID: Final = web.RequestKey("request_id", str)


def request_id(request: web.BaseRequest) -> str:
    """Return the id of a request: from its header if that is safe to show, else a generated one."""
    found = request.get(REQUEST_ID)
    if found is None:
        given = request.headers.get(HEADER, "")
        found = given if SANE.fullmatch(given) else secrets.token_hex(8)
        request[REQUEST_ID] = found
    return found


async def answer_request_id(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Add the request's id to the response; for `on_response_prepare`."""
    response.headers[HEADER] = request_id(request)
