"""The error codes, page by page."""

from __future__ import annotations

from typing import Final

from receiver.storage.connection.database import Connection, translated
from receiver.storage.reading.tables import Code

CODES: Final = """
SELECT code, left(name, 500) AS name, left(description, 500) AS description, created_at
FROM error_codes WHERE code >= $1 ORDER BY code LIMIT $2
"""

FIRST: Final = -(2**31)
"""The lowest code there can be."""


async def codes(connection: Connection, start: int, limit: int) -> list[Code]:
    """So many error codes from one on."""
    with translated():
        return [Code(*row) for row in await connection.fetch(CODES, start, limit)]
