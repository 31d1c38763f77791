"""Creates and updates the declared tables, their views, and their policies.

Everything is compared first, so that nothing is executed or locked where nothing has to change.
"""

from __future__ import annotations

import logging

import asyncpg

from receiver.config.catalogue import describe
from receiver.config.settings import Settings
from receiver.errors import SchemaError, StatementRefusedError
from receiver.rows.tables import Catalogue
from receiver.storage.connection.connecting import IS_DISTRIBUTED, is_distributed
from receiver.storage.connection.database import translated
from receiver.storage.schema.citus import (
    KEEP_LOCAL,
    distribute,
    is_cluster,
    plan_distribution,
    with_references,
)
from receiver.storage.schema.citus_reading import adapt_functions, adapt_views
from receiver.storage.schema.declaration import (
    Declaration,
    declare,
    difference,
    reject_waiting,
)
from receiver.storage.schema.differences import find_difference
from receiver.storage.schema.partitions import make_parts
from receiver.storage.schema.policies import plan_policies, set_up_policies
from receiver.storage.schema.requirements import require_schema
from receiver.storage.schema.summary import set_up_summary
from receiver.storage.schema.views import PLAIN, Form, ViewChange, replace_it
from receiver.storage.schema.watching import plan_watching, watch_rows

logger = logging.getLogger(__name__)


async def set_up(
    connection: asyncpg.Connection, settings: Settings, *, with_rows: bool = False
) -> None:
    """Create and widen the declared tables, set up Citus or TimescaleDB, and declare the tables.

    Args:
        connection: Must be in a transaction, and to a database at the newest revision.
        settings: The receiver's settings.
        with_rows: Whether tables that have rows are distributed over the nodes of Citus, too.

    Raises:
        SchemaError: what is there cannot become what is declared, or the role may not change it.
        ReceiverError: as `database.translated` does.
    """
    catalogue = settings.catalogue
    form = PLAIN
    if await is_cluster(connection, settings):
        await connection.execute(KEEP_LOCAL)
        distribution = await plan_distribution(connection, settings, with_rows=with_rows)
        form = Form(by_time=not distribution.with_rows)
    found = await find_difference(connection, catalogue, form)
    # First, since writers lock incomplete rows before rows of tables.
    for statement in await plan_rejections(connection, catalogue, found.declaration):
        await connection.execute(statement)
    if found.tables:
        await require_schema(connection)
        statements = await with_references(connection, catalogue, found.tables)
        await change_tables(connection, statements)
    if await distribute(connection, settings, with_rows=with_rows):
        form = await adapt_reading(connection, catalogue)
        for table in catalogue.tables:
            await make_parts(connection, table)
        found = await find_difference(connection, catalogue, form)
    for change in found.views:
        await change_view(connection, change)
    await set_up_policies(connection, settings)
    await set_up_summary(connection)
    await watch_rows(connection, catalogue)
    if found.declaration != describe(catalogue):
        await connection.execute(declare(catalogue, found.declaration))
        if found.declaration is not None:
            logger.info(
                "replaced the declaration of tables in the database, which differed: %s",
                difference(found.declaration, describe(catalogue)),
            )


async def plan_rejections(
    connection: asyncpg.Connection, catalogue: Catalogue, theirs: Declaration | None
) -> list[str]:
    """Return the statements for waiting samples that a change of the declaration in force needs."""
    if theirs is None:
        return []
    # Not the cached answer of the session: `set_up` may distribute the tables later.
    distributed = await connection.fetchval(IS_DISTRIBUTED)
    return list(reject_waiting(theirs, describe(catalogue), distributed=distributed))


async def adapt_reading(connection: asyncpg.Connection, catalogue: Catalogue) -> Form:
    """Recreate functions in the form for distributed tables; return the form for the views."""
    anew = await adapt_functions(connection)
    if anew:
        await adapt_views(connection, catalogue)
    return Form(distributed=True, anew=anew)


async def plan_tables(
    connection: asyncpg.Connection, settings: Settings, *, is_new: bool, has_declaration: bool
) -> list[str]:
    """Return the statements that `set_up` would run.

    Args:
        connection: A connection to the database.
        settings: The receiver's settings.
        is_new: Whether no revision has been applied yet.
        has_declaration: Whether the database's revision stores a declaration.

    Raises:
        SchemaError: what is there cannot become what is declared.
        ReceiverError: as `database.translated` does.
    """
    is_distributable = await is_cluster(connection, settings)
    distribution = await plan_distribution(connection, settings)
    by_time = is_distributable and not distribution.with_rows
    form = Form(distributed=by_time or await is_distributed(connection), by_time=by_time)
    found = await find_difference(
        connection,
        settings.catalogue,
        form,
        is_new=is_new,
        has_declaration=has_declaration,
    )
    lines = found.tables
    if is_distributable:
        lines = await with_references(connection, settings.catalogue, lines)
        lines += [statement for statement in distribution.statements if statement not in lines]
        if lines:
            lines = [KEEP_LOCAL, *lines]
    lines = [*await plan_rejections(connection, settings.catalogue, found.declaration), *lines]
    for change in found.views:
        lines += change.statements
        if change.warning is not None:
            lines.append(f"-- {change.warning}")
    lines += await plan_policies(connection, settings)
    if not form.distributed:
        lines += (await plan_watching(connection, settings.catalogue)).values()
    if found.declaration != describe(settings.catalogue):
        lines.append(declare(settings.catalogue, found.declaration))
    return lines


async def change_tables(connection: asyncpg.Connection, statements: list[str]) -> None:
    """Create and widen tables.

    Raises:
        SchemaError: the role may not.
    """
    for statement in statements:
        try:
            with translated():
                await connection.execute(statement)
        except StatementRefusedError as error:
            first = statement.partition("\n")[0].removesuffix(" (")
            raise SchemaError(
                f"the declared tables cannot be created ({first}): {error.__cause__}; run "
                "`receiver migrate` as the owner of the tables, and `receiver serve` with "
                "RECEIVER_MIGRATE_ON_START=false"
            ) from error
        logger.info("%s", " ".join(statement.split()))


async def change_view(connection: asyncpg.Connection, change: ViewChange) -> None:
    """Create or widen a view, if the role may; rows are stored even without it."""
    if change.warning is not None:
        logger.warning("%s", change.warning)
    if not change.statements:
        return
    try:
        with translated():
            async with connection.transaction():
                for statement in change.statements:
                    await connection.execute(statement)
    except StatementRefusedError as error:
        logger.warning(
            "%s is not created or changed: %s; %s",
            change.name,
            error.__cause__,
            replace_it(change.name, change.kind),
        )
