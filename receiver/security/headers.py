"""Security headers of every response, for browsers."""

from __future__ import annotations

from typing import Final

from aiohttp import web, web_response

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Default headers; a handler may set others, as the page does."""


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Add the headers that the handler has not set; for `on_response_prepare`."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)


def hide_versions() -> None:
    """Keep name and version of the server software out of all responses.

    `on_response_prepare` cannot do this: aiohttp does not call it for malformed requests.
    """
    web_response.SERVER_SOFTWARE = "receiver"  # type: ignore[attr-defined]
