"""Brings the declared tables, and all that belongs to them, to what the settings say.

Everything is compared first, so that nothing is executed and nothing locked where nothing is to do.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

import asyncpg

from receiver.config.settings import Settings
from receiver.errors import SchemaError, StatementRefusedError
from receiver.rows.tables import Catalogue
from receiver.storage.connection.database import translated
from receiver.storage.connection.places import OWN_SCHEMA
from receiver.storage.schema.declaration import (
    Declaration,
    declare,
    describe,
    difference,
    find_declaration,
)
from receiver.storage.schema.policies import plan_policies, set_up_policies
from receiver.storage.schema.relations import FIRST_REVISION, find_relations
from receiver.storage.schema.requirements import require_schema
from receiver.storage.schema.summary import set_up_summary
from receiver.storage.schema.tables import Changes, compare
from receiver.storage.schema.timescale import KNOWS_HYPERTABLES
from receiver.storage.schema.views import (
    ViewChange,
    compare_views,
    interval_function,
    replace_it,
    view_names,
)

logger = logging.getLogger(__name__)

# Which of these functions ($1, with their types) are there.
FIND_FUNCTIONS: Final = """
SELECT name FROM unnest($1::text[]) AS name WHERE to_regprocedure(name) IS NOT NULL
"""

FIND_HYPERTABLES: Final = f"""
SELECT hypertable_name FROM timescaledb_information.hypertables
WHERE hypertable_schema = {OWN_SCHEMA}
"""


class Difference(NamedTuple):
    """What is to be done for the declared tables."""

    tables: list[str]
    """Statements that create and widen them."""
    views: list[ViewChange]
    declaration: Declaration | None
    """The declaration in force."""


async def set_up(connection: asyncpg.Connection, settings: Settings) -> None:
    """Create and widen the declared tables, add what TimescaleDB does, and declare them.

    Args:
        connection: In a transaction, to a database of the newest revision.
        settings: All of them.

    Raises:
        SchemaError: what is there cannot become what is declared, or the role may not change it.
        ReceiverError: as `database.translated` does.
    """
    catalogue = settings.catalogue
    found = await find_difference(connection, catalogue)
    if found.tables:
        await require_schema(connection)
        await change_tables(connection, found.tables)
    for change in found.views:
        await change_view(connection, change)
    await set_up_policies(connection, settings)
    await set_up_summary(connection)
    if found.declaration != describe(catalogue):
        await connection.execute(declare(catalogue))
        if found.declaration is not None:
            logger.info(
                "the declaration of the tables has changed (there: until now, here: from now on): "
                "%s",
                difference(found.declaration, describe(catalogue)),
            )


async def plan_tables(
    connection: asyncpg.Connection, settings: Settings, *, is_new: bool, has_declaration: bool
) -> list[str]:
    """Return the statements that `set_up` would run.

    Args:
        connection: To the database.
        settings: All of them.
        is_new: Whether no revision has been applied yet.
        has_declaration: Whether the revision is one that has a declaration.

    Raises:
        SchemaError: what is there cannot become what is declared.
        ReceiverError: as `database.translated` does.
    """
    found = await find_difference(
        connection, settings.catalogue, is_new=is_new, has_declaration=has_declaration
    )
    lines = found.tables
    for change in found.views:
        lines += change.statements
        if change.warning is not None:
            lines.append(f"-- {change.warning}")
    lines += await plan_policies(connection, settings)
    if found.declaration != describe(settings.catalogue):
        lines.append(declare(settings.catalogue))
    return lines


async def find_difference(
    connection: asyncpg.Connection,
    catalogue: Catalogue,
    *,
    is_new: bool = False,
    has_declaration: bool = True,
) -> Difference:
    """Compare the declared tables with what is there.

    Raises:
        SchemaError: what is there cannot become what is declared.
    """
    views = [name for table in catalogue.tables for name in view_names(table)]
    names = [*catalogue.by_name, *catalogue.code_tables, *views]
    relations = await find_relations(connection, names)
    if is_new:
        relations |= {name: FIRST_REVISION[name] for name in FIRST_REVISION if name in names}
    hypertables: set[str] = set()
    if await connection.fetchval(KNOWS_HYPERTABLES):
        hypertables = {name for (name,) in await connection.fetch(FIND_HYPERTABLES)}
    declaration = await find_declaration(connection, catalogue) if has_declaration else None
    changes = compare(catalogue, relations, hypertables, former_columns(declaration))
    refuse(changes)
    functions = [interval_function(table) for table in catalogue.tables if table.codes]
    there = {name for (name,) in await connection.fetch(FIND_FUNCTIONS, functions)}
    return Difference(
        changes.statements,
        [
            change
            for table in catalogue.tables
            for change in compare_views(
                table, relations, has_function=not table.codes or interval_function(table) in there
            )
        ],
        declaration,
    )


def former_columns(declaration: Declaration | None) -> dict[str, set[str]]:
    """Return the columns that were declared until now, by table."""
    if declaration is None:
        return {"app_logs": {"app_status", "ocr_value"}}
    return {
        name: {*table["columns"], *table["labels"]} for name, table in declaration["tables"].items()
    }


def refuse(changes: Changes) -> None:
    """Refuse what stands in the way of the declared tables.

    Raises:
        SchemaError: the message has a line for each obstacle, then statements to choose from.
    """
    if not changes.obstacles:
        return
    lines = [obstacle.message for obstacle in changes.obstacles]
    lines.append(
        "nothing was changed: change the declaration, or run these statements and migrate again"
    )
    lines += [f"{remedy};" for obstacle in changes.obstacles for remedy in obstacle.remedy]
    raise SchemaError("\n".join(lines))


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
                f"the declared tables cannot be made ({first}): {error.__cause__}; run `receiver "
                "migrate` as the owner of the tables, and `receiver serve` with "
                "RECEIVER_MIGRATE_ON_START=false"
            ) from error
        logger.info("%s", " ".join(statement.split()))


async def change_view(connection: asyncpg.Connection, change: ViewChange) -> None:
    """Make or widen a view, as far as the role may; without it, rows are stored all the same."""
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
            "%s is not made or stays as it is: %s; %s",
            change.name,
            error.__cause__,
            replace_it(change.name),
        )
