"""The hourly summary, a continuous aggregate of TimescaleDB where that is possible.

Elsewhere `app_status_hourly` and `app_status_now` stay plain views. Their columns are the same, and
replacing them keeps their privileges and the objects that depend on them.
"""

from __future__ import annotations

import logging
from typing import Final

import asyncpg

from receiver.storage.connection.places import LOGS, schema_of
from receiver.storage.schema.timescale import as_far_as_allowed, is_hypertable

logger = logging.getLogger(__name__)

# Neither a plain table nor TimescaleDB under the Apache license has continuous aggregates.
CAN_STORE: Final = """
SELECT current_setting('timescaledb.license', true) = 'timescale'
"""

STORED: Final = "app_status_hourly_stored"

FIND_SUMMARY: Final = "SELECT to_regclass('app_status_hourly_stored') IS NOT NULL"

# The columns of app_status_hourly and, for app_status_now, the newest row of the hour.
CREATE_SUMMARY: Final = """
CREATE MATERIALIZED VIEW app_status_hourly_stored
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT source_id, time_bucket('1 hour', created_at) AS hour,
    count(*) AS rows,
    app_status_shares(array_agg(app_status)) AS shares,
    app_status_longest_outage(array_agg(created_at), array_agg(app_status)) AS longest_outage,
    min(created_at - ocr_value) AS ocr_delay_min,
    make_interval(
        secs => avg(EXTRACT(EPOCH FROM created_at - ocr_value))::double precision
    ) AS ocr_delay_avg,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY created_at - ocr_value) AS ocr_delay_p95,
    max(created_at - ocr_value) AS ocr_delay_max,
    max(created_at) AS last_created_at,
    last(app_status, created_at) AS last_app_status,
    last(ocr_value, created_at) AS last_ocr_value
FROM app_logs
WHERE created_at BETWEEN '2000-01-01 00:00Z' AND '9999-12-31 00:00Z'
GROUP BY 1, 2
WITH NO DATA;

COMMENT ON VIEW app_status_hourly_stored IS
    'What TimescaleDB keeps of app_status_hourly, and the newest row of each hour.'
"""

# The range starts before all rows, so that imported history and late rows of any age are included.
# The first run covers everything; the others only the hours in which something has changed. The
# range has an end: TimescaleDB works hour by hour, through the millions of a wrong clock, too.
ADD_REFRESH_POLICY: Final = """
SELECT add_continuous_aggregate_policy('app_status_hourly_stored',
    start_offset => INTERVAL '50 years', end_offset => INTERVAL '1 hour',
    schedule_interval => INTERVAL '30 minutes')
"""

# Without hours more than a day ahead, as in the plain view.
READ_SUMMARY: Final = """
CREATE OR REPLACE VIEW app_status_hourly AS
SELECT source_id, hour, rows, shares, longest_outage,
    ocr_delay_min, ocr_delay_avg, ocr_delay_p95, ocr_delay_max
FROM app_status_hourly_stored
WHERE hour <= now() + INTERVAL '1 day'
"""

# The table that holds the summary's rows. Reading through the summary itself would add the rows of
# the current hour and lose the index order: too slow for looking up one row per source.
NAME_STORED: Final = f"""
SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)
FROM timescaledb_information.continuous_aggregates
WHERE view_schema = {schema_of(STORED)} AND view_name = 'app_status_hourly_stored'
"""

# Looking up a source's newest row in all chunks would plan and lock all of them. Sources that have
# been silent for a week are looked up in the summary, which is read for no others. Rows in the
# future do not count, nor do hours that have one: the summary knows only the last row of an hour.
# For why it is not `=`, and orders by source_id, see app_status_now in the migration.
FIND_NEWEST_IN_SUMMARY: Final = """
CREATE OR REPLACE VIEW app_status_now AS
SELECT s.id AS source_id, s.labels, newest.created_at, now() - newest.created_at AS age,
    newest.app_status, e.name AS error_name, e.description, newest.ocr_value
FROM sources s
LEFT JOIN LATERAL (
    SELECT l.created_at, l.app_status, l.ocr_value FROM app_logs l
    WHERE l.source_id >= s.id AND l.source_id <= s.id
      AND l.created_at > now() - INTERVAL '7 days' AND l.created_at <= now()
    ORDER BY l.source_id DESC, l.created_at DESC LIMIT 1
) AS recent ON true
LEFT JOIN LATERAL (
    SELECT h.last_created_at, h.last_app_status, h.last_ocr_value FROM {stored} h
    WHERE recent.created_at IS NULL AND h.source_id >= s.id AND h.source_id <= s.id
      AND h.hour <= now() AND h.last_created_at <= now()
    ORDER BY h.source_id, h.hour DESC LIMIT 1
) AS earlier ON true
CROSS JOIN LATERAL (
    SELECT COALESCE(recent.created_at, earlier.last_created_at),
        COALESCE(recent.app_status, earlier.last_app_status),
        COALESCE(recent.ocr_value, earlier.last_ocr_value)
) AS newest (created_at, app_status, ocr_value)
LEFT JOIN error_codes e ON e.code = newest.app_status
WHERE newest.created_at IS NOT NULL
"""

# Whether app_status_now reads that table ($1): not at first, nor after a revision of ours replaced
# it.
READS_STORED: Final = """
SELECT EXISTS (
    SELECT FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
    WHERE d.classid = 'pg_rewrite'::regclass AND r.ev_class = to_regclass('app_status_now')
      AND d.refobjid = to_regclass($1)
)
"""

# Refreshing an hour whose rows retention has dropped would empty it. So the range never grows
# again: the rows of hours that were once outside of it may have been dropped. It spans at least
# three hours.
KEEP_WHAT_RETENTION_DROPS: Final = f"""
SELECT alter_job(refresh.job_id,
    config => refresh.config || jsonb_build_object('start_offset', kept.span))
FROM timescaledb_information.jobs AS refresh,
    timescaledb_information.jobs AS retention,
    timescaledb_information.continuous_aggregates AS summary,
    greatest((retention.config ->> 'drop_after')::interval, INTERVAL '3 hours') AS kept (span)
WHERE summary.view_schema = {schema_of(STORED)} AND summary.view_name = 'app_status_hourly_stored'
  AND refresh.proc_name = 'policy_refresh_continuous_aggregate'
  AND (refresh.hypertable_schema, refresh.hypertable_name) IN (
      (summary.view_schema, summary.view_name),
      (summary.materialization_hypertable_schema, summary.materialization_hypertable_name))
  AND retention.proc_name = 'policy_retention'
  AND (retention.hypertable_schema, retention.hypertable_name)
      = (summary.hypertable_schema, summary.hypertable_name)
  AND COALESCE((refresh.config ->> 'start_offset')::interval > kept.span, true)
"""


async def set_up_summary(connection: asyncpg.Connection) -> None:
    """Set up the hourly summary in TimescaleDB; run this again after retention has changed."""
    if not (await connection.fetchval(CAN_STORE) and await is_hypertable(connection, LOGS)):
        return
    async with as_far_as_allowed(connection, LOGS):
        if not await connection.fetchval(FIND_SUMMARY):
            await connection.execute(CREATE_SUMMARY)
            await connection.execute(ADD_REFRESH_POLICY)
            await connection.execute(READ_SUMMARY)
            logger.info("TimescaleDB keeps the hourly summary, refreshed every 30 minutes")
        stored = await connection.fetchval(NAME_STORED)
        # Not at every start of a receiver: replacing a view waits for its readers.
        if not await connection.fetchval(READS_STORED, stored):
            await connection.execute(FIND_NEWEST_IN_SUMMARY.format(stored=stored))
        await connection.execute(KEEP_WHAT_RETENTION_DROPS)
