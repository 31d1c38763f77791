"""Compresses pages unless their size could reveal a secret to another site (BREACH).

A page contains secrets as well as text from its URL. Another site can make the browser open URLs
with guesses, and an observer of the network sees the size of each encrypted response: it is smaller
if the page contains the guess. A browser marks such requests in `Sec-Fetch-Site`; they get the page
uncompressed. Tokens of forms are masked as well, and differ in each response.
"""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web

OWN_SITES: Final = frozenset({"same-origin", "none"})
GZIP: Final = re.compile(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))", re.IGNORECASE)
SMALLEST: Final = 1024
"""Size in bytes below which compression gains nothing."""
IN_THREAD: Final = 16 * 1024
"""Size in bytes from which a thread compresses, so that write requests need not wait."""


def compress(response: web.Response, request: web.Request) -> None:
    """Compress a response if that is safe and worthwhile, and the client accepts it."""
    body = response.body
    if isinstance(body, bytes) and len(body) >= SMALLEST and is_safe(request):
        use_gzip(response, request)


def use_gzip(response: web.Response, request: web.Request) -> None:
    """Compress a response if the client accepts gzip; aiohttp itself would prefer deflate."""
    if GZIP.search(request.headers.get("Accept-Encoding", "")):
        response.enable_compression(web.ContentCoding.gzip)


def is_safe(request: web.Request) -> bool:
    """Return whether no other site sends the request, or nothing is encrypted anyway.

    Browsers send `Sec-Fetch-Site` over every encrypted connection, also if a proxy encrypts it.
    """
    sites = request.headers.getall("Sec-Fetch-Site", [])
    if not sites:
        return not request.secure
    return all(site in OWN_SITES for site in sites)
