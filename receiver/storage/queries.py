"""Every statement the receiver runs, but for the migrations.

Timestamps travel as microseconds since 2000-01-01 UTC (see `database.prepare_connection`).
All that lock rows take them in the order (created_at, source_id), which is what keeps concurrent
transactions from deadlocking; it is also the order of a hypertable's chunks. All that look for
rows in `app_logs` bound `created_at`, in WHERE, not in the ON of a LEFT JOIN: without that, every
chunk would be planned and locked. They name the sources too, for of a compressed chunk only theirs
are then decompressed.
"""

from typing import Final

from receiver.rows.model import BREAKING
from receiver.storage.connection.places import LOGS, schema_of
from receiver.storage.writing.each import TIME

# The user's own query, which README promises to run verbatim, up to now: without that, one row that
# a wrong clock has dated years ahead would come first for years.
NEWEST_LOGS: Final = """
SELECT l.id, l.created_at, l.ocr_value, e.name AS error_name, e.description
FROM app_logs l JOIN error_codes e ON l.app_status = e.code
WHERE l.created_at <= now() ORDER BY l.created_at DESC LIMIT $1
"""

_HALF_COLUMNS: Final = "created_at, source_id, app_status, status_sample, ocr_value, ocr_sample"

_UPSERT: Final = f"""
INSERT INTO pending_halves AS p ({_HALF_COLUMNS})
SELECT {{entries}}
ORDER BY created_at, source_id
ON CONFLICT (source_id, created_at) DO UPDATE SET
    app_status = COALESCE(p.app_status, EXCLUDED.app_status),
    status_sample = COALESCE(p.status_sample, p.app_status, EXCLUDED.status_sample),
    ocr_value = COALESCE(p.ocr_value, EXCLUDED.ocr_value),
    ocr_sample = COALESCE(p.ocr_sample, EXCLUDED.ocr_sample)
"""

_HALF_STATE: Final = """
created_at, source_id, app_status, COALESCE(status_sample, app_status), ocr_value, ocr_sample
"""

# A half meets its other sample or stays to wait for it. The unique key makes two transactions that
# bring the two wait for each other, so the second one sees both and completes the row.
UPSERT_HALVES: Final = f"""
{
    _UPSERT.format(
        entries=f'''* FROM unnest(
    $1::timestamptz[], $2::int[], $3::int[], $4::double precision[], $5::timestamptz[],
    $6::double precision[]
) AS half ({_HALF_COLUMNS})'''
    )
}
RETURNING {_HALF_STATE}, xmax <> 0 AS was_there
"""

# The same, where the database may refuse some; and then what is there.
UPSERT_EACH_HALF: Final = _UPSERT.format(
    entries=f"""
    {TIME.format("(half ->> 0)")} AS created_at, (half ->> 1)::int AS source_id,
    (half ->> 2)::int, (half ->> 3)::double precision, {TIME.format("(half ->> 4)")},
    (half ->> 5)::double precision FROM unnest($1) AS half
"""
)

# The pending half of `wanted`, if it is there. LATERAL with LIMIT is one look-up for each, where a
# join would be a nested loop over all of them as soon as statistics say that the table is empty, as
# this one mostly is.
_PENDING: Final = """
LATERAL (
    SELECT *, ctid FROM pending_halves p
    WHERE (p.source_id, p.created_at) = (wanted.source_id, wanted.created_at) LIMIT 1
) AS half
"""

_WANTED: Final = "unnest($1::timestamptz[], $2::int[]) AS wanted (created_at, source_id)"

FIND_HALVES: Final = f"""
SELECT {_HALF_STATE}, arrived_at < now() AS was_there
FROM (SELECT half.* FROM {_WANTED}, {_PENDING}) AS half
ORDER BY created_at, source_id
"""

# Takes out what waits for samples that were rejected. What another transaction works on is left to
# that one, or to maintenance: to wait for it could be a deadlock.
TAKE_HALVES: Final = f"""
WITH taken AS (
    SELECT ctid FROM pending_halves
    WHERE ctid = ANY(ARRAY(SELECT half.ctid FROM {_WANTED}, {_PENDING}))
    FOR UPDATE SKIP LOCKED
)
DELETE FROM pending_halves p WHERE ctid = ANY(ARRAY(SELECT ctid FROM taken))
RETURNING p.created_at, p.source_id, p.app_status, COALESCE(p.status_sample, p.app_status),
    p.ocr_value, p.ocr_sample
"""

DELETE_HALVES: Final = f"""
DELETE FROM pending_halves
WHERE ctid = ANY(ARRAY(SELECT half.ctid FROM {_WANTED}, {_PENDING}))
"""

# For rows among which some are stored already; those are left as they are.
INSERT_LOGS: Final = """
INSERT INTO app_logs (created_at, source_id, app_status, ocr_value)
SELECT * FROM unnest($1::timestamptz[], $2::int[], $3::int[], $4::timestamptz[])
    AS log (created_at, source_id, app_status, ocr_value)
ORDER BY created_at, source_id
ON CONFLICT (source_id, created_at) DO NOTHING
"""

# For rows of which the database may refuse some; fails for those that are stored already.
INSERT_EACH_LOG: Final = f"""
INSERT INTO app_logs (created_at, source_id, app_status, ocr_value)
SELECT {TIME.format("(log ->> 0)")} AS created_at, (log ->> 1)::int AS source_id,
    (log ->> 2)::int, {TIME.format("(log ->> 3)")}
FROM unnest($1) AS log
ORDER BY created_at, source_id
"""


def _stored(times: str, bounds: tuple[str, str], sources: str) -> str:
    """Select the stored rows of these times and sources, by one look-up for each time.

    What is joined with them is joined by FULL JOIN, which is never a nested loop: whatever
    statistics say of the table, nothing is read once for each row.
    """
    return f"""(
        SELECT l.* FROM (SELECT DISTINCT created_at FROM {times}) AS moment,
        LATERAL (
            SELECT source_id, created_at, app_status, ocr_value FROM app_logs
            WHERE created_at = moment.created_at AND created_at BETWEEN {bounds[0]} AND {bounds[1]}
              AND source_id = ANY({sources})
            OFFSET 0  -- keeps LATERAL as it is
        ) AS l
    )"""


# Which of these rows are stored with another value: their place in the list, and what differs; and
# with NULL for that, which are not stored. $5 and $6 bound `created_at`, $7 are the sources, each
# once. TimescaleDB 2.16.0 to 2.18.0 leaves out what comes in INSERT_LOGS after a row that a
# compressed chunk holds (timescaledb #7673).
FIND_CONFLICTS: Final = f"""
SELECT log.place, l.app_status <> log.app_status AS status, l.ocr_value <> log.ocr_value AS ocr
FROM unnest($1::timestamptz[], $2::int[], $3::int[], $4::timestamptz[])
    WITH ORDINALITY AS log (created_at, source_id, app_status, ocr_value, place)
FULL JOIN {_stored("unnest($1) AS log (created_at)", ("$5", "$6"), "$7::int[]")} AS l
    ON (l.source_id, l.created_at) = (log.source_id, log.created_at)
WHERE COALESCE(log.place, 0) > 0
  AND (l.app_status = log.app_status AND l.ocr_value = log.ocr_value) IS NOT TRUE
"""

_REJECT: Final = """
INSERT INTO rejected_samples
    (source_id, source_digest, source_labels, metric, timestamp_ms, value, reason, detail)
"""

# Says for each reason how many samples were not rejected before.
REJECT_SAMPLES: Final = f"""
WITH added AS (
    {_REJECT}
    SELECT source_id, digest, labels::jsonb, metric, timestamp_ms, value, reason, detail
    FROM unnest(
        $1::int[], $2::bytea[], $3::text[], $4::text[], $5::bigint[], $6::double precision[],
        $7::text[], $8::text[]
    ) AS sample (source_id, digest, labels, metric, timestamp_ms, value, reason, detail)
    ORDER BY timestamp_ms, source_id, digest, metric, value, reason
    ON CONFLICT DO NOTHING
    RETURNING reason
)
SELECT reason, count(*) FROM added GROUP BY reason
"""

# Which of these are not there: their places in the list.
FIND_DISCARDED: Final = """
SELECT sample.place - 1
FROM unnest(
    $1::int[], $2::bytea[], $3::text[], $4::bigint[], $5::double precision[], $6::text[]
) WITH ORDINALITY AS sample (source_id, digest, metric, timestamp_ms, value, reason, place)
LEFT JOIN LATERAL (
    SELECT true AS there FROM rejected_samples r
    WHERE (r.source_id, r.metric, r.timestamp_ms, r.value, r.reason)
        = (sample.source_id, sample.metric, sample.timestamp_ms, sample.value, sample.reason)
    LIMIT 1
) AS with_source ON true
LEFT JOIN LATERAL (
    SELECT true AS there FROM rejected_samples r
    WHERE (r.source_digest, r.metric, r.timestamp_ms, r.value, r.reason)
        = (sample.digest, sample.metric, sample.timestamp_ms, sample.value, sample.reason)
      AND r.source_id IS NULL
    LIMIT 1
) AS without_source ON true
WHERE COALESCE(with_source.there, without_source.there) IS NULL
"""

# The same, where the database may refuse some; fails for those that were rejected before.
REJECT_EACH_SAMPLE: Final = f"""
{_REJECT}
SELECT (sample ->> 0)::int, decode(sample ->> 1, 'hex'), (sample ->> 2)::jsonb, sample ->> 3,
    (sample ->> 4)::bigint, (sample ->> 5)::double precision, sample ->> 6, sample ->> 7
FROM unnest($1) AS sample
ORDER BY 5, 1, 2, 4, 6, 7
"""

# Whether a sample of a pair, of which `half` has the key, was rejected for its value.
_IS_BROKEN: Final = f"""
EXISTS (
    SELECT FROM rejected_samples r
    WHERE r.source_id = half.source_id AND r.metric IN ($1, $2)
      AND r.timestamp_ms = (EXTRACT(EPOCH FROM half.created_at) * 1000)::bigint
      AND r.reason IN ({", ".join(f"'{reason}'" for reason in BREAKING)})
)
"""


def _settle(sources: str) -> str:
    """Take out the `wanted` halves, which do not wait any longer, and tell what becomes of them.

    Returns them all, with why a sample is rejected: it contradicts a stored row (conflict), its
    other sample was rejected, or did not come (unpaired); NULL if it repeats what is stored, or was
    rejected before. $1 and $2 name the two metrics, $3 and $4 bound `created_at`.
    """
    return f"""
, half AS (
    DELETE FROM pending_halves p
    WHERE ctid = ANY(ARRAY(SELECT half.ctid FROM wanted, {_PENDING}))
    RETURNING p.source_id, p.created_at, p.app_status, p.ocr_value,
        CASE WHEN p.app_status IS NULL THEN $2 ELSE $1 END AS metric,
        (EXTRACT(EPOCH FROM p.created_at) * 1000)::bigint AS timestamp_ms,
        COALESCE(p.status_sample, p.app_status, p.ocr_sample) AS value
)
SELECT half.source_id, half.metric, half.timestamp_ms, half.value, CASE
    WHEN EXISTS (
        SELECT FROM rejected_samples r
        WHERE (r.source_id, r.metric, r.timestamp_ms, r.value)
            = (half.source_id, half.metric, half.timestamp_ms, half.value)
    ) THEN NULL
    WHEN l.app_status <> half.app_status OR l.ocr_value <> half.ocr_value THEN 'conflict'
    WHEN l.source_id IS NOT NULL THEN NULL
    WHEN {_IS_BROKEN} THEN 'other_sample_rejected'
    ELSE 'unpaired'
END AS reason
FROM half
FULL JOIN {_stored("half", ("$3", "$4"), sources)} AS l
    ON (l.source_id, l.created_at) = (half.source_id, half.created_at)
WHERE COALESCE(half.source_id, 0) > 0
"""


# Halves that this transaction has just written but whose row is stored already, for they were sent
# twice, or whose other sample was rejected. $7 are their sources, each once.
SETTLE_AT_ONCE: Final = f"""
WITH wanted AS (
    SELECT half.source_id, half.created_at
    FROM unnest($5::timestamptz[], $6::int[]) AS half (created_at, source_id)
    FULL JOIN {_stored("unnest($5) AS half (created_at)", ("$3", "$4"), "$7::int[]")} AS l
        ON (l.source_id, l.created_at) = (half.source_id, half.created_at)
    WHERE COALESCE(half.source_id, 0) > 0
      AND (COALESCE(l.source_id, 0) > 0 OR {_IS_BROKEN})
) {_settle("$7")}
"""

# Halves that have waited longer than $5, and those whose row was stored without them, or whose
# other sample was rejected, in another transaction that this one's snapshot did not see. At most $6
# at a time, and none that a transaction works on: it will complete or settle them itself.
SETTLE_WAITING: Final = f"""
WITH wanted AS (
    SELECT half.source_id, half.created_at
    FROM pending_halves half
    WHERE half.arrived_at < now() - $5::interval
       OR EXISTS (
           SELECT FROM app_logs l
           WHERE (l.source_id, l.created_at) = (half.source_id, half.created_at)
             AND l.created_at BETWEEN $3 AND $4
       )
       OR {_IS_BROKEN}
    ORDER BY half.created_at, half.source_id
    LIMIT $6
    FOR UPDATE SKIP LOCKED
) {_settle("ARRAY(SELECT source_id FROM half)")}
"""

WAITING_RANGE: Final = "SELECT min(created_at), max(created_at) FROM pending_halves"

# Writes a few bytes of WAL. A transaction that finds everything stored already would write none,
# and then its commit would wait for no synchronous standby, though the one that stored it may have
# become visible without.
MARK_WAL: Final = "SELECT pg_logical_emit_message(true, 'receiver', '')"

# Deletes at most $2 of the oldest rows, those older than $1, from the time $3 on; returns how many,
# and the newest time among them. For a plain table. None that a transaction works on, so that the
# deletion waits for nobody.
DELETE_OLD_LOGS: Final = """
WITH old AS (
    SELECT source_id, created_at FROM app_logs
    WHERE created_at >= $3 AND created_at < now() - $1::interval
    ORDER BY created_at LIMIT $2
    FOR UPDATE SKIP LOCKED
), deleted AS (
    DELETE FROM app_logs l USING old
    WHERE (l.source_id, l.created_at) = (old.source_id, old.created_at)
    RETURNING l.created_at
)
SELECT count(*), max(created_at) FROM deleted
"""

# Looks at the $2 first rows from the id $3 on, and deletes those older than $1; returns how many,
# and the greatest id among them. Ids rise with time, so there need not be an index on the time.
DELETE_OLD_REJECTED: Final = """
WITH first AS (
    SELECT id, rejected_at FROM rejected_samples WHERE id >= $3 ORDER BY id LIMIT $2
), deleted AS (
    DELETE FROM rejected_samples r USING first
    WHERE r.id = first.id AND first.rejected_at < now() - $1::interval
    RETURNING r.id
)
SELECT count(*), max(id) FROM deleted
"""

# For a hypertable without a policy: until when the oldest chunk goes, if all of it is older than
# $1.
FIND_OLD_CHUNK: Final = f"""
SELECT min(range_end) FROM timescaledb_information.chunks
WHERE hypertable_schema = {schema_of(LOGS)} AND hypertable_name = 'app_logs'
  AND range_end <= now() - $1::interval
  AND NOT EXISTS (
      SELECT FROM timescaledb_information.jobs j
      WHERE (j.hypertable_schema, j.hypertable_name) = ({schema_of(LOGS)}, 'app_logs')
        AND j.proc_name = 'policy_retention'
  )
"""

DROP_OLD_CHUNK: Final = "SELECT drop_chunks('app_logs', older_than => $1::timestamptz)"

# To drop a chunk locks the tables that it refers to. While it waited for somebody who reads the
# chunk, all who write would wait for it.
WAIT_FOR_NOBODY: Final = "SET LOCAL lock_timeout = '200ms'"

TRY_MAINTENANCE_LOCK: Final = "SELECT pg_try_advisory_xact_lock(7345190226)"

# How many halves wait, and for how many seconds the first of them.
OBSERVE_PENDING: Final = """
SELECT count(*), COALESCE(EXTRACT(EPOCH FROM now() - min(arrived_at)), 0)::double precision
FROM pending_halves
"""

COUNT_SOURCES: Final = "SELECT count(*) FROM sources"

# Bytes that a label set may take as it is stored, beyond which nobody reads it: one of 30 MiB takes
# a tenth of a second each time. It is far above what a sender of sound mind has.
LARGEST_LABELS: Final = 64 * 1024

# Comes before NEWEST_ROWS: where statistics say that the table is nearly empty, all rows of a time
# would be read by the other index and sorted, for each source.
FOLLOW_KEY: Final = "SET LOCAL enable_sort = off"

# The newest row of each of the $1 sources that came last, if it is not older than $2 and does not
# lie in the future. Like the view app_status_now, it reads one entry of the primary key for each of
# them; the bounds on the time keep it away from other chunks.
NEWEST_ROWS: Final = f"""
SELECT s.id, COALESCE(left(s.labels ->> 'job', 100), ''),
    COALESCE(left(s.labels ->> 'instance', 100), ''),
    EXTRACT(EPOCH FROM l.created_at)::double precision
FROM (
    SELECT id, CASE WHEN pg_column_size(labels) <= {LARGEST_LABELS} THEN labels END AS labels
    FROM sources ORDER BY id DESC LIMIT $1
) s
CROSS JOIN LATERAL (
    SELECT source_id, created_at FROM app_logs
    WHERE source_id >= s.id AND source_id <= s.id
      AND created_at > now() - $2::interval AND created_at <= now()
    ORDER BY source_id DESC, created_at DESC LIMIT 1
) l
ORDER BY s.id
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
