"""Headers that every answer has, for browsers that should take nothing for what it is not."""

from __future__ import annotations

from typing import Final

from aiohttp import web, web_response

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""A handler may set others, as the page does."""


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Signal `on_response_prepare`: add what the handler has not set itself."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)


def hide_versions() -> None:
    """Let no answer tell which software of which version it comes from.

    Not by the signal: what is no HTTP, aiohttp answers without it.
    """
    web_response.SERVER_SOFTWARE = "receiver"  # type: ignore[attr-defined]
