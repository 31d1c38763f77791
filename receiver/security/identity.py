"""The identity of a request's sender, according to its credentials."""

from __future__ import annotations

from typing import Final

from aiohttp import web

IDENTITY: Final = web.RequestKey("identity", str)
"""The user's name, `token`, or the name in the client certificate; absent without credentials."""

ONLY_READS: Final = web.RequestKey("only_reads", bool)
"""Whether the credentials may only read; absent without credentials."""
