"""Compresses pages where their size tells nothing to another site.

A page shows both secrets and text from its address. Another site can have the browser open such
addresses, and see over the network how large the encrypted answers are: what compresses well with
its guess is in the page (BREACH). A browser names such requests in `Sec-Fetch-Site`; they get the
page uncompressed. Tokens of forms are masked as well, and look different in each answer.
"""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web

OWN_SITES: Final = frozenset({"same-origin", "none"})
GZIP: Final = re.compile(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))", re.IGNORECASE)
SMALLEST: Final = 1024
"""Bytes below which nothing is gained."""
IN_THREAD: Final = 16 * 1024
"""Bytes from which on a thread compresses, so that write requests need not wait."""


def compress(response: web.Response, request: web.Request) -> None:
    """Have an answer compressed if that is safe, worth it, and the client accepts it."""
    body = response.body
    if isinstance(body, bytes) and len(body) >= SMALLEST and is_safe(request):
        use_gzip(response, request)


def use_gzip(response: web.Response, request: web.Request) -> None:
    """Have an answer compressed if the client accepts gzip; aiohttp itself would prefer deflate."""
    if GZIP.search(request.headers.get("Accept-Encoding", "")):
        response.enable_compression(web.ContentCoding.gzip)


def is_safe(request: web.Request) -> bool:
    """Return whether no other site sends the request, or nothing is encrypted anyway.

    Browsers send `Sec-Fetch-Site` wherever the connection is encrypted, also by a proxy.
    """
    sites = request.headers.getall("Sec-Fetch-Site", [])
    if not sites:
        return not request.secure
    return all(site in OWN_SITES for site in sites)
