"""Receive remote-write requests and store them, until SIGTERM or SIGINT."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from receiver.serve import serve
from receiver.settings import Settings


def add_arguments(parser: ArgumentParser) -> None:
    """It has no arguments but the settings."""
    del parser


async def run(settings: Settings, arguments: Namespace) -> int:
    """Serve until told to stop."""
    del arguments
    await serve(settings)
    return 0
