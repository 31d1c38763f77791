"""Whether rows can be stored, found out without storing any.

Most statements write nothing, but the server parses, plans and permits them: a table or a column
that was renamed, a type that holds no values of ours, a right or a key that is gone makes them
fail.
"""

from __future__ import annotations

from typing import Final

from receiver.errors import (
    DuplicateRowError,
    MissingReferenceError,
    RefusedByDatabaseError,
    StatementRefusedError,
)
from receiver.storage.connection.database import Connection, translated

# The key is what keeps a repeated row from being stored twice, so without it nothing may be.
REHEARSALS: Final = {
    "sources": """
INSERT INTO sources (digest, labels) SELECT ''::bytea, '{}'::jsonb WHERE false;
SELECT digest, id FROM sources WHERE false
""",
    "error_codes": """
INSERT INTO error_codes (code, name, description) SELECT 0, '', '' WHERE false;
SELECT code FROM error_codes WHERE false
""",
    "app_logs": """
INSERT INTO app_logs (created_at, source_id, app_status, ocr_value)
SELECT now(), 0, 0, now() WHERE false;
SELECT FROM app_logs WHERE app_status <> 0::int AND ocr_value <> now() AND false
""",
    "pending_halves": """
INSERT INTO pending_halves AS p
    (created_at, source_id, app_status, status_sample, ocr_value, ocr_sample)
SELECT now(), 0, 0, 0.0::double precision, now(), 0.0::double precision WHERE false
ON CONFLICT (source_id, created_at) DO UPDATE SET app_status = EXCLUDED.app_status;
DELETE FROM pending_halves WHERE false AND arrived_at < now()
""",
    "rejected_samples": """
INSERT INTO rejected_samples
    (source_id, source_digest, source_labels, metric, timestamp_ms, value, reason, detail)
SELECT 0, ''::bytea, '{}'::jsonb, '', 0, 0.0::double precision, '', '' WHERE false
""",
}
"""What is done with each table to store rows."""

IN_EARNEST: Final = {
    "sources": """
INSERT INTO sources (digest, labels) VALUES (gen_random_uuid()::text::bytea, '{}')
""",
    "app_logs": """
INSERT INTO app_logs (created_at, source_id, app_status, ocr_value)
SELECT now(), max(id), (SELECT min(code) FROM error_codes), now() FROM sources
""",
    "pending_halves": """
INSERT INTO pending_halves (created_at, source_id, app_status, status_sample)
SELECT now(), max(id), (SELECT min(code) FROM error_codes), 0 FROM sources
""",
    "rejected_samples": """
INSERT INTO rejected_samples (source_id, metric, timestamp_ms, value, reason, detail)
SELECT max(id), 'rehearsal', 0, 0, 'rehearsal', '' FROM sources
""",
}
"""Rows of each table, for what refuses only what is really written, as a trigger that fails."""

# Whether a unique index, as it is, tells rows apart by source and time, and nothing else.
HAS_KEY: Final = """
SELECT EXISTS (
    SELECT FROM pg_index
    WHERE indrelid = to_regclass('app_logs') AND indisunique AND indisvalid AND indpred IS NULL
      AND indnkeyatts = 2 AND (
          SELECT array_agg(attname::text ORDER BY attname)
          FROM pg_attribute WHERE attrelid = indrelid AND attnum = ANY(indkey[0:1])
      ) = ARRAY['created_at', 'source_id']
)
"""

NO_KEY: Final = (
    "app_logs has no unique index on (source_id, created_at), without which a repeated row would "
    "be stored twice: ALTER TABLE app_logs ADD PRIMARY KEY (source_id, created_at)"
)


async def rehearse(connection: Connection) -> str | None:
    """Go through what storing a row takes; return what keeps it from being stored, or None.

    Args:
        connection: If it is in a transaction, that can only be rolled back after a failure.

    Raises:
        ReceiverError: as `translated` does, but for a statement that is refused.
    """
    for table, statement in REHEARSALS.items():
        try:
            with translated():
                await connection.execute(statement)
        except StatementRefusedError as error:
            return f"{table}: {error}"
    return None if await connection.fetchval(HAS_KEY) else NO_KEY


async def write_and_take_back(connection: Connection) -> str | None:
    """Write rows and take them back; return why no row of a table can be written, or None.

    A row whose data alone is refused shows nothing: others may be taken.

    Args:
        connection: In a transaction; after a failure it can only be rolled back.

    Raises:
        ReceiverError: as `rehearse` does.
    """
    await connection.execute("SAVEPOINT nothing_written")
    for table, statement in IN_EARNEST.items():
        await connection.execute("SAVEPOINT rehearsal")
        try:
            with translated():
                await connection.execute(statement)
        except StatementRefusedError as error:
            return f"{table}: {error}"
        except (RefusedByDatabaseError, DuplicateRowError, MissingReferenceError):
            await connection.execute("ROLLBACK TO SAVEPOINT rehearsal")
    await connection.execute("ROLLBACK TO SAVEPOINT nothing_written")
    return None
