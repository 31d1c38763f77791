"""Runs `receiver serve`: the embedded database if needed, and one or several processes."""

from __future__ import annotations

import logging

from receiver.config.settings import Settings
from receiver.embedded.running import database
from receiver.process.server import stop_signal, work
from receiver.process.workers import supervise
from receiver.write import Record

logger = logging.getLogger(__name__)


async def serve(settings: Settings, record: Record | None = None) -> None:
    """Serve until a signal ends the program; accepted requests are finished and answered.

    With `record`, there is a single process, whatever number of workers is set.

    Raises:
        SetupError: settings or database are not set up correctly.
    """
    warn_if_unauthenticated(settings)
    # Reads the tables file, so that an error in it is reported before any process is started.
    tables = ", ".join(table.name for table in settings.catalogue.tables)
    logger.debug("samples of declared metrics become rows of %s", tables)
    stop = stop_signal()
    async with database(settings) as reachable:
        if settings.workers > 1 and record is None:
            await supervise(reachable, stop)
        else:
            await work(reachable, stop, record=record)


def warn_if_unauthenticated(settings: Settings) -> None:
    """Log a warning if other machines can write without credentials."""
    if settings.listens_beyond_loopback and not settings.requires_credentials:
        logger.warning(
            "RECEIVER_LISTEN=%s without credentials: "
            "ANYONE WHO REACHES THIS ADDRESS CAN WRITE AND READ; "
            "set RECEIVER_BEARER_TOKEN or RECEIVER_CREDENTIALS_FILE "
            "(see `receiver credential --help`)",
            settings.listen,
        )
