"""A connection for the commands that look into the database, whoever runs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import SecretStr

from receiver.config.settings import Settings
from receiver.embedded import EmbeddedPostgres
from receiver.embedded.running import database
from receiver.storage.connection.database import Connection
from receiver.storage.reading.tables import connect


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Connection]:
    """Connect to the database that the settings name, or to the embedded one.

    Raises:
        SetupError: there is no database to connect to, or it has no tables.
        DatabaseUnavailableError: it cannot be reached.
    """
    shared = await asyncio.to_thread(share_embedded, settings)
    async with database(shared) as reachable, connect(reachable) as connection:
        yield connection


def share_embedded(settings: Settings) -> Settings:
    """Name the embedded database if it runs, which it does while another receiver serves."""
    if settings.database_url is None:
        url = EmbeddedPostgres(settings.data_dir).running_url()
        if url is not None:
            return settings.model_copy(update={"database_url": SecretStr(url)})
    return settings
