"""Lists and edits tables of codes, such as `error_codes`, which say what each code means."""

from __future__ import annotations

from typing import Final, NamedTuple

from receiver.config.table_names import ERROR_CODES
from receiver.errors import DuplicateRowError, ErrorCodeError
from receiver.rows.tables import Table
from receiver.storage.connection.database import Connection, used
from receiver.storage.connection.places import quote

FIRST: Final = -(2**31)
"""The lowest code there can be."""

# A table that somebody else created may lack created_at.
_CODES: Final = """
SELECT code, name::text, description::text,
    (to_jsonb(known) ->> 'created_at')::timestamptz AS created_at
FROM {} AS known
"""

# The description that the receiver gave a code when registering it is dropped with its name.
_RENAME: Final = """
UPDATE {} SET name = $2, description = CASE
    WHEN $3::text IS NULL AND name <> 'UNREGISTERED_' || code THEN description ELSE $3 END
WHERE code = $1 RETURNING code
"""


class Code(NamedTuple):
    """A code and what it means."""

    code: int
    name: str
    description: str | None
    created_at: str | None
    """As PostgreSQL writes it, in UTC: TIMESTAMPTZ holds years that datetime does not."""


class CodeTable:
    """A table of codes.

    Every method raises what `translated` does.

    Args:
        name: Its name.
    """

    def __init__(self, name: str = ERROR_CODES) -> None:
        self.name = name
        self._codes = _CODES.format(quote(name))
        self._flag = "" if name == ERROR_CODES else f"--table {name} "

    async def all(self, connection: Connection) -> list[Code]:
        """Return all codes."""
        async with used(connection):
            return [Code(*row) for row in await connection.fetch(f"{self._codes} ORDER BY code")]

    async def page(self, connection: Connection, start: int, limit: int) -> list[Code]:
        """Return at most `limit` codes from `start` on, with texts cut to what a page shows."""
        statement = f"""
SELECT code, left(name, 500), left(description, 500), created_at FROM ({self._codes}) AS codes
WHERE code >= $1 ORDER BY code LIMIT $2
"""
        async with used(connection):
            return [Code(*row) for row in await connection.fetch(statement, start, limit)]

    async def add(
        self, connection: Connection, code: int, name: str, description: str | None
    ) -> None:
        """Register a code.

        Raises:
            ErrorCodeError: it is registered already.
        """
        table = quote(self.name)
        statement = f"INSERT INTO {table} (code, name, description) VALUES ($1, $2, $3)"
        try:
            async with used(connection):
                await connection.execute(statement, code, name, description)
        except DuplicateRowError as error:
            async with used(connection):
                known = await connection.fetchval(f"SELECT name FROM {table} WHERE code = $1", code)
            if known is None:
                raise
            raise ErrorCodeError(
                f"error code {code} is registered already, as {known}; "
                f"to give it another name: receiver codes {self._flag}rename {code} NAME"
            ) from error

    async def rename(
        self, connection: Connection, code: int, name: str, description: str | None
    ) -> None:
        """Give a code another name; without a description it keeps its own.

        Raises:
            ErrorCodeError: there is no such code.
        """
        async with used(connection):
            renamed = await connection.fetchval(
                _RENAME.format(quote(self.name)), code, name, description
            )
        if renamed is None:
            raise self._is_missing(code)

    async def require(self, connection: Connection, code: int) -> None:
        """Check that a code is registered.

        Raises:
            ErrorCodeError: there is no such code.
        """
        async with used(connection):
            known = await connection.fetchval(
                f"SELECT count(*) FROM {quote(self.name)} WHERE code = $1", code
            )
        if not known:
            raise self._is_missing(code)

    def _is_missing(self, code: int) -> ErrorCodeError:
        return ErrorCodeError(
            f"error code {code} is not registered; "
            f"to register it: receiver codes {self._flag}add {code} NAME"
        )

    async def find_namesake(self, connection: Connection, code: int, name: str) -> Code | None:
        """Find another code that has the same name, whatever its case."""
        statement = f"{self._codes} WHERE lower(name) = lower($1) AND code <> $2"
        async with used(connection):
            row = await connection.fetchrow(f"{statement} ORDER BY code LIMIT 1", name, code)
        return None if row is None else Code(*row)


async def of_table(connection: Connection, table: Table, limit: int) -> list[Code]:
    """Return the first codes that the rows of a table may have; none without a column of codes."""
    if not table.codes:
        return []
    return await CodeTable(table.codes[0].codes).page(connection, FIRST, limit)
