"""Finds the revision of the schema, and migrates it to the newest.

A revision is a script of plain SQL in `migrations/`, whose name begins with its number. All missing
ones run in one transaction, in one replica after the other.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import asyncpg
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from receiver.config.settings import Settings
from receiver.errors import (
    ConflictingTransactionError,
    RefusedByDatabaseError,
    SchemaError,
    StatementRefusedError,
)
from receiver.storage.connection.connecting import Session
from receiver.storage.connection.database import session, translated
from receiver.storage.connection.locks import MIGRATION_LOCK
from receiver.storage.connection.places import LOOK_EVERYWHERE, VERSION_TABLE
from receiver.storage.schema.declaration import declaration_obstacle
from receiver.storage.schema.requirements import (
    require_rights,
    require_room,
    require_schema,
    require_server,
)
from receiver.storage.schema.setting_up import plan_tables, set_up

logger = logging.getLogger(__name__)

ATTEMPTS: Final = 10
"""Maximum number of attempts at a migration that deadlocks with writers."""

FIRST_WITH_DECLARATION: Final = "0007"
"""The first revision with which the database stores the declaration of tables in force."""

CREATE_VERSION: Final = f"""
CREATE TABLE IF NOT EXISTS {VERSION_TABLE} (
    version_num VARCHAR(32) NOT NULL CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY
)
"""
HAS_VERSION: Final = f"SELECT to_regclass('{VERSION_TABLE}') IS NOT NULL"
FIND_REVISION: Final = f"SELECT version_num FROM {VERSION_TABLE}"
SET_REVISION: Final = f"""
WITH before AS (DELETE FROM {VERSION_TABLE})
INSERT INTO {VERSION_TABLE} (version_num) VALUES ($1)
"""


def migrations_directory() -> Path:
    """Return where the revisions are: in the package when installed, else beside it."""
    packaged = Path(__file__).parents[2] / "migrations"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "migrations"


def known_revisions() -> dict[str, Path]:
    """Return the scripts of this version of the receiver by their revisions, the oldest first."""
    files = sorted(migrations_directory().glob("[0-9]*.sql"))
    return {file.name.partition("_")[0]: file for file in files}


def newest_revision() -> str:
    """Return the revision that this version of the receiver works with."""
    return max(known_revisions())


async def find_revision(connection: asyncpg.Connection) -> str | None:
    """Return the revision the database is at, None before the first.

    Raises:
        SchemaError: this version of the receiver does not know it.
    """
    found: str | None = None
    if await connection.fetchval(HAS_VERSION):
        found = await connection.fetchval(FIND_REVISION)
    if found is not None and found not in known_revisions():
        raise SchemaError(
            f"the database schema is at revision {found}, which is newer than this receiver "
            f"(its newest is {newest_revision()}): install a newer receiver"
        )
    return found


async def migrate(settings: Settings, *, with_rows: bool = False) -> None:
    """Bring the schema up to date; safe to run again, and by several replicas at once.

    Args:
        settings: The receiver's settings.
        with_rows: Whether tables that have rows are distributed over the nodes of Citus, too.

    Raises:
        SetupError: the database does not meet what is required of it, is newer than the code, or
            refuses a statement.
        ConflictingTransactionError: it kept deadlocking with writers.
        DatabaseUnavailableError: the database cannot be reached.
    """
    # Writers lock the tables in another order; of two that deadlock, PostgreSQL aborts one.
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(ConflictingTransactionError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.1, max=5),
        reraise=True,
    ):
        with attempt:
            await migrate_once(settings, with_rows=with_rows)


async def migrate_once(settings: Settings, *, with_rows: bool = False) -> None:
    """Bring the schema up to date in one attempt; raise what `migrate` does."""
    async with schema_transaction(settings) as connection:
        await connection.execute(MIGRATION_LOCK)
        await connection.execute(LOOK_EVERYWHERE)
        await require_server(connection)
        await require_rights(connection, settings.catalogue)
        if await upgrade(connection, newest_revision()):
            logger.info("schema brought to revision %s", newest_revision())
        await set_up(connection, settings, with_rows=with_rows)


async def upgrade(connection: asyncpg.Connection, revision: str) -> bool:
    """Apply the missing revisions up to `revision`; return whether there were any.

    Args:
        connection: Must be in a transaction that holds the migration lock.
        revision: The newest to apply.

    Raises:
        SchemaError: the schema is newer than the code, or tables cannot be created.
    """
    found = await find_revision(connection)
    missing = [name for name in known_revisions() if (found or "") < name <= revision]
    if not missing:
        return False
    await require_schema(connection)
    if found is None:
        await require_room(connection)
    await connection.execute(CREATE_VERSION)
    for name in missing:
        logger.debug("applying revision %s", name)
        await connection.execute(known_revisions()[name].read_text(encoding="utf-8"))
    await connection.execute(SET_REVISION, missing[-1])
    return True


async def plan(settings: Settings) -> list[str]:
    """Return the statements that `migrate` would run for the declared tables; change nothing.

    Lines that begin with `--` are remarks. Revisions come first and are only named.

    Raises:
        SetupError: the database does not meet what is required of it, is newer than the code, or
            has something in the way of a declared table; the message has statements to choose from.
        DatabaseUnavailableError: the database cannot be reached.
    """
    async with schema_transaction(settings) as connection:
        await connection.execute("SET TRANSACTION READ ONLY")
        await connection.execute(LOOK_EVERYWHERE)
        await require_server(connection)
        found = await find_revision(connection)
        missing = [name for name in known_revisions() if found is None or name > found]
        lines = [f"-- `receiver migrate` first applies revisions {', '.join(missing)}"]
        return (lines if missing else []) + await plan_tables(
            connection,
            settings,
            is_new=found is None,
            has_declaration=found is not None and found >= FIRST_WITH_DECLARATION,
        )


async def check_schema(settings: Settings) -> None:
    """Check that the schema is the one this version of the receiver works with.

    Raises:
        SetupError: it is older or newer, or the database does not meet what is required of it.
        DatabaseUnavailableError: the database cannot be reached.
    """
    async with schema_transaction(settings) as connection:
        await require_server(connection)
        await require_rights(connection, settings.catalogue)
        found = await find_revision(connection)
        if found != newest_revision():
            raise SchemaError(
                f"the database schema is at revision {found or 'none'}, this receiver needs "
                f"{newest_revision()}: run `receiver migrate`"
            )
        if obstacle := await declaration_obstacle(connection, settings.catalogue):
            raise SchemaError(obstacle)


@asynccontextmanager
async def schema_transaction(settings: Settings) -> AsyncIterator[Session]:
    """Open a transaction in a session of its own.

    Raises:
        SchemaError: the database refuses a statement.
        DatabaseUnavailableError: the database cannot be reached.
    """
    try:
        async with session(settings) as connection:
            with translated():
                async with connection.transaction():
                    # Through a pooler, this applies the settings of the session.
                    await connection.execute(connection.preamble or "SELECT")
                    yield connection
    except (StatementRefusedError, RefusedByDatabaseError) as error:
        raise SchemaError(f"the schema cannot be brought up to date: {error}") from error
