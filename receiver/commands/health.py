"""Ask the running receiver whether it is ready: for the health checks of containers.

It asks /-/ready at the address of --listen, and waits 5 s at most. The exit code is 0 if rows can
be stored now, else 1.

Example:
    receiver health --listen 127.0.0.1:9201
"""

from __future__ import annotations

import asyncio
import os
import ssl
from argparse import ArgumentParser, Namespace
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final
from urllib.parse import urlsplit

from receiver.config.sections import Section
from receiver.config.settings import Settings
from receiver.errors import UnavailableError

SETTINGS: Final = (Section.SERVER,)
TIMEOUT: Final = 5.0
"""Seconds."""


def add_arguments(parser: ArgumentParser) -> None:
    """It has no arguments but the settings."""
    del parser


async def run(settings: Settings, arguments: Namespace) -> int:
    """Ask `/-/ready` at the address that this receiver's settings say.

    Raises:
        UnavailableError: it is not ready, or nothing answers there.
    """
    del arguments
    status, text = await ask_ready(settings)
    if status != HTTPStatus.OK:
        raise UnavailableError(text)
    return 0


async def ask_ready(settings: Settings) -> tuple[int, str]:
    """What `/-/ready` answers: status and text.

    Raises:
        UnavailableError: nothing answers there.
    """
    try:
        return await asyncio.wait_for(asyncio.to_thread(fetch_ready, settings.own_url), TIMEOUT)
    except (HTTPException, TimeoutError, OSError) as error:
        url = f"{settings.own_url}/-/ready"
        raise UnavailableError(f"no receiver answers at {url}: {reason(error)}") from error


def fetch_ready(own_url: str) -> tuple[int, str]:
    """Ask, with no more than Python itself has: this runs every few seconds in each container."""
    parts = urlsplit(own_url)
    if parts.scheme == "https":
        # The answer is all that matters, and no secret is sent: whatever the certificate is like,
        # one that is just being replaced must not get a container killed.
        context = ssl._create_unverified_context()  # noqa: S323, SLF001
        connection: HTTPConnection = HTTPSConnection(parts.netloc, timeout=TIMEOUT, context=context)
    else:
        connection = HTTPConnection(parts.netloc, timeout=TIMEOUT)
    with closing(connection):
        connection.request("GET", "/-/ready")
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace").strip()


def reason(error: Exception) -> str:
    """Why nothing answers, in the system's words where it has any."""
    if not isinstance(error, OSError):
        return str(error)
    # A resolver's faults have numbers of its own, below 0.
    number = error.errno or 0
    return (
        os.strerror(number) if number > 0 else str(error.strerror or error) or "no answer in time"
    )
