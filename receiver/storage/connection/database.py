"""Connections to the database, and translation of its errors into the receiver's."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
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

# For statements that look up one row per source by the primary key. Where statistics say that a
# table is nearly empty, the planner would otherwise read all rows of a time by the other index and
# sort them, for each source.
FOLLOW_KEY: Final = "SET LOCAL enable_sort = off"

BY_INDEX: Final = {"enable_seqscan": "off", "jit_above_cost": "-1"}
"""Settings of the write path. It only looks up rows by their keys, and so do foreign key checks,
whose plans the server caches. With these settings, a table that was small when a plan was made or
statistics were gathered is not scanned for each written row once it has grown."""

READ_COMMITTED: Final = "ISOLATION LEVEL READ COMMITTED"
"""Isolation level of the write path, whatever the database's default."""

# 'on' if the session is read-only, else 'off'.
CHECK: Final = "SELECT current_setting('transaction_read_only')"

# Queries every shard.
CHECK_NODES: Final = "SELECT 1 FROM source_keys LIMIT 1"

NAME_SILENT_NODES: Final = {"citus.node_connection_timeout": "1s"}
"""Makes a new session name a node of Citus that does not answer."""

CHECK_TIMEOUT: Final = 5.0
"""Seconds within which the database must answer a check."""

NODES_TIMEOUT: Final = 2.0
"""Seconds within which all nodes of Citus must answer a session."""

CLOSE_TIMEOUT: Final = 1.0
"""Seconds to close connections gracefully; then they are terminated."""

# SQLSTATE classes that blame the data: data exception, integrity constraint violation, an
# exception raised by someone's trigger or function, a view's check option, program limit exceeded.
REFUSED_CLASSES: Final = ("21", "22", "23", "27", "2F", "38", "39", "44", "54", "P0")
# SQLSTATE prefixes that blame the statement: syntax error or access rule violation; COPY with
# row-level security, or ON CONFLICT with rules, which PostgreSQL does not support; binary COPY data
# for a column of another type.
STATEMENT_CLASSES: Final = ("08P01", "0A", "22P03", "42")
INSUFFICIENT_PRIVILEGE: Final = "42501"
# Deadlock or serialization failure.
ROLLBACK_CLASS: Final = "40"


@contextmanager
def translated() -> Iterator[None]:
    """Raise the receiver's own errors in place of the driver's.

    An error that is not clearly the fault of the data is blamed on the database, so that the sender
    retries. Does not apply a session's settings: with a connection of `session`, use `used`.

    Raises:
        DuplicateRowError: a row with the same key exists.
        MissingReferenceError: a source or an error code does not exist.
        ConflictingTransactionError: a deadlock or a serialization failure; retry the transaction.
        RefusedByDatabaseError: the data itself is refused.
        StatementRefusedError: a table or a privilege is missing.
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
        # Python puts "[Errno 111]" before the words of the system.
        reason = re.sub(r"\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
        raise DatabaseUnavailableError(f"the database cannot be reached: {reason}") from error


def leaves_session_usable(error: BaseException) -> bool:
    """Return whether the error concerns only the statement, so that the session stays usable."""
    sqlstate = getattr(error, "sqlstate", None) or ""
    if isinstance(error, DuplicateRowError):
        return True
    return sqlstate.startswith((*REFUSED_CLASSES, *STATEMENT_CLASSES, ROLLBACK_CLASS))


def describe(error: asyncpg.PostgresError) -> str:
    """Return the server's message in one line, with the SQLSTATE, which the manual explains."""
    message = " ".join(str(error).split())
    return f"the database answered: {message} (SQLSTATE {error.sqlstate})"


def advise(error: asyncpg.PostgresError) -> str:
    """Say what to do about a refused statement."""
    if error.sqlstate == INSUFFICIENT_PRIVILEGE:
        return "let the tables' owner grant what `receiver doctor` shows"
    return "somebody has changed the receiver's tables: `receiver doctor` shows what differs"


@asynccontextmanager
async def session(settings: Settings, **parameters: str) -> AsyncIterator[Connection]:
    """Open a connection outside of a pool, with more server settings; they are in effect in `used`.

    Raises:
        ReceiverError: as `translated` does, when the connection is opened or closed.
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
    """Use a connection of `session`, with its settings in effect and its errors translated.

    Through a pooler, everything commits at the end; otherwise each statement commits by itself.

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
    """Reset nothing between two uses: they change no state but that of `Session.skip_triggers`.

    The write path sets that state anew for each use, and remote read never changes it.
    """
    del connection


class Database:
    """A pool of connections that survives outages of the database.

    Args:
        settings: The receiver's settings, with the database URL and the number of writers.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
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
        """Initialize the pool, and check that the database answers.

        Raises:
            DatabaseUnavailableError: it does not answer.
            SetupError: the URL is wrong, or the role may not connect.
        """
        with translated():
            await self._pool
        try:
            await self.check()
        except StatementRefusedError as error:
            # Retrying does not help: somebody must grant the privilege.
            raise SetupError(str(error)) from error

    async def check(self) -> None:
        """Check that the database answers and can be written to.

        Raises:
            DatabaseUnavailableError: it does not answer, or is read-only.
        """
        with translated():
            async with asyncio.timeout(CHECK_TIMEOUT), self.connection() as connection:
                if await connection.fetchval(CHECK) == "on":
                    # Raised in here to close the session, which would stay read-only.
                    raise DatabaseUnavailableError("the database is read-only")

    async def check_nodes(self) -> None:
        """Check that all nodes with shards of our tables answer, where Citus distributes them.

        Raises:
            DatabaseUnavailableError: a node does not answer.
        """
        with translated():
            async with asyncio.timeout(CHECK_TIMEOUT), self.connection() as connection:
                if not await is_distributed(connection):
                    return
            try:
                async with asyncio.timeout(NODES_TIMEOUT), self.connection() as connection:
                    await connection.execute(CHECK_NODES)
            except TimeoutError:
                # A session waits for an open connection to a node without saying which node it is.
                async with (
                    asyncio.timeout(NODES_TIMEOUT),
                    session(self._settings, **NAME_SILENT_NODES) as connection,
                    used(connection),
                ):
                    await connection.execute(CHECK_NODES)

    @property
    def connections(self) -> dict[str, int]:
        """Return the number of connections by state, `idle` and `busy`."""
        idle = self._pool.get_idle_size()
        return {"idle": idle, "busy": self._pool.get_size() - idle}

    @property
    def max_connections(self) -> int:
        """Return the maximum number of connections in the pool."""
        most: int = self._pool.get_max_size()
        return most

    async def close(self) -> None:
        """Close all connections; those in use get a moment to finish."""
        try:
            with translated():
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._pool.close()
        except UnavailableError as error:
            # Everything acknowledged is committed; the server will notice that the receiver is
            # gone.
            logger.info("the connections could not be closed cleanly: %s", error)
            self._pool.terminate()

    @asynccontextmanager
    async def connection(self, *, skips_triggers: bool = False) -> AsyncIterator[Session]:
        """Borrow a connection from the pool, for at most the commit timeout, waiting included.

        Each statement is a transaction or, through a pooler, all of them together are one.

        Args:
            skips_triggers: As for `transaction`.

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
        """Open a transaction in which every statement sees what was committed before it.

        Args:
            first: A statement to run first, in the same round trip as BEGIN.
            skips_triggers: Whether the transaction runs no triggers and checks no foreign keys;
                without effect through a pooler. Transactions without it do both.

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
                        # Do not wait for a cancellation that may never come, and do not reuse a
                        # session whose server has become a read-only standby. A connection that was
                        # lost is back in the pool already.
                        with suppress(asyncpg.InterfaceError):
                            connection.terminate()
                    raise
                finally:
                    await self._pool.release(connection)


@asynccontextmanager
async def committed(connection: Session, first: str = "") -> AsyncIterator[None]:
    """Begin a transaction with the settings of its session, and commit it.

    Args:
        connection: A connection from the pool.
        first: A statement to run next, in the same round trip as BEGIN.
    """
    try:
        begin = f"BEGIN {READ_COMMITTED}; {connection.preamble}"
        await connection.execute(f"{begin}; {first}")
        yield
    except BaseException as error:
        # Otherwise the session ends, and the transaction with it.
        if leaves_session_usable(error):
            await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")
