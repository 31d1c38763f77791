"""Sets up what TimescaleDB does by itself: chunk lengths, compression, and retention.

The settings and the declaration of each table determine the policies; one that differs, whoever
created it, is replaced or removed. Compression goes by its old names here, which every version
since 2.14 understands.
"""

from __future__ import annotations

import logging

import asyncpg

from receiver.config.settings import Settings
from receiver.storage.connection.places import LOOK_EVERYWHERE
from receiver.storage.schema.policy_steps import find_steps
from receiver.storage.schema.timescale import (
    CREATE_EXTENSION,
    FIND_EXTENSION,
    as_far_as_allowed,
    create_extension,
    find_extension,
)

logger = logging.getLogger(__name__)


async def set_up_policies(connection: asyncpg.Connection, settings: Settings) -> None:
    """Set up hypertables and policies for the declared tables, as far as possible."""
    extension = await find_extension(connection)
    if extension is None:
        return
    if not extension["installed"]:
        if not await create_extension(connection):
            return
        await connection.execute(LOOK_EVERYWHERE)
        extension = await connection.fetchrow(FIND_EXTENSION)
    report_license(extension, settings)
    for table in settings.catalogue.tables:
        async with as_far_as_allowed(connection, table.name):
            for step in await find_steps(connection, table, settings.chunk_interval, extension):
                if step.statement is not None:
                    await connection.execute(step.statement)
                logger.log(step.level, step.message)


async def plan_policies(connection: asyncpg.Connection, settings: Settings) -> list[str]:
    """Return the statements that `set_up_policies` would run."""
    extension = await find_extension(connection)
    if extension is None:
        return []
    statements = [] if extension["installed"] else [CREATE_EXTENSION]
    for table in settings.catalogue.tables:
        steps = await find_steps(connection, table, settings.chunk_interval, extension)
        statements += [step.statement for step in steps if step.statement is not None]
    return statements


def report_license(extension: asyncpg.Record, settings: Settings) -> None:
    """Log once for all tables what the license does not allow."""
    if not extension["allowed"] and any(
        table.compress_after or table.retention for table in settings.catalogue.tables
    ):
        logger.info(
            "TimescaleDB has the Apache license, without compression and policies: no table is "
            "compressed, and the receiver deletes old rows itself"
        )
