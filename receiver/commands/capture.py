"""Receive and store as `receiver serve` does, and record each write request for `receiver replay`.

Only the headers that a replay needs are recorded, never a credential.

Example:
    receiver capture captures
"""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace
from pathlib import Path

from receiver.clients.capture import Recorder
from receiver.config.settings import Settings
from receiver.process.serve import serve

logger = logging.getLogger(__name__)


def add_arguments(parser: ArgumentParser) -> None:
    """Add the directory."""
    parser.add_argument(
        "directory", metavar="DIRECTORY", type=Path, help="directory for the file of this run"
    )


async def run(settings: Settings, arguments: Namespace) -> int:
    """Serve and record until a signal ends the program."""
    with Recorder(arguments.directory) as recorder:
        logger.info("recording into %s", recorder.path)
        await serve(settings, recorder.record)
    return 0
