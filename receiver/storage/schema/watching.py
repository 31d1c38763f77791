"""The triggers that record late changes of rows, so that reports can be precomputed.

A function of the database creates them (`receiver_watch_rows` in migrations/0009_kept_reports.sql).
Reports on a table without them are computed from its rows.
"""

from __future__ import annotations

import logging
from typing import Final

import asyncpg

from receiver.errors import StatementRefusedError
from receiver.rows.tables import Catalogue
from receiver.storage.connection.connecting import is_distributed
from receiver.storage.connection.database import translated
from receiver.storage.connection.places import literal

logger = logging.getLogger(__name__)

KNOWS_TRIGGERS: Final = "SELECT to_regprocedure('receiver_watches_rows(text)') IS NOT NULL"

FIND_UNWATCHED: Final = """
SELECT name FROM unnest($1::text[]) AS name WHERE receiver_watches_rows(name) IS NOT TRUE
"""


async def plan_watching(connection: asyncpg.Connection, catalogue: Catalogue) -> dict[str, str]:
    """Return the statements that create missing triggers, by table.

    There are none where Citus distributes the tables: it supports no triggers.
    """
    if await is_distributed(connection):
        return {}
    names = [table.name for table in catalogue.tables if table.codes]
    if await connection.fetchval(KNOWS_TRIGGERS):
        names = [name for (name,) in await connection.fetch(FIND_UNWATCHED, names)]
    return {name: f"SELECT receiver_watch_rows({literal(name)})" for name in names}


async def watch_rows(connection: asyncpg.Connection, catalogue: Catalogue) -> None:
    """Create the triggers of tables with codes, as far as the role may and the server can.

    Args:
        connection: Must be in a transaction.
        catalogue: The tables, which must exist.
    """
    for name, statement in (await plan_watching(connection, catalogue)).items():
        try:
            with translated():
                async with connection.transaction():
                    await connection.execute(statement)
        except StatementRefusedError as error:
            logger.warning(
                "reports on %s are not kept ready but computed from its rows, since its triggers "
                "cannot be created: %s; run `receiver migrate` as the owner of the table",
                name,
                error.__cause__,
            )
