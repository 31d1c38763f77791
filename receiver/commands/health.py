"""Ask the running receiver whether it is ready: for the health checks of containers.

It requests /-/ready at the address of --listen, and waits at most 5 s. The exit code is 0 if rows
can be stored now, else 1.

Example:
    receiver health --listen 127.0.0.1:9201
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from http import HTTPStatus
from typing import Final

from receiver.clients.health import ask_ready
from receiver.config.sections import Section
from receiver.config.settings import Settings
from receiver.errors import UnavailableError

SETTINGS: Final = (Section.SERVER,)


def add_arguments(parser: ArgumentParser) -> None:
    """Add nothing: the command has no arguments but the settings."""
    del parser


async def run(settings: Settings, arguments: Namespace) -> int:
    """Request `/-/ready` at the address in the settings.

    Raises:
        UnavailableError: the receiver is not ready, or nothing answers there.
    """
    del arguments
    status, text = await ask_ready(settings)
    if status != HTTPStatus.OK:
        raise UnavailableError(text)
    return 0
