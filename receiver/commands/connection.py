"""Connects commands to the database, also to a running embedded one.

There is one way to a connection for each purpose:

- `connected`, here: one connection of a command that reads rows or edits codes;
- `storage.connection.database.Database`: the pool of the write path;
- `storage.reading.connection.Viewer`: a few read-only connections for pages;
- `storage.schema.revisions.schema_transaction`: a migration, or the check of the schema;
- `storage.diagnosis.diagnose`: the checks of `receiver doctor`, each with its own errors.

All of them open sessions by `storage.connection.database.session`.
"""

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
    """Open a read-write connection to the database in the settings, or to the embedded one.

    Raises:
        SetupError: there is no database, or it has no tables.
        DatabaseUnavailableError: it cannot be reached.
    """
    shared = await asyncio.to_thread(share_embedded, settings)
    async with database(shared) as reachable, connect(reachable) as connection:
        yield connection


def share_embedded(settings: Settings) -> Settings:
    """Return settings that name the embedded database if another receiver runs it."""
    if settings.database_url is None:
        url = EmbeddedPostgres(settings.data_dir).running_url()
        if url is not None:
            return settings.model_copy(update={"database_url": SecretStr(url)})
    return settings
