-- The current state follows from past rows only. A row that a wrong clock has dated in the future
-- counts once its time has come; until then, it is not the newest row of its source and does not
-- end an ongoing interval. If TimescaleDB stores the hourly summary, `storage/schema/summary.py`
-- replaces app_status_now again.

CREATE OR REPLACE VIEW app_status_now AS
SELECT s.id AS source_id, s.labels, l.created_at, now() - l.created_at AS age, l.app_status,
    e.name AS error_name, e.description, l.ocr_value
FROM sources s
CROSS JOIN LATERAL (
    SELECT * FROM app_logs l
    -- Not `=`: the planner would then drop source_id from the sort order, and might scan the index
    -- on created_at backwards, through the rows of all other sources, to find the last row of a
    -- source that stopped long ago.
    WHERE l.source_id >= s.id AND l.source_id <= s.id AND l.created_at <= now()
    ORDER BY l.source_id DESC, l.created_at DESC LIMIT 1
) l
LEFT JOIN error_codes e ON e.code = l.app_status;

COMMENT ON VIEW app_status_now IS
    'The newest row of each source, and how long ago that was. Rows that lie in the future do not '
    'count.';

-- An interval is ongoing if it contains the newest past row of its source, and that row is no older
-- than max_gap. This is so if the interval began in the past, its last row is no older than
-- max_gap, and no past row follows it.

CREATE OR REPLACE FUNCTION app_status_intervals_between(
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
            (lead(l.created_at) OVER by_time <= now()) IS NOT TRUE AS newest
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
        i.newest AND i.started_at <= now() AND i.ended_at >= least(until, now()) - max_gap
    FROM intervals i
    LEFT JOIN error_codes e ON e.code = i.app_status
    WHERE i.starts;
END;

COMMENT ON FUNCTION app_status_intervals_between IS
    'What app_status_intervals shows, of the rows from since to before until: an interval that goes '
    'beyond is cut there. ongoing says how it was at until, or is now if until lies in the future. '
    'Conditions on source_id use the index.';

CREATE OR REPLACE VIEW app_status_intervals AS
WITH neighbours AS (
    SELECT l.source_id, l.created_at, l.app_status,
        row_number() OVER by_time AS place,
        (lag(l.app_status) OVER by_time = l.app_status AND lag(l.created_at) OVER by_time
            >= l.created_at - INTERVAL '5 minutes') IS NOT TRUE AS starts,
        (lead(l.app_status) OVER by_time = l.app_status AND lead(l.created_at) OVER by_time
            <= l.created_at + INTERVAL '5 minutes') IS NOT TRUE AS ends,
        (lead(l.created_at) OVER by_time <= now()) IS NOT TRUE AS newest
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
    i.newest AND i.started_at <= now() AND i.ended_at >= now() - INTERVAL '5 minutes' AS ongoing
FROM intervals i
LEFT JOIN error_codes e ON e.code = i.app_status
WHERE i.starts;

COMMENT ON COLUMN app_status_intervals.ongoing IS
    'Whether the newest row of its source up to now is in it, and is no older than 5 minutes.';
