"""Applies the revisions of the schema: Alembic's history of plain SQL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import asyncpg
from alembic import command, context, op
from alembic.config import Config
from sqlalchemy import AdaptedConnection, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from receiver.config.settings import Settings
from receiver.errors import RefusedByDatabaseError, SchemaError, StatementRefusedError
from receiver.storage.connection.connecting import open_connection
from receiver.storage.connection.database import translated
from receiver.storage.connection.locks import MIGRATION_LOCK
from receiver.storage.connection.places import LOOK_EVERYWHERE, VERSION_TABLE
from receiver.storage.schema.requirements import require_room, require_schema
from receiver.storage.schema.revisions import (
    find_revision,
    migrations_directory,
    newest_revision,
)
from receiver.storage.schema.setting_up import set_up


def run_script(name: str) -> None:
    """Run a revision's SQL file, many statements at once."""
    script = (migrations_directory() / "versions" / name).read_text(encoding="utf-8")
    # Past SQLAlchemy, which would prepare the text and so allow one statement only.
    run_async(op.get_bind(), lambda driver: driver.execute(script))


def run_async(
    connection: Connection, work: Callable[[asyncpg.Connection], Awaitable[object]]
) -> None:
    """Use the driver's own connection beneath SQLAlchemy's."""
    adapted = cast("AdaptedConnection", connection.connection.dbapi_connection)
    adapted.run_async(work)


def configure(connection: Connection) -> None:
    """Tell Alembic's environment about the connection."""
    context.configure(connection=connection, version_table=VERSION_TABLE)


async def upgrade(settings: Settings) -> None:
    """Apply the revisions that the database has not seen yet.

    Raises:
        SetupError: the database does not meet what is required of it, or refuses a statement.
        DatabaseUnavailableError: the database cannot be reached.
    """
    await run_in_transaction(settings, apply)


async def run_in_transaction(
    settings: Settings, work: Callable[[Connection, Settings], None]
) -> None:
    """Do work that SQLAlchemy's synchronous interface wants, in one transaction.

    Raises:
        SchemaError: the database refuses a statement.
        DatabaseUnavailableError: the database cannot be reached.
    """
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=partial(open_connection, settings),
        poolclass=NullPool,
        # No statement has a name: through a pooler, another client may have given it already.
        connect_args={
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": lambda: "",
        },
    )
    try:
        with translated(), unwrapped():
            async with engine.begin() as connection:
                await connection.run_sync(begin)
                await connection.run_sync(work, settings)
    except (StatementRefusedError, RefusedByDatabaseError) as error:
        raise SchemaError(f"the schema cannot be brought up to date: {error}") from error
    finally:
        await engine.dispose()


def begin(connection: Connection) -> None:
    """Begin the transaction, with the settings of the session where a pooler needs that."""
    adapted = cast("AdaptedConnection", connection.connection.dbapi_connection)
    connection.exec_driver_sql(adapted.driver_connection.preamble or "SELECT")


@contextmanager
def unwrapped() -> Iterator[None]:
    """Raise the driver's error in place of SQLAlchemy's, which hides what kind it is."""
    try:
        yield
    except DBAPIError as error:
        driver = error.orig.__cause__ if error.orig is not None else None
        raise driver or error from error


def apply(connection: Connection, settings: Settings) -> None:
    """Apply revisions, one replica after the other, and add what TimescaleDB does.

    All in one transaction: a row that came in between would keep the table from being a hypertable.
    """
    connection.exec_driver_sql(MIGRATION_LOCK)
    run_async(connection, lambda driver: driver.execute(LOOK_EVERYWHERE))
    run_async(connection, require_ground)
    command.upgrade(alembic_config(connection), "head")
    run_async(connection, lambda driver: set_up(driver, settings))


async def require_ground(connection: asyncpg.Connection) -> None:
    """Check that tables can be made and changed, as far as any are to be.

    Raises:
        SchemaError: they cannot.
    """
    found = await find_revision(connection)
    if found != newest_revision():
        await require_schema(connection)
        if found is None:
            await require_room(connection)


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration, as `[tool.alembic]` in pyproject.toml gives it to its command."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(migrations_directory()))
    return config
