"""Writes the errors of HTTP requests for people."""

from __future__ import annotations

import re
from typing import Final

SSL: Final = re.compile(r" ssl:(default|<[^>]*>)")
"""What aiohttp adds to a host, even if the URL has no TLS."""


def without_ssl(error: Exception) -> str:
    """Return the text of an error, without the TLS context that aiohttp names beside the host."""
    return SSL.sub("", str(error))
