"""Statements of the write path for tables that Citus distributes, where plain ones do not work.

Citus can join a distributed table with given values, but neither row by row (LATERAL with LIMIT)
nor by `ctid`, and it cannot lock rows of several shards in advance (FOR UPDATE).
"""

from __future__ import annotations

from typing import Final

from receiver.rows.tables import Table
from receiver.storage.connection.places import quote

_WANTED: Final = """
unnest($1::text[], $2::timestamptz[], $3::int[]) AS wanted (table_name, created_at, source_id)
"""
_IS_WANTED: Final = """
(p.source_id, p.created_at, p.table_name)
    = (wanted.source_id, wanted.created_at, wanted.table_name)
    AND p.source_id = ANY($3::int[])
"""

FIND: Final = f"""
SELECT p.table_name, p.created_at, p.source_id, p.samples, p.before
FROM pending_rows p JOIN {_WANTED} ON {_IS_WANTED}
"""
DELETE: Final = f"DELETE FROM pending_rows p USING {_WANTED} WHERE {_IS_WANTED}"
TAKE: Final = f"{DELETE} RETURNING p.table_name, p.created_at, p.source_id, p.samples"

# Takes the rows whose samples are still the given ones ($4): nobody has added more since.
TAKE_UNCHANGED: Final = """
DELETE FROM pending_rows p
USING unnest($1::text[], $2::timestamptz[], $3::int[], $4::jsonb[])
    AS wanted (table_name, created_at, source_id, samples)
WHERE (p.source_id, p.created_at, p.table_name, p.samples)
    = (wanted.source_id, wanted.created_at, wanted.table_name, wanted.samples)
RETURNING p.created_at, p.source_id, p.samples
"""

TAKE_UNDECLARED: Final = """
DELETE FROM pending_rows p USING (
    SELECT source_id, created_at, table_name FROM pending_rows
    WHERE table_name <> ALL($1::text[]) AND arrived_at < now() - $3::interval
    LIMIT $2
) AS old
WHERE (p.source_id, p.created_at, p.table_name) = (old.source_id, old.created_at, old.table_name)
RETURNING p.table_name, p.created_at, p.source_id, p.samples
"""

FIND_REJECTED: Final = """
SELECT wanted.place - 1, r.metric, r.value, r.reason, r.id
FROM rejected_samples r
JOIN unnest($1::int[], $2::bigint[]) WITH ORDINALITY AS wanted (source_id, timestamp_ms, place)
    ON r.shard_key = wanted.source_id AND r.source_id = wanted.source_id
    AND r.timestamp_ms = wanted.timestamp_ms
WHERE r.metric = ANY($3::text[]) AND r.table_name = $4
"""

SAMPLES: Final = """
unnest(
    $1::int[], $2::bytea[], $3::text[], $4::bigint[], $5::double precision[], $6::text[],
    $7::text[]
) WITH ORDINALITY
    AS sample (source_id, digest, metric, timestamp_ms, value, reason, table_name, place)
"""
"""Rejected samples, by the columns that identify them."""

# The places in the list of the samples that are stored.
FIND_KEPT: Final = f"""
SELECT sample.place - 1 FROM {SAMPLES}
JOIN rejected_samples r ON r.shard_key = COALESCE(sample.source_id, 0)
    AND (r.metric, r.timestamp_ms, r.value, r.reason, r.table_name)
        = (sample.metric, sample.timestamp_ms, sample.value, sample.reason, sample.table_name)
    AND (r.source_id = sample.source_id
        OR r.source_id IS NULL AND sample.source_id IS NULL AND r.source_digest = sample.digest)
"""

ADD_KEYS: Final = """
INSERT INTO source_keys (id) SELECT id FROM unnest($1::int[]) AS source (id) ORDER BY id
ON CONFLICT DO NOTHING
"""

# Every key belongs to a source, so the counts differ only if a key is missing.
LACKS_KEYS: Final = "SELECT (SELECT count(*) FROM sources) > (SELECT count(*) FROM source_keys)"


def find_rows(table: Table, results: str) -> str:
    """Write the equivalent of `Statements.find`; `results` are its columns, of the row `t`."""
    return f"""
SELECT {results} FROM {quote(table.name)} t
JOIN unnest($1::timestamptz[], $2::int[]) AS wanted (created_at, source_id)
    ON (t.source_id, t.created_at) = (wanted.source_id, wanted.created_at)
WHERE t.created_at BETWEEN $3 AND $4 AND t.source_id = ANY($5::int[])
"""


def find_all_rows(table: Table, results: str) -> str:
    """Write the statement for all rows of these times ($1) and sources ($2).

    It costs less on each shard than that of `find_rows`.
    """
    return f"""
SELECT {results} FROM {quote(table.name)} t
WHERE t.created_at = ANY($1::timestamptz[]) AND t.source_id = ANY($2::int[])
"""
