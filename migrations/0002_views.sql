-- Views for analysts; docs/queries.md has examples. If TimescaleDB stores the hourly summary,
-- `storage/schema/summary.py` gives app_status_now and app_status_hourly other definitions with the
-- same columns.

-- The newest row of each source -----------------------------------------------------------------

CREATE VIEW app_status_now AS
SELECT s.id AS source_id, s.labels, l.created_at, now() - l.created_at AS age, l.app_status,
    e.name AS error_name, e.description, l.ocr_value
FROM sources s
CROSS JOIN LATERAL (
    SELECT * FROM app_logs l
    -- Not `=`: the planner would then drop source_id from the sort order, and might scan the index
    -- on created_at backwards, through the rows of all other sources, to find the last row of a
    -- source that stopped long ago.
    WHERE l.source_id >= s.id AND l.source_id <= s.id
    ORDER BY l.source_id DESC, l.created_at DESC LIMIT 1
) l
LEFT JOIN error_codes e ON e.code = l.app_status;

COMMENT ON VIEW app_status_now IS 'The newest row of each source, and how long ago that was.';
COMMENT ON COLUMN app_status_now.age IS
    'Time since created_at: a few seconds while the source is scraped.';

-- Intervals of states ---------------------------------------------------------------------------

CREATE FUNCTION app_status_intervals_between(
    since TIMESTAMPTZ, until TIMESTAMPTZ DEFAULT 'infinity', max_gap INTERVAL DEFAULT '5 minutes'
) RETURNS TABLE (
    source_id INT, app_status INT, error_name TEXT, started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ,
    rows BIGINT, ongoing BOOLEAN
)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH neighbours AS (
        SELECT l.source_id, l.created_at, l.app_status,
            row_number() OVER by_time AS place,
            (lag(l.app_status) OVER by_time = l.app_status
                AND lag(l.created_at) OVER by_time >= l.created_at - max_gap) IS NOT TRUE AS starts,
            (lead(l.app_status) OVER by_time = l.app_status
                AND lead(l.created_at) OVER by_time <= l.created_at + max_gap) IS NOT TRUE AS ends,
            lead(l.created_at) OVER by_time IS NULL AS newest
        FROM app_logs l
        WHERE l.created_at >= since AND l.created_at < until
        WINDOW by_time AS (PARTITION BY l.source_id ORDER BY l.created_at)
    ), intervals AS (
        -- Only the first and the last row of each interval remain; they may be the same.
        SELECT n.source_id, n.app_status, n.created_at AS started_at, n.starts,
            CASE WHEN ends THEN n.created_at ELSE lead(n.created_at) OVER by_time END AS ended_at,
            CASE WHEN ends THEN 1 ELSE lead(n.place) OVER by_time - n.place + 1 END AS rows,
            CASE WHEN ends THEN n.newest ELSE lead(n.newest) OVER by_time END AS newest
        FROM neighbours n
        WHERE n.starts OR n.ends
        WINDOW by_time AS (PARTITION BY n.source_id ORDER BY n.created_at)
    )
    SELECT i.source_id, i.app_status, e.name, i.started_at, i.ended_at, i.rows,
        i.newest AND i.ended_at >= least(until, now()) - max_gap
    FROM intervals i
    LEFT JOIN error_codes e ON e.code = i.app_status
    WHERE i.starts;
END;

COMMENT ON FUNCTION app_status_intervals_between IS
    'What app_status_intervals shows, of the rows from since to before until: an interval that goes '
    'beyond is cut there. ongoing tells how it was at until. Conditions on source_id use the index.';

-- The same for all time. It does not call the function, because readers of the view would then need
-- SELECT on the tables that the function reads as well.
CREATE VIEW app_status_intervals AS
WITH neighbours AS (
    SELECT l.source_id, l.created_at, l.app_status,
        row_number() OVER by_time AS place,
        (lag(l.app_status) OVER by_time = l.app_status AND lag(l.created_at) OVER by_time
            >= l.created_at - INTERVAL '5 minutes') IS NOT TRUE AS starts,
        (lead(l.app_status) OVER by_time = l.app_status AND lead(l.created_at) OVER by_time
            <= l.created_at + INTERVAL '5 minutes') IS NOT TRUE AS ends,
        lead(l.created_at) OVER by_time IS NULL AS newest
    FROM app_logs l
    WINDOW by_time AS (PARTITION BY l.source_id ORDER BY l.created_at)
), intervals AS (
    SELECT n.source_id, n.app_status, n.created_at AS started_at, n.starts,
        CASE WHEN ends THEN n.created_at ELSE lead(n.created_at) OVER by_time END AS ended_at,
        CASE WHEN ends THEN 1 ELSE lead(n.place) OVER by_time - n.place + 1 END AS rows,
        CASE WHEN ends THEN n.newest ELSE lead(n.newest) OVER by_time END AS newest
    FROM neighbours n
    WHERE n.starts OR n.ends
    WINDOW by_time AS (PARTITION BY n.source_id ORDER BY n.created_at)
)
SELECT i.source_id, i.app_status, e.name AS error_name, i.started_at, i.ended_at, i.rows,
    i.newest AND i.ended_at >= now() - INTERVAL '5 minutes' AS ongoing
FROM intervals i
LEFT JOIN error_codes e ON e.code = i.app_status
WHERE i.starts;

COMMENT ON VIEW app_status_intervals IS
    'From when to when each source was in which state. An interval ends with another app_status, or '
    'when no row comes for more than 5 minutes. For a range of time: app_status_intervals_between.';
COMMENT ON COLUMN app_status_intervals.started_at IS 'Time of the first row of the interval.';
COMMENT ON COLUMN app_status_intervals.ended_at IS
    'Time of the last row of the interval; the first row itself where there is but one.';
COMMENT ON COLUMN app_status_intervals.rows IS 'How many rows the interval is made of.';
COMMENT ON COLUMN app_status_intervals.ongoing IS
    'Whether it is the newest of its source and its last row is no older than 5 minutes.';

-- The hourly summary ----------------------------------------------------------------------------

CREATE FUNCTION app_status_shares(statuses INT[]) RETURNS JSONB
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT jsonb_object_agg(code, rows::double precision / cardinality(statuses))
    FROM (
        SELECT code, count(*) AS rows FROM unnest(statuses) AS log (code) GROUP BY code
    ) AS counted;
END;

COMMENT ON FUNCTION app_status_shares IS
    'The share of each code, such as {"0": 0.75, "2": 0.25}; for array_agg(app_status).';

CREATE FUNCTION app_status_longest_outage(
    times TIMESTAMPTZ[], statuses INT[], max_gap INTERVAL DEFAULT '5 minutes'
) RETURNS INTERVAL
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    -- A new stretch begins at each row with status 0 and after each gap.
    WITH logs AS (
        SELECT created_at, app_status, app_status = 0
            OR created_at - lag(created_at) OVER (ORDER BY created_at) > max_gap AS begins
        FROM unnest(times, statuses) AS log (created_at, app_status)
    ), stretches AS (
        SELECT created_at, app_status,
            count(*) FILTER (WHERE begins) OVER (ORDER BY created_at) AS stretch
        FROM logs
    ), outages AS (
        SELECT max(created_at) - min(created_at) AS duration
        FROM stretches WHERE app_status <> 0 GROUP BY stretch
    )
    SELECT max(duration) FROM outages WHERE 0 <> ANY (statuses);
END;

COMMENT ON FUNCTION app_status_longest_outage IS
    'Time from the first to the last row of the longest stretch of app_status <> 0; NULL without '
    'any. For array_agg(created_at), array_agg(app_status).';

CREATE VIEW app_status_hourly AS
SELECT summary.source_id, hour, summary.rows, summary.shares, summary.longest_outage,
    summary.ocr_delay_min, summary.ocr_delay_avg, summary.ocr_delay_p95, summary.ocr_delay_max
FROM (
    -- Times outside this range come from wrong clocks. They could produce millions of hours, and
    -- delays too long for an INTERVAL.
    SELECT greatest(min(created_at), TIMESTAMPTZ '2000-01-01 00:00Z') AS oldest,
        least(max(created_at), now() + INTERVAL '1 day') AS newest
    FROM app_logs
) AS logs
-- One index scan per hour instead of one GROUP BY, so that a condition on the hour limits the rows
-- that are read.
CROSS JOIN LATERAL generate_series(
    date_bin('1 hour', logs.oldest, TIMESTAMPTZ '2000-01-01 00:00Z'), logs.newest, INTERVAL '1 hour'
) AS hour
CROSS JOIN LATERAL (
    SELECT l.source_id, count(*) AS rows,
        app_status_shares(array_agg(l.app_status)) AS shares,
        app_status_longest_outage(array_agg(l.created_at), array_agg(l.app_status))
            AS longest_outage,
        min(l.created_at - l.ocr_value) AS ocr_delay_min,
        -- Not avg() of intervals, since their sum may be too large for an INTERVAL.
        make_interval(
            secs => avg(EXTRACT(EPOCH FROM l.created_at - l.ocr_value))::double precision
        ) AS ocr_delay_avg,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY l.created_at - l.ocr_value) AS ocr_delay_p95,
        max(l.created_at - l.ocr_value) AS ocr_delay_max
    FROM app_logs l
    WHERE l.created_at >= hour AND l.created_at < hour + INTERVAL '1 hour'
    GROUP BY l.source_id
) AS summary;

COMMENT ON VIEW app_status_hourly IS
    'One row for each source and hour (of UTC) with rows. What a wrong clock dates before 2000 or '
    'after tomorrow is left out.';
COMMENT ON COLUMN app_status_hourly.hour IS 'When the hour begins.';
COMMENT ON COLUMN app_status_hourly.rows IS 'How many rows of app_logs: how often it was scraped.';
COMMENT ON COLUMN app_status_hourly.shares IS
    'The share of each app_status among the rows, such as {"0": 0.75, "2": 0.25}.';
COMMENT ON COLUMN app_status_hourly.longest_outage IS
    'From the first to the last row of the longest stretch of app_status <> 0 within the hour; a '
    'gap of more than 5 minutes ends it. NULL: there was none.';
COMMENT ON COLUMN app_status_hourly.ocr_delay_min IS 'The least of created_at - ocr_value.';
COMMENT ON COLUMN app_status_hourly.ocr_delay_avg IS 'The mean of created_at - ocr_value.';
COMMENT ON COLUMN app_status_hourly.ocr_delay_p95 IS
    'What created_at - ocr_value was at most for 95 % of the rows.';
COMMENT ON COLUMN app_status_hourly.ocr_delay_max IS 'The greatest of created_at - ocr_value.';
