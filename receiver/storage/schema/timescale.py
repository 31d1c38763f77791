"""What TimescaleDB adds to the schema; without it the tables stay plain."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from receiver.errors import StatementRefusedError
from receiver.storage.connection.connecting import HAS_CITUS
from receiver.storage.connection.database import translated

logger = logging.getLogger(__name__)

# The version that is installed or would be, and what decides on policies; `allowed` is false under
# the Apache license, which is not known for sure before the extension is created. Before 2.16, a
# table could be compressed only if segmented by all its foreign keys, and these were neither
# checked nor cascaded for rows inserted into a compressed chunk.
FIND_EXTENSION: Final = r"""
SELECT installed_version IS NOT NULL AS installed, version,
    string_to_array(substring(version FROM '^\d+\.\d+'), '.')::int[] >= '{2,16}' AS compresses,
    COALESCE(current_setting('timescaledb.license', true), 'timescale') = 'timescale' AS allowed
FROM pg_available_extensions, COALESCE(installed_version, default_version) AS version
WHERE name = 'timescaledb'
"""

CREATE_EXTENSION: Final = "CREATE EXTENSION timescaledb"

# Whether the server has loaded the library, which defines this setting.
IS_LOADED: Final = "SELECT current_setting('timescaledb.disable_load', true) IS NOT NULL"

LOAD: Final = (
    "add timescaledb to shared_preload_libraries in postgresql.conf and restart the server"
)

# Whether there can be hypertables at all: without the extension, querying its views is an error.
KNOWS_HYPERTABLES: Final = "SELECT to_regclass('timescaledb_information.hypertables') IS NOT NULL"

PLACE: Final = """(
    SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = to_regclass(quote_ident($1::text))
)"""
"""Schema and name of a table ($1), for comparison with TimescaleDB's views."""

FIND_HYPERTABLE: Final = f"""
SELECT EXISTS (
    SELECT FROM timescaledb_information.hypertables
    WHERE (hypertable_schema, hypertable_name) = {PLACE}
)
"""


async def find_extension(connection: asyncpg.Connection) -> asyncpg.Record | None:
    """Return the result of `FIND_EXTENSION`, or None where TimescaleDB cannot be used."""
    if await connection.fetchval(HAS_CITUS):
        # Neither works in a database that has both.
        return None
    found = await connection.fetchrow(FIND_EXTENSION)
    if found is None or found["installed"]:
        return found
    if not await connection.fetchval(IS_LOADED):
        # Creating the extension would end the session.
        logger.warning("the server has TimescaleDB but does not load it; to use it, %s", LOAD)
        return None
    return found


async def create_extension(connection: asyncpg.Connection) -> bool:
    """Create the extension TimescaleDB; return whether that succeeded."""
    try:
        async with connection.transaction():
            await connection.execute(CREATE_EXTENSION)
    except asyncpg.PostgresError as error:
        logger.warning(
            "the server offers TimescaleDB, but the extension cannot be created: %s", error
        )
        return False
    return True


async def is_hypertable(connection: asyncpg.Connection, table: str) -> bool:
    """Return whether a table is a hypertable."""
    return bool(
        await connection.fetchval(KNOWS_HYPERTABLES)
        and await connection.fetchval(FIND_HYPERTABLE, table)
    )


@asynccontextmanager
async def as_far_as_allowed(connection: asyncpg.Connection, table: str) -> AsyncIterator[None]:
    """Run statements in a savepoint; roll back, log and go on if the role lacks a privilege."""
    try:
        with translated():
            async with connection.transaction():
                yield
    except StatementRefusedError as error:
        logger.warning(
            "the chunks and policies of %s stay as they are: %s; run `receiver migrate` as the "
            "owner of the table",
            table,
            error,
        )
