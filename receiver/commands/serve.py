r"""Receive remote-write requests and store them, until a signal ends it.

POST /api/v1/write accepts Remote-Write 1.0 and 2.0; GET /metrics, /-/healthy and /-/ready report
its state. Without a database URL it runs an embedded PostgreSQL.

Examples:
    receiver serve
    receiver serve --workers 2 \
        --database-url postgresql://receiver@db.example.com/factory

On SIGTERM, SIGINT, SIGHUP or SIGQUIT it finishes and answers all accepted requests, and ends with
exit code 0.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from receiver.config.settings import Settings
from receiver.process.serve import serve


def add_arguments(parser: ArgumentParser) -> None:
    """Add nothing: the command has no arguments but the settings."""
    del parser


async def run(settings: Settings, arguments: Namespace) -> int:
    """Serve until a signal ends the program."""
    del arguments
    await serve(settings)
    return 0
