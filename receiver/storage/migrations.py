"""Brings the schema up to date: Alembic's history of plain SQL, then what TimescaleDB adds."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, cast

import asyncpg
from alembic import command, context, op
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import AdaptedConnection, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from receiver.errors import RefusedByDatabaseError, SchemaError, StatementRefusedError
from receiver.settings import Settings
from receiver.storage.connecting import open_connection
from receiver.storage.database import translated
from receiver.storage.places import LOOK_EVERYWHERE, VERSION_TABLE
from receiver.storage.policies import set_up_policies
from receiver.storage.requirements import (
    require_rights,
    require_room,
    require_schema,
    require_server,
)
from receiver.storage.summary import set_up_summary
from receiver.storage.timescale import set_up_hypertable

logger = logging.getLogger(__name__)

# Replicas that start together migrate one after the other.
LOCK: Final = "SELECT pg_advisory_xact_lock(7345190225)"


def migrations_directory() -> Path:
    """Where the revisions are: in the package when installed, else beside it."""
    packaged = Path(__file__).parents[1] / "migrations"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "migrations"


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


async def migrate(settings: Settings) -> None:
    """Bring the schema up to date; safe to run again, and by several replicas at once.

    Raises:
        SetupError: the database does not meet what is required of it, is newer than the code, or
            refuses a statement.
        DatabaseUnavailableError: the database cannot be reached.
    """
    await run_in_transaction(settings, upgrade)


async def check_schema(settings: Settings) -> None:
    """Check that the schema is the one this version of the receiver works with.

    Raises:
        SetupError: it is older or newer, or the database does not meet what is required of it.
        DatabaseUnavailableError: the database cannot be reached.
    """

    def check(connection: Connection, _: Settings) -> None:
        run_async(connection, require_server)
        run_async(connection, require_rights)
        scripts = load_scripts()
        found = check_revision(connection, scripts)
        if found != scripts.get_current_head():
            raise SchemaError(
                f"the database schema is at revision {found or 'none'}, this receiver needs "
                f"{scripts.get_current_head()}: run `receiver migrate`"
            )

    await run_in_transaction(settings, check)


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


def upgrade(connection: Connection, settings: Settings) -> None:
    """Run what the database has not seen yet.

    Raises:
        SetupError: the database does not meet what is required of it, or is newer than the code.
    """
    connection.exec_driver_sql(LOCK)
    run_async(connection, lambda driver: driver.execute(LOOK_EVERYWHERE))
    run_async(connection, require_server)
    run_async(connection, require_rights)
    scripts = load_scripts()
    before = check_revision(connection, scripts)
    if before != scripts.get_current_head():
        run_async(connection, require_schema)
        if before is None:
            run_async(connection, require_room)
        command.upgrade(alembic_config(connection), "head")
        logger.info("schema brought to revision %s", scripts.get_current_head())
    run_async(connection, lambda driver: set_up_hypertable(driver, settings.chunk_interval))
    run_async(connection, lambda driver: set_up_policies(driver, settings))
    run_async(connection, set_up_summary)


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration, as `[tool.alembic]` in pyproject.toml gives it to its command."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(migrations_directory()))
    return config


def load_scripts() -> ScriptDirectory:
    """The revisions that this version of the receiver has."""
    return ScriptDirectory.from_config(alembic_config())


def check_revision(connection: Connection, scripts: ScriptDirectory) -> str | None:
    """The revision the database is at, None before the first.

    Raises:
        SchemaError: this version of the receiver does not know it.
    """
    opts = {"version_table": VERSION_TABLE}
    revision = MigrationContext.configure(connection, opts=opts).get_current_revision()
    require_known(revision, scripts)
    return revision


def require_known(revision: str | None, scripts: ScriptDirectory) -> None:
    """Check that a database's revision, None before the first, is one of ours.

    Raises:
        SchemaError: this version of the receiver does not know it.
    """
    known = {script.revision for script in scripts.walk_revisions()}
    if revision is not None and revision not in known:
        raise SchemaError(
            f"the database schema is at revision {revision}, which is newer than this receiver "
            f"(its newest is {scripts.get_current_head()}): install a newer receiver"
        )
