"""Connections to the database, and its errors in our words."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, TypeAlias

import asyncpg

from receiver.config.settings import Settings
from receiver.errors import (
    ConflictingTransactionError,
    DatabaseUnavailableError,
    DuplicateRowError,
    MissingReferenceError,
    RefusedByDatabaseError,
    SetupError,
    StatementRefusedError,
    UnavailableError,
)
from receiver.storage.connection.connecting import (
    CONNECT_TIMEOUT,
    Session,
    is_distributed,
    open_connection,
    with_settings,
)

logger = logging.getLogger(__name__)

Connection: TypeAlias = asyncpg.Connection

# For statements that find one row for each source by the primary key: where statistics say that a
# table is nearly empty, all rows of a time would be read by the other index and sorted, for each.
FOLLOW_KEY: Final = "SET LOCAL enable_sort = off"

BY_INDEX: Final = {"enable_seqscan": "off", "jit_above_cost": "-1"}
"""Settings of the write path: it only looks up rows by their keys, and so do the checks of foreign
keys, whose plans the server keeps. A table that was small when such a plan was made, or when its
statistics were, is not read as a whole for each row that is written when it has grown."""

READ_COMMITTED: Final = "ISOLATION LEVEL READ COMMITTED"
"""How a transaction sees what others commit meanwhile, whatever the default of the database is."""

# Whether nothing can be written now: 'on' or 'off'.
CHECK: Final = "SELECT current_setting('transaction_read_only')"

# A look at each shard.
CHECK_NODES: Final = "SELECT 1 FROM source_keys LIMIT 1"

CHECK_TIMEOUT: Final = 5.0
"""Seconds until the database must have given a sign of life."""

CLOSE_TIMEOUT: Final = 1.0
"""Seconds for the server to see that we go; it does without."""

# SQLSTATE classes that blame the data: data exception, integrity constraint violation, an
# exception raised by someone's trigger or function, a view's check option, program limit exceeded.
REFUSED_CLASSES: Final = ("21", "22", "23", "27", "2F", "38", "39", "44", "54", "P0")
# Syntax error or access rule violation; what COPY cannot do with row-level security, or ON CONFLICT
# with rules; binary data of COPY for a column that has another type.
STATEMENT_CLASSES: Final = ("08P01", "0A", "22P03", "42")
INSUFFICIENT_PRIVILEGE: Final = "42501"
# Deadlock or serialization failure.
ROLLBACK_CLASS: Final = "40"


@contextmanager
def translated() -> Iterator[None]:
    """Raise the receiver's own errors in place of the driver's.

    What is not clearly the fault of the data is the database's, so that the sender tries again.

    Raises:
        DuplicateRowError: a row with the same key is there.
        MissingReferenceError: a source or an error code is not there.
        ConflictingTransactionError: a deadlock or a serialization failure; run it again.
        RefusedByDatabaseError: the data itself is refused.
        StatementRefusedError: a table or a right is missing.
        SetupError: the database's URL is wrong.
        DatabaseUnavailableError: anything else.
    """
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise DuplicateRowError(describe(error)) from error
    except asyncpg.ForeignKeyViolationError as error:
        raise MissingReferenceError(describe(error)) from error
    except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError) as error:
        raise ConflictingTransactionError(describe(error)) from error
    except asyncpg.PostgresError as error:
        if (error.sqlstate or "").startswith(STATEMENT_CLASSES):
            raise StatementRefusedError(f"{describe(error)}; {advise(error)}") from error
        if (error.sqlstate or "").startswith(REFUSED_CLASSES):
            raise RefusedByDatabaseError(describe(error)) from error
        raise DatabaseUnavailableError(describe(error)) from error
    except asyncpg.ClientConfigurationError as error:
        raise SetupError(f"RECEIVER_DATABASE_URL: {error}") from error
    except TimeoutError as error:
        raise DatabaseUnavailableError("the database did not answer in time") from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        reason = str(error) or type(error).__name__
        raise DatabaseUnavailableError(f"the database cannot be reached: {reason}") from error


def leaves_session_usable(error: BaseException) -> bool:
    """Whether the error is about what was asked, so that the session can go on."""
    sqlstate = getattr(error, "sqlstate", None) or ""
    if isinstance(error, DuplicateRowError):
        return True
    return sqlstate.startswith((*REFUSED_CLASSES, *STATEMENT_CLASSES, ROLLBACK_CLASS))


def describe(error: asyncpg.PostgresError) -> str:
    """The server's message in one line, with the SQLSTATE to search the documentation for."""
    message = " ".join(str(error).split())
    return f"the database answered: {message} (SQLSTATE {error.sqlstate})"


def advise(error: asyncpg.PostgresError) -> str:
    """Say what to do about a statement that is refused."""
    if error.sqlstate == INSUFFICIENT_PRIVILEGE:
        return "let the tables' owner grant what `receiver doctor` shows"
    return "somebody has changed the receiver's tables: `receiver doctor` shows what differs"


@asynccontextmanager
async def session(settings: Settings, **parameters: str) -> AsyncIterator[Connection]:
    """A connection outside of a pool, with more of the server's settings; they hold in `used`.

    Raises:
        ReceiverError: as `translated` does, when it is opened or closed.
    """
    with translated():
        connection = await open_connection(settings, parameters)
    try:
        yield connection
    finally:
        with translated():
            await connection.close(timeout=CONNECT_TIMEOUT)


@asynccontextmanager
async def used(connection: Connection) -> AsyncIterator[None]:
    """Use a session of `session`: with its settings, and with errors in our words.

    What is done commits at the end, or each statement by itself.

    Raises:
        ReceiverError: as `translated` does.
    """
    with translated():
        async with with_settings(connection):
            yield


async def prepare_connection(connection: Connection) -> None:
    """Set up a connection for the write path."""
    # Timestamps as microseconds since 2000-01-01 UTC, exact and as they are stored.
    await connection.set_type_codec(
        "timestamptz",
        schema="pg_catalog",
        encoder=lambda microseconds: (microseconds,),
        decoder=lambda value: value[0],
        format="tuple",
    )


async def keep_as_it_is(connection: Connection) -> None:
    """Reset nothing between two uses: the write path changes no session's state."""
    del connection


class Database:
    """A pool of connections that outlives the database's absences.

    Args:
        settings: Names the database and how many transactions may run at once.
    """

    def __init__(self, settings: Settings) -> None:
        self._commit_timeout = settings.commit_timeout.total_seconds()
        self._pool = asyncpg.create_pool(
            connect=lambda _, **options: open_connection(settings, BY_INDEX, **options),
            connection_class=Session,
            min_size=0,
            # One for each writer, one for maintenance, one for the readiness check.
            max_size=settings.writers + 2,
            init=prepare_connection,
            reset=keep_as_it_is,
        )

    async def open(self) -> None:
        """Get ready to connect, and check that the database answers.

        Raises:
            DatabaseUnavailableError: it does not.
            SetupError: the URL is wrong, or the role may not connect.
        """
        with translated():
            await self._pool
        try:
            await self.check()
        except StatementRefusedError as error:
            # A right that is missing does not come by waiting.
            raise SetupError(str(error)) from error

    async def check(self) -> None:
        """Ask the database for a sign of life.

        Raises:
            DatabaseUnavailableError: it gave none, or is read-only.
        """
        with translated():
            async with asyncio.timeout(CHECK_TIMEOUT), self.connection() as connection:
                if await connection.fetchval(CHECK) == "on":
                    # Raised in here to end the session, which would stay what it is.
                    raise DatabaseUnavailableError("the database is read-only")

    async def check_nodes(self) -> None:
        """Ask all nodes for a sign of life that have tables of ours, where Citus distributes them.

        Raises:
            DatabaseUnavailableError: one gave none.
        """
        with translated():
            async with asyncio.timeout(CHECK_TIMEOUT), self.connection() as connection:
                if await is_distributed(connection):
                    await connection.execute(CHECK_NODES)

    @property
    def connections(self) -> dict[str, int]:
        """How many connections there are, by what they do."""
        idle = self._pool.get_idle_size()
        return {"idle": idle, "busy": self._pool.get_size() - idle}

    @property
    def max_connections(self) -> int:
        """How many there may be."""
        most: int = self._pool.get_max_size()
        return most

    async def close(self) -> None:
        """Close all connections; those in use get a moment to finish."""
        try:
            with translated():
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._pool.close()
        except UnavailableError as error:
            # What was acknowledged is committed; the server will notice that we are gone.
            logger.info("the connections could not be closed in order: %s", error)
            self._pool.terminate()

    @asynccontextmanager
    async def connection(self, *, skips_triggers: bool = False) -> AsyncIterator[Session]:
        """A connection from the pool; to get it and use it may take the commit timeout.

        Each statement is a transaction, or all of them together are one.

        Args:
            skips_triggers: As `transaction` takes it.

        Raises:
            ReceiverError: as `translated` does.
        """
        async with self._acquired(skips_triggers=skips_triggers) as connection:
            if connection.preamble:
                async with committed(connection):
                    yield connection
            else:
                yield connection

    @asynccontextmanager
    async def transaction(
        self, first: str = "", *, skips_triggers: bool = False
    ) -> AsyncIterator[Session]:
        """A transaction in which every statement sees what was committed before it.

        Args:
            first: A statement that begins it, in the same round trip.
            skips_triggers: Whether no trigger runs in it and no foreign key is checked, unless the
                connection is through a pooler. No other transaction does so.

        Raises:
            ReceiverError: as `translated` does.
        """
        async with (
            self._acquired(skips_triggers=skips_triggers) as connection,
            committed(connection, first),
        ):
            yield connection

    @asynccontextmanager
    async def _acquired(self, *, skips_triggers: bool = False) -> AsyncIterator[Session]:
        with translated():
            async with asyncio.timeout(self._commit_timeout):
                connection = await self._pool.acquire()
                try:
                    await connection.skip_triggers(skip=skips_triggers)
                    yield connection
                except BaseException as error:
                    if leaves_session_usable(error):
                        connection.forget()
                    else:
                        # No waiting for a cancellation that may never come, no second use of a
                        # session whose server has become a read-only standby.
                        connection.terminate()
                    raise
                finally:
                    await self._pool.release(connection)


@asynccontextmanager
async def committed(connection: Session, first: str = "") -> AsyncIterator[None]:
    """Begin a transaction with the settings of its session, and commit it.

    Args:
        connection: From the pool.
        first: A statement that comes next, in the same round trip.
    """
    try:
        begin = f"BEGIN {READ_COMMITTED}; {connection.preamble}"
        await connection.execute(f"{begin}; {first}")
        yield
    except BaseException as error:
        # Else the session ends, and the transaction with it.
        if leaves_session_usable(error):
            await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")
