"""What TimescaleDB adds to the schema; without it the tables stay plain."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

import asyncpg

from receiver.errors import StatementRefusedError
from receiver.storage.connection.database import translated
from receiver.storage.connection.places import LOGS, LOOK_EVERYWHERE, schema_of

logger = logging.getLogger(__name__)

FIND_EXTENSION: Final = """
SELECT installed_version IS NOT NULL FROM pg_available_extensions WHERE name = 'timescaledb'
"""

# Whether the server has loaded the library, which alone knows this setting.
IS_LOADED: Final = "SELECT current_setting('timescaledb.disable_load', true) IS NOT NULL"

LOAD: Final = "add timescaledb to shared_preload_libraries of postgresql.conf, restart the server"

# Whether there can be hypertables at all: without the extension, to ask for one is an error.
KNOWS_HYPERTABLES: Final = "SELECT to_regclass('timescaledb_information.hypertables') IS NOT NULL"

FIND_HYPERTABLE: Final = f"""
SELECT EXISTS (
    SELECT FROM timescaledb_information.hypertables
    WHERE hypertable_schema = {schema_of(LOGS)} AND hypertable_name = 'app_logs'
)
"""

CREATE_HYPERTABLE: Final = """
SELECT create_hypertable('app_logs', by_range('created_at', $1::interval),
    create_default_indexes => false)
"""


async def set_up_hypertable(connection: asyncpg.Connection, chunk_interval: timedelta) -> None:
    """Make `app_logs` a hypertable on `created_at` where the database has TimescaleDB."""
    if not await has_extension(connection):
        return
    await connection.execute(LOOK_EVERYWHERE)
    if await is_hypertable(connection):
        return
    if await connection.fetchval("SELECT EXISTS (SELECT FROM app_logs)"):
        logger.warning(
            "TimescaleDB is there, but app_logs holds rows as a plain table and stays one; to make "
            "it a hypertable, stop the receiver and run: SELECT create_hypertable('app_logs', "
            "by_range('created_at'), create_default_indexes => false, migrate_data => true)"
        )
        return
    async with as_far_as_allowed(connection):
        await connection.execute(CREATE_HYPERTABLE, chunk_interval)
        logger.info("app_logs is a hypertable with chunks of %s", chunk_interval)


async def has_extension(connection: asyncpg.Connection) -> bool:
    """Whether TimescaleDB is there, after trying to create it if the server offers it."""
    installed = await connection.fetchval(FIND_EXTENSION)
    if installed is None or installed:
        return bool(installed)
    if not await connection.fetchval(IS_LOADED):
        # To create it would end the session.
        logger.warning("the server has TimescaleDB but does not load it; if it is to, %s", LOAD)
        return False
    try:
        async with connection.transaction():
            await connection.execute("CREATE EXTENSION timescaledb")
    except asyncpg.PostgresError as error:
        logger.warning("the server offers TimescaleDB, but it cannot be created: %s", error)
        return False
    return True


async def is_hypertable(connection: asyncpg.Connection, table: str = LOGS) -> bool:
    """Whether `app_logs` is a hypertable."""
    return bool(
        await connection.fetchval(KNOWS_HYPERTABLES) and await connection.fetchval(FIND_HYPERTABLE)
    )


@asynccontextmanager
async def as_far_as_allowed(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Undo and log what the role has no right to do, and go on."""
    try:
        with translated():
            async with connection.transaction():
                yield
    except StatementRefusedError as error:
        logger.warning(
            "TimescaleDB keeps app_logs as it did before, for %s; run `receiver migrate` as the "
            "owner of the table",
            error,
        )
