"""Opens connections to the database, directly or through a pooler."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import asyncpg

from receiver.config.database_url import DatabaseAddress, parse_database_url
from receiver.config.settings import Settings
from receiver.errors import DatabaseUnavailableError, SettingsError, SetupError
from receiver.storage.connection.encryption import encryption_options, require_home
from receiver.storage.connection.places import literal
from receiver.storage.connection.services import read_service

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT: Final = 10.0
"""Seconds allowed for opening a connection, unless the URL sets connect_timeout."""
DEFAULT_PORT: Final = 5432

APPLICATION_NAME: Final = "application_name"
SEARCH_PATH: Final = "search_path"

ALWAYS: Final = {
    # Servers without TimescaleDB or Citus accept these as custom variables.
    # Otherwise TimescaleDB may refuse a request for rows of compressed chunks, on every retry.
    "timescaledb.max_tuples_decompressed_per_dml_transaction": "0",
    # Otherwise Citus hides shards from catalog queries, which takes a second each time.
    "citus.override_table_visibility": "off",
    # Otherwise a transaction cannot add a code and then write to the shards that refer to it.
    "citus.multi_shard_modify_mode": "sequential",
    # Otherwise a connection to a worker node may be opened for each transaction.
    "citus.max_cached_conns_per_worker": "16",
}
"""Server settings of every session."""

# An acknowledged row survives a crash, whatever the default of the database or the role is; a
# default of remote_apply, which waits for standbys, is kept.
DURABLE: Final = """
set_config('synchronous_commit', CASE current_setting('synchronous_commit')
    WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, {local})
"""

IN_TRANSACTION: Final = {"default_transaction_read_only": "transaction_read_only"}
"""Settings that affect only later transactions, with their equivalents for the current one."""

FIRST_SCHEMA: Final = re.compile(
    r'\s*(?:"(?P<quoted>(?:[^"]|"")+)"|(?P<plain>[^\s,"]+))\s*(?:,.*)?'
)

HAS_CITUS: Final = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')"

# The database, if this is a worker node of Citus.
FIND_WORKER: Final = """
SELECT quote_ident(current_database()) FROM pg_dist_local_group WHERE groupid <> 0
"""

# The table exists only where Citus distributes the tables (`storage/schema/citus.py`).
IS_DISTRIBUTED: Final = "SELECT to_regclass('source_keys') IS NOT NULL"

# Each change of this setting discards the session's cached query plans.
SKIP_TRIGGERS: Final = """
SELECT current_setting('session_replication_role'),
    set_config('session_replication_role', 'replica', false)
"""
RUN_TRIGGERS: Final = "SELECT set_config('session_replication_role', $1, false)"

MAY_USE_SCHEMA: Final = """
SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = $1
"""

REFUSED: Final = (
    asyncpg.UndefinedObjectError,
    asyncpg.InvalidNameError,
    asyncpg.InvalidParameterValueError,
    asyncpg.CantChangeRuntimeParamError,
    asyncpg.InsufficientPrivilegeError,
)
"""Errors that the server raises for an unknown setting, or a value that it does not accept."""


class Session(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection that knows the statement its transactions must begin with.

    Through a pooler, each transaction may run in a different server session, so the settings are
    applied in each.
    """

    preamble = ""
    """The statement that applies the settings; empty where the session keeps them."""
    _distributed: bool | None = None
    _replication_role: str | None = None
    """The session_replication_role before triggers were skipped; None while they are not."""

    async def skip_triggers(self, *, skip: bool) -> None:
        """Make the session skip triggers, including foreign key checks, or run them again.

        Through a pooler nothing changes: there, settings last for one transaction only.

        Raises:
            PostgresError: the role may not set session_replication_role.
            DatabaseUnavailableError: the role may not reset it; the session must be closed.
        """
        if self.preamble or skip == (self._replication_role is not None):
            return
        if skip:
            self._replication_role = await self.fetchval(SKIP_TRIGGERS)
            return
        try:
            await self.fetchval(RUN_TRIGGERS, self._replication_role)
        except asyncpg.PostgresError as error:
            # The role has lost the privilege. The pool closes the session because of this error.
            raise DatabaseUnavailableError(f"the session must be reopened: {error}") from error
        self._replication_role = None

    async def copy(self, statement: str, rows: memoryview) -> int:
        """Run a COPY from STDIN and return how many rows it stored.

        Args:
            statement: The COPY. Statements before it run in the same round trip and in the same
                transaction, even if none has begun.
            rows: The data to copy, in the format that the statement names.

        Raises:
            PostgresError: the server refuses one of the statements, or a row.
        """
        # asyncpg's public methods write the COPY themselves and allow no statement before it.
        status: str = await self._copy_in(statement, rows, None)
        return int(status.removeprefix("COPY "))

    async def is_distributed(self) -> bool:
        """Return whether Citus distributes the tables; the answer is cached until `forget`."""
        if self._distributed is None:
            self._distributed = await self.fetchval(IS_DISTRIBUTED)
        return bool(self._distributed)

    def forget(self) -> None:
        """Discard what is cached about the database: it may have changed."""
        self._distributed = None


async def is_distributed(connection: asyncpg.Connection) -> bool:
    """Return whether Citus distributes the tables that a connection works with."""
    if (ask := getattr(connection, "is_distributed", None)) is not None:
        return bool(await ask())
    return bool(await connection.fetchval(IS_DISTRIBUTED))


async def open_connection(
    settings: Settings,
    parameters: Mapping[str, str] | None = None,
    **options: Any,  # noqa: ANN401  what asyncpg takes
) -> Session:
    """Open a connection to the database that the settings name.

    Args:
        settings: The receiver's settings, with the database URL.
        parameters: Server settings; those in the URL take precedence.
        options: Options that an asyncpg pool adds.

    Raises:
        SetupError: the URL is wrong; the message names the parameter. Or it names a worker node of
            Citus.
    """
    address = database_address(settings)
    report_ignored(address.ignored)
    wanted = {APPLICATION_NAME: "receiver", **ALWAYS, **(parameters or {}), **address.settings}
    try:
        connection: Session = await asyncpg.connect(
            **connection_options(address, settings),
            **options | {"connection_class": Session},
            # Otherwise the server would cache a generic plan, made for any parameter values.
            statement_cache_size=0,
        )
    except (asyncpg.ClientConfigurationError, asyncpg.SyntaxOrAccessError) as error:
        raise SetupError(f"RECEIVER_DATABASE_URL: {' '.join(str(error).split())}") from error
    except PermissionError:
        require_home()
        raise
    try:
        await make_settings(connection, wanted)
        await require_schema(connection, wanted.get(SEARCH_PATH, ""))
        await require_coordinator(connection)
    except BaseException:
        connection.terminate()
        raise
    return connection


def database_address(settings: Settings) -> DatabaseAddress:
    """Read the URL that the settings hold, and the service that it may name.

    Raises:
        SettingsError: there is no URL, or no such service.
    """
    if settings.database_url is None:
        raise SettingsError("RECEIVER_DATABASE_URL is not set")
    url = settings.database_url.get_secret_value()
    address = parse_database_url(url)
    if "service" not in address.parameters:
        return address
    try:
        return parse_database_url(url, read_service(address.parameters))
    except ValueError as error:
        raise SettingsError(f"service {address.parameters['service']}: {error}") from None


@cache
def report_ignored(names: tuple[str, ...]) -> None:
    """Log once which parameters of the URL are ignored."""
    if names:
        logger.info("RECEIVER_DATABASE_URL: parameters that are ignored: %s", ", ".join(names))


def connection_options(address: DatabaseAddress, settings: Settings) -> dict[str, Any]:
    """Turn a database's address into arguments for asyncpg."""
    given = address.parameters
    addresses = list(address.hosts)
    if given.get("load_balance_hosts") == "random":
        random.shuffle(addresses)
    hosts = [host for host, _ in addresses if host]
    ports = [port for _, port in addresses]
    password = settings.database_password
    timeout = int(given.get("connect_timeout", 0))
    passfile = given.get("passfile")
    startup = {name: given[name] for name in ("options",) if name in given}
    return {
        "host": hosts or None,
        "port": [port or DEFAULT_PORT for port in ports] if any(ports) else None,
        "user": address.user,
        "password": address.password if password is None else password.get_secret_value(),
        "passfile": passfile and Path(passfile),
        "database": address.database,
        "timeout": timeout if timeout > 0 else CONNECT_TIMEOUT,
        "target_session_attrs": given.get("target_session_attrs"),
        "krbsrvname": given.get("krbsrvname"),
        "gsslib": given.get("gsslib", "gssapi"),
        "server_settings": startup,
        **encryption_options(given, hosts),
    }


async def make_settings(connection: Session, settings: Mapping[str, str]) -> None:
    """Apply server settings, to the session or, through a pooler, to each transaction.

    Raises:
        SetupError: the server does not know a setting, or refuses its value.
    """
    # A pooler reports another process id than the server, whose sessions are shared.
    direct = f"{statement(settings, local=False)} WHERE pg_backend_pid() = "
    try:
        status = await connection.execute(f"{direct}{connection.get_server_pid()}")
        if status == "SELECT 1":
            return
        settings = {IN_TRANSACTION.get(name, name): value for name, value in settings.items()}
        preamble = statement(settings, local=True)
        async with connection.transaction():
            await connection.execute(preamble)
    except REFUSED as error:
        message = f"RECEIVER_DATABASE_URL: {error} (SQLSTATE {error.sqlstate})"
        raise SetupError(message) from error
    connection.preamble = preamble


def statement(settings: Mapping[str, str], *, local: bool) -> str:
    """Write the statement that applies settings."""
    calls = [
        f"set_config({literal(name)}, {literal(value)}, {local})"
        for name, value in settings.items()
    ]
    return f"SELECT {', '.join(calls)}, {DURABLE.format(local=local)}"


async def require_schema(connection: Session, search_path: str) -> None:
    """Check that the first schema of a search path exists: otherwise tables would go into the next.

    Raises:
        SetupError: it does not exist, or the role may not use it.
    """
    found = FIRST_SCHEMA.fullmatch(search_path)
    if found is None or found["plain"] == "$user" or found["quoted"] == "$user":
        return
    name = found["plain"] or f'"{found["quoted"]}"'
    schema = (found["plain"] or "").lower() or found["quoted"].replace('""', '"')
    usable = await connection.fetchval(MAY_USE_SCHEMA, schema)
    if usable is None:
        raise SetupError(
            f"RECEIVER_DATABASE_URL: search_path begins with schema {name}, which the database "
            f"does not have: CREATE SCHEMA {name}, or name another"
        )
    if not usable:
        raise SetupError(
            f"RECEIVER_DATABASE_URL: search_path begins with schema {name}, which the role may not "
            f"use: GRANT USAGE, CREATE ON SCHEMA {name} to it, or name another"
        )


async def require_coordinator(connection: Session) -> None:
    """Check that this is no worker node of Citus: it has only some of the tables.

    Raises:
        SetupError: it is one.
    """
    if not await connection.fetchval(HAS_CITUS):
        return
    database = await connection.fetchval(FIND_WORKER)
    if database is not None:
        raise SetupError(
            f"RECEIVER_DATABASE_URL: database {database} is on a worker node of Citus: name the "
            "coordinator"
        )


@asynccontextmanager
async def with_settings(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Put a session's settings into effect: through a pooler, in a transaction of its own."""
    preamble = getattr(connection, "preamble", "")
    if not preamble or connection.is_in_transaction():
        yield
        return
    async with connection.transaction():
        await connection.execute(preamble)
        yield
