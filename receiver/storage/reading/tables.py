"""Reading rows and editing error codes, for the commands that people run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from receiver.config.settings import Settings
from receiver.errors import DuplicateRowError, ErrorCodeError, SchemaError
from receiver.storage.connection.database import Connection, session, used

BEGINNING: Final = "-infinity"

# The user's own query, which README promises to run verbatim, up to now: without that, one row that
# a wrong clock has dated years ahead would come first for years.
NEWEST_LOGS: Final = """
SELECT l.id, l.created_at, l.ocr_value, e.name AS error_name, e.description
FROM app_logs l JOIN error_codes e ON l.app_status = e.code
WHERE l.created_at <= now() ORDER BY l.created_at DESC LIMIT $1
"""

# The rows from $1 to now, again those that were seen before: rows of one instant come by and by.
LOGS_SINCE: Final = """
SELECT l.id, l.created_at, l.ocr_value, e.name AS error_name, e.description
FROM app_logs l JOIN error_codes e ON l.app_status = e.code
WHERE l.created_at >= $1 AND l.created_at <= now() ORDER BY l.created_at DESC
"""

HAS_TABLES: Final = """
SELECT to_regclass('app_logs') IS NOT NULL AND to_regclass('error_codes') IS NOT NULL
"""

LIST_CODES: Final = "SELECT code, name, description, created_at FROM error_codes ORDER BY code"

FIND_CODE: Final = "SELECT name FROM error_codes WHERE code = $1"

ADD_CODE: Final = "INSERT INTO error_codes (code, name, description) VALUES ($1, $2, $3)"

# What `codes.STATEMENTS` says about a code ends with the name it gave.
RENAME_CODE: Final = """
UPDATE error_codes SET name = $2, description = CASE
    WHEN $3::text IS NULL AND name <> 'UNREGISTERED_' || code THEN description ELSE $3 END
WHERE code = $1 RETURNING code
"""


FIND_NAMESAKE = """
SELECT code, name, description, created_at FROM error_codes
WHERE lower(name) = lower($1) AND code <> $2 ORDER BY code LIMIT 1
"""


# Times are as PostgreSQL writes them, in UTC: TIMESTAMPTZ holds years that datetime does not, and
# an OCR value sent in the wrong unit lands there.


class Log(NamedTuple):
    """A row that the user's query gives."""

    id: int
    created_at: str
    ocr_value: str
    error_name: str
    description: str | None


class Code(NamedTuple):
    """An error code and what it means."""

    code: int
    name: str
    description: str | None
    created_at: str | None


@asynccontextmanager
async def connect(settings: Settings, **parameters: str) -> AsyncIterator[Connection]:
    """A connection for the functions below, with more of the server's settings where given.

    Raises:
        SchemaError: the tables are not there.
        ReceiverError: as `translated` does.
    """
    text = {"timezone": "UTC", "datestyle": "ISO"}
    async with session(settings, **text, **parameters) as connection:
        await prepare(connection)
        yield connection


async def prepare(connection: Connection) -> None:
    """Set up a connection for reading.

    Raises:
        SchemaError: the tables are not there.
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


async def newest_logs(connection: Connection, limit: int) -> list[Log]:
    """The newest rows, newest first."""
    async with used(connection):
        return [Log(*row) for row in await connection.fetch(NEWEST_LOGS, limit)]


async def logs_since(connection: Connection, created_at: str) -> list[Log]:
    """All rows of that time and later, newest first."""
    async with used(connection):
        return [Log(*row) for row in await connection.fetch(LOGS_SINCE, created_at)]


async def list_codes(connection: Connection) -> list[Code]:
    """All error codes."""
    async with used(connection):
        return [Code(*row) for row in await connection.fetch(LIST_CODES)]


async def add_code(connection: Connection, code: int, name: str, description: str | None) -> None:
    """Register an error code.

    Raises:
        ErrorCodeError: it is registered already.
    """
    try:
        async with used(connection):
            await connection.execute(ADD_CODE, code, name, description)
    except DuplicateRowError as error:
        async with used(connection):
            known = await connection.fetchval(FIND_CODE, code)
        if known is None:
            raise
        raise ErrorCodeError(
            f"error code {code} is registered already, as {known}; "
            f"to give it another name: receiver codes rename {code} NAME"
        ) from error


async def find_namesake(connection: Connection, code: int, name: str) -> Code | None:
    """Find another error code that has the same name, whatever its case."""
    async with used(connection):
        row = await connection.fetchrow(FIND_NAMESAKE, name, code)
    return None if row is None else Code(*row)


async def rename_code(
    connection: Connection, code: int, name: str, description: str | None
) -> None:
    """Give an error code another name; without a description it keeps its own.

    Raises:
        ErrorCodeError: there is no such code.
    """
    async with used(connection):
        renamed = await connection.fetchval(RENAME_CODE, code, name, description)
    if renamed is None:
        raise ErrorCodeError(
            f"error code {code} is not registered; to register it: receiver codes add {code} NAME"
        )
