"""`receiver serve`: the database where none is named, then one process or several that serve."""

from __future__ import annotations

import logging

from receiver.config.settings import Settings
from receiver.embedded.running import database
from receiver.process.server import stop_signal, work
from receiver.process.workers import supervise
from receiver.write import Record

logger = logging.getLogger(__name__)


async def serve(settings: Settings, record: Record | None = None) -> None:
    """Run until a signal ends it; what was accepted by then is finished and answered.

    Requests are recorded by one process, however many workers the settings ask for.

    Raises:
        SetupError: something is set up wrongly.
    """
    warn_of_open_door(settings)
    stop = stop_signal()
    async with database(settings) as reachable:
        if settings.workers > 1 and record is None:
            await supervise(reachable, stop)
        else:
            await work(reachable, stop, record=record)


def warn_of_open_door(settings: Settings) -> None:
    """Say aloud that whoever reaches this machine may write."""
    if settings.listens_beyond_loopback and not settings.guarded:
        logger.warning(
            "RECEIVER_LISTEN=%s without credentials: "
            "WHOEVER REACHES THIS ADDRESS MAY WRITE AND READ; "
            "set RECEIVER_BEARER_TOKEN or RECEIVER_CREDENTIALS_FILE "
            "(`receiver credential --help` tells how)",
            settings.listen,
        )
