"""Connects commands to the database, also to a running embedded one.

There is one way to open connections for each purpose:

- `connected`, here: one connection of a command that reads rows or edits what people enter;
- `storage.connection.database.Database`: the pool of the write path;
- `storage.reading.pool.ReadPool`: the pool of remote read;
- `storage.reading.connection.Viewer`: a few read-only connections for pages;
- `web.forms.Forms`: one read-write connection for the forms of pages;
- `storage.schema.revisions.schema_transaction`: a migration, or the check of the schema;
- `storage.diagnosis.diagnose`: the checks of `receiver doctor`, each with its own errors.

The pools open connections by `storage.connection.connecting.open_connection`, and all others by
`storage.connection.database.session`, which calls it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from receiver.config.settings import Settings
from receiver.embedded.running import shared_database
from receiver.storage.connection.database import Connection, session
from receiver.storage.reading.tables import connect, require_table


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Connection]:
    """Open a read-write connection to the database in the settings, or to the embedded one.

    Raises:
        SetupError: there is no database, or it has no tables.
        DatabaseUnavailableError: it cannot be reached.
    """
    async with shared_database(settings) as reachable, connect(reachable) as connection:
        yield connection


@asynccontextmanager
async def reachable_database(settings: Settings) -> AsyncIterator[Settings]:
    """Yield settings that name a database that accepts connections, as `shared_database` does.

    A command ends if it does not, whereas the receiver waits for it.

    Raises:
        EmbeddedDatabaseError: the embedded database does not run, and cannot be started.
        DatabaseUnavailableError: the database cannot be reached.
    """
    async with shared_database(settings) as reachable:
        async with session(reachable):
            pass
        yield reachable


@asynccontextmanager
async def connected_to_calendar(settings: Settings) -> AsyncIterator[Connection]:
    """Open a connection as `connected` does, for commands that need the calendar of reports.

    Raises:
        SetupError: there is no database, or an older receiver has set it up.
        DatabaseUnavailableError: it cannot be reached.
    """
    async with connected(settings) as connection:
        await require_table(connection, "report_settings")
        yield connection
