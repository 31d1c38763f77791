"""Opens connections for commands and pages that read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from receiver.config.settings import Settings
from receiver.errors import SchemaError
from receiver.storage.connection.database import Connection, session, used

HAS_TABLES: Final = """
SELECT to_regclass('app_logs') IS NOT NULL AND to_regclass('error_codes') IS NOT NULL
"""

HAS_TABLE: Final = "SELECT to_regclass(quote_ident($1)) IS NOT NULL"


@asynccontextmanager
async def connect(settings: Settings, **parameters: str) -> AsyncIterator[Connection]:
    """Open a connection for reading, with times as text in UTC.

    Args:
        settings: The receiver's settings, with the database URL.
        parameters: More of the server's settings.

    Raises:
        SchemaError: the tables do not exist.
        ReceiverError: as `translated` does.
    """
    # JIT takes seconds to compile what reports run, and saves nothing.
    usual = {"timezone": "UTC", "datestyle": "ISO", "jit_above_cost": "-1"}
    async with session(settings, **usual, **parameters) as connection:
        await prepare(connection)
        yield connection


async def prepare(connection: Connection) -> None:
    """Set up a connection for reading.

    Raises:
        SchemaError: the tables do not exist.
    """
    async with used(connection):
        await connection.set_type_codec(
            "timestamptz", schema="pg_catalog", encoder=str, decoder=str, format="text"
        )
        if not await connection.fetchval(HAS_TABLES):
            raise SchemaError(
                "the database has no tables of the receiver yet: run `receiver migrate` or "
                "`receiver serve`"
            )


async def require_table(connection: Connection, table: str) -> None:
    """Check that a declared table exists.

    Raises:
        SchemaError: it does not exist.
        ReceiverError: as `translated` does.
    """
    async with used(connection):
        if not await connection.fetchval(HAS_TABLE, table):
            raise SchemaError(f"the database has no table {table} yet: run `receiver migrate`")
