"""Checks whether rows can be stored, without storing any.

Most statements write nothing, but the server parses, plans and authorizes them: they fail if a
table or a column was renamed, a type cannot hold our values, or a privilege or a key is gone.
"""

from __future__ import annotations

from typing import Final

from receiver.errors import (
    DuplicateRowError,
    MissingReferenceError,
    RefusedByDatabaseError,
    StatementRefusedError,
)
from receiver.rows.tables import Catalogue
from receiver.storage.connection.database import Connection, translated
from receiver.storage.connection.places import quote
from receiver.storage.writing.statements import ANY_SOURCE, statements_of

# What storing rows does with each of the receiver's own tables, whichever tables are declared.
REHEARSALS: Final = {
    "sources": """
INSERT INTO sources (digest, labels) SELECT ''::bytea, '{}'::jsonb WHERE false;
SELECT digest, id FROM sources WHERE false
""",
    "pending_rows": """
INSERT INTO pending_rows AS p (table_name, created_at, source_id, samples)
SELECT '', now(), 0, '{}'::jsonb WHERE false
ON CONFLICT (source_id, created_at, table_name) DO UPDATE SET
    before = p.samples, samples = EXCLUDED.samples || p.samples;
DELETE FROM pending_rows WHERE false AND arrived_at < now()
""",
    "rejected_samples": """
INSERT INTO rejected_samples (source_id, source_digest, source_labels, metric, timestamp_ms, value,
    reason, detail, table_name, column_name)
SELECT 0, ''::bytea, '{}'::jsonb, '', 0, 0.0::double precision, '', '', '', '' WHERE false
""",
}

# Statements that really write a row to each table, which a failing trigger, for one, refuses, and
# before each of them the one that reads its values.
TRIALS: Final = {
    "sources": (
        "SELECT gen_random_uuid()::text::bytea",
        "INSERT INTO sources (digest, labels) VALUES ($1, '{}')",
    ),
    "pending_rows": (
        f"SELECT {ANY_SOURCE}",
        """
INSERT INTO pending_rows (table_name, created_at, source_id, samples)
VALUES ('rehearsal', now(), $1, '{}')
""",
    ),
    "rejected_samples": (
        f"SELECT {ANY_SOURCE}",
        """
INSERT INTO rejected_samples (source_id, metric, timestamp_ms, value, reason, detail, table_name)
VALUES ($1, 'rehearsal', 0, 0, 'rehearsal', '', 'rehearsal')
""",
    ),
}

# Whether there is a valid unique index on exactly source and time. This key keeps a repeated row
# from being stored twice, so without it nothing may be stored.
HAS_KEY: Final = """
SELECT EXISTS (
    SELECT FROM pg_index
    WHERE indrelid = to_regclass($1) AND indisunique AND indisvalid AND indpred IS NULL
      AND indnkeyatts = 2 AND (
          SELECT array_agg(attname::text ORDER BY attname)
          FROM pg_attribute WHERE attrelid = indrelid AND attnum = ANY(indkey[0:1])
      ) = ARRAY['created_at', 'source_id']
)
"""


def rehearsals(catalogue: Catalogue) -> dict[str, str]:
    """Return, by table, the statements that rehearse storing rows without writing any."""
    codes = {
        name: f"INSERT INTO {quote(name)} (code, name, description) SELECT 0, '', '' WHERE false; "
        f"SELECT code FROM {quote(name)} WHERE false"
        for name in catalogue.code_tables
    }
    tables = {table.name: statements_of(table).rehearse for table in catalogue.tables}
    return REHEARSALS | codes | tables


async def find_keyless(connection: Connection, catalogue: Catalogue) -> str | None:
    """Return which table has no key, and what to do about it; None if all have one."""
    for name in catalogue.by_name:
        if not await connection.fetchval(HAS_KEY, quote(name)):
            return no_key(name)
    return None


def no_key(name: str) -> str:
    """Return the message that a table has no key, and what to do about it."""
    return (
        f"{name} has no unique index on (source_id, created_at), without which a repeated row "
        f"would be stored twice: ALTER TABLE {quote(name)} ADD PRIMARY KEY (source_id, created_at)"
    )


async def rehearse(connection: Connection, catalogue: Catalogue) -> str | None:
    """Rehearse storing rows; return what keeps them from being stored, or None.

    Args:
        connection: If it is in a transaction, that can only be rolled back after a failure.
        catalogue: The tables.

    Raises:
        ReceiverError: as `translated` does, except for a refused statement.
    """
    for table, statement in rehearsals(catalogue).items():
        try:
            with translated():
                await connection.execute(statement)
        except StatementRefusedError as error:
            return f"{table}: {error}"
    return await find_keyless(connection, catalogue)


async def write_and_take_back(connection: Connection, catalogue: Catalogue) -> str | None:
    """Write rows and roll them back; return why no row of a table can be written, or None.

    A row that is refused only for its data shows nothing: others may be accepted.

    Args:
        connection: Must be in a transaction; after a failure it can only be rolled back.
        catalogue: The tables.

    Raises:
        ReceiverError: as `rehearse` does.
    """
    await connection.execute("SAVEPOINT nothing_written")
    statements = {table.name: statements_of(table) for table in catalogue.tables}
    trials = TRIALS | {name: (some.find_any, some.try_out) for name, some in statements.items()}
    for table, (find, try_out) in trials.items():
        await connection.execute("SAVEPOINT rehearsal")
        try:
            with translated():
                await connection.execute(try_out, *await connection.fetchrow(find))
        except StatementRefusedError as error:
            return f"{table}: {error}"
        except (RefusedByDatabaseError, DuplicateRowError, MissingReferenceError):
            await connection.execute("ROLLBACK TO SAVEPOINT rehearsal")
    await connection.execute("ROLLBACK TO SAVEPOINT nothing_written")
    return None
