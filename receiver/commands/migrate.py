"""Bring the database schema up to date; safe to run at any time, by several at once."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from receiver.serve import database
from receiver.settings import Settings
from receiver.storage.migrations import migrate


def add_arguments(parser: ArgumentParser) -> None:
    """It has no arguments but the settings."""
    del parser


async def run(settings: Settings, arguments: Namespace) -> int:
    """Migrate."""
    del arguments
    async with database(settings) as reachable:
        await migrate(reachable)
    return 0
