"""Serves the page's own files."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import Final

from aiohttp import web

from receiver.web.compressing import use_gzip
from receiver.web.headers import HEADERS

STATIC: Final = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
FOREVER: Final = "public, max-age=31536000, immutable"


@cache
def read(name: str) -> bytes:
    """Read one of the files."""
    return (files("receiver.web") / "static" / name).read_bytes()


@cache
def version() -> str:
    """Return a digest of all files, which is part of their URLs, so that browsers cache them."""
    return hashlib.sha256(b"".join(read(name) for name in STATIC)).hexdigest()[:12]


async def send_static(request: web.Request) -> web.Response:
    """Answer `GET /static/…` with one of the page's files.

    Raises:
        HTTPNotFound: there is no such file.
    """
    name = request.match_info["name"]
    if name not in STATIC:
        raise web.HTTPNotFound
    kept = FOREVER if request.query.get("v") == version() else "no-cache"
    response = web.Response(
        body=read(name),
        content_type=STATIC[name],
        charset="utf-8",
        headers={**HEADERS, "Cache-Control": kept, "Vary": "Accept-Encoding"},
    )
    use_gzip(response, request)
    return response
