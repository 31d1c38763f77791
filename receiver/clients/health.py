"""Asks the running receiver whether it is ready."""

from __future__ import annotations

import asyncio
import os
import ssl
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final
from urllib.parse import urlsplit

from receiver.config.settings import Settings
from receiver.errors import UnavailableError
from receiver.http import paths

TIMEOUT: Final = 5.0
"""Seconds to wait for the response."""


async def ask_ready(settings: Settings) -> tuple[int, str]:
    """Request `/-/ready` at the address in the settings; return status and text of the response.

    Raises:
        UnavailableError: nothing answers there.
    """
    try:
        return await asyncio.wait_for(asyncio.to_thread(fetch_ready, settings.own_url), TIMEOUT)
    except (HTTPException, TimeoutError, OSError) as error:
        url = f"{settings.own_url}{paths.READY}"
        raise UnavailableError(f"no receiver answers at {url}: {reason(error)}") from error


def fetch_ready(own_url: str) -> tuple[int, str]:
    """Request `/-/ready` with the standard library alone: health checks run every few seconds."""
    parts = urlsplit(own_url)
    if parts.scheme == "https":
        # The certificate is not verified: only the response matters, no secret is sent, and a
        # certificate that is just being replaced must not get a container killed.
        context = ssl._create_unverified_context()  # noqa: S323, SLF001
        connection: HTTPConnection = HTTPSConnection(parts.netloc, timeout=TIMEOUT, context=context)
    else:
        connection = HTTPConnection(parts.netloc, timeout=TIMEOUT)
    with closing(connection):
        connection.request("GET", paths.READY)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace").strip()


def reason(error: Exception) -> str:
    """Return why there was no response, in the operating system's words if it has any."""
    if not isinstance(error, OSError):
        return str(error)
    # Resolver errors have their own numbers, below 0.
    number = error.errno or 0
    return (
        os.strerror(number) if number > 0 else str(error.strerror or error) or "no answer in time"
    )
