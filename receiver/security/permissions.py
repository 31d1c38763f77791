"""Checks the permission that a request needs: to read or to write."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from receiver.errors import ForbiddenError
from receiver.http import paths
from receiver.security.credentials import May

ONLY_READ: Final = frozenset({"GET", "HEAD"})


def require(request: web.Request, may: May | None) -> None:
    """Check that a client may send a request.

    Args:
        request: The request; every authenticated client may request `/metrics`.
        may: The only thing that the client may do; None: everything.

    Raises:
        ForbiddenError: the client may not send it.
    """
    if may is None or request.path == paths.METRICS:
        return
    reads = request.path == paths.READ or request.method in ONLY_READ
    if may != ("read" if reads else "write"):
        raise ForbiddenError(
            f"these credentials may only {may} (`may` in RECEIVER_CREDENTIALS_FILE)"
        )
