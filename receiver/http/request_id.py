"""What a request is called, in its answer and in the log: the sender's own word or one of ours."""

from __future__ import annotations

import re
import secrets
from typing import Final

from aiohttp import web

HEADER: Final = "X-Request-ID"
SANE: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}", re.ASCII)
REQUEST_ID: Final = web.RequestKey("request_id", str)


def request_id(request: web.BaseRequest) -> str:
    """The request's id: from its header if that is sane, else made; it stays the same."""
    found = request.get(REQUEST_ID)
    if found is None:
        given = request.headers.get(HEADER, "")
        found = given if SANE.fullmatch(given) else secrets.token_hex(8)
        request[REQUEST_ID] = found
    return found


async def answer_request_id(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Put the id on the answer; for `on_response_prepare`."""
    response.headers[HEADER] = request_id(request)
