-- Look up the rows of a source by the primary key even while a table is minutes old.
--
-- The planner expects few rows in any range of time. In a table that is still small, it used the
-- index on created_at and read the rows of all sources for each of them: with a thousand sources,
-- reports and the strips of the overview took half a minute. Only the primary key supports the row
-- comparisons. The other conditions say the same; they exclude chunks of hypertables, and find the
-- rows of a source in compressed ones.

CREATE OR REPLACE FUNCTION receiver_runs_query(
    table_name TEXT, code_column TEXT, source_list TEXT, since TEXT, until TEXT, max_gap TEXT
) RETURNS TEXT
LANGUAGE plpgsql STABLE
AS $function$
DECLARE
    written TEXT := $query$SELECT p.source_id, p.code, min(p.started_at) AS started_at, max(p.ended_at) AS ended_at,
    sum(p.rows)::bigint AS rows, max(p.ended_at) >= {end} AS ongoing
FROM (
    SELECT m.*, count(*) FILTER (WHERE m.starts)
        OVER (PARTITION BY m.source_id ORDER BY m.started_at) AS run
    FROM (
        SELECT c.*, (lag(c.code) OVER by_time = c.code
            AND lag(c.ended_at) OVER by_time = c.started_at) IS NOT TRUE AS starts
        FROM (
            SELECT s.id AS source_id, r.code, greatest(r.started_at, {since}) AS started_at,
                least(r.ended_at, {end}) AS ended_at,
                r.rows - (r.started_at < {since})::int AS rows
            FROM {sources}
            -- The last row before the range may hold into it.
            CROSS JOIN LATERAL (
                SELECT COALESCE((
                    SELECT l.created_at FROM {table} l
                    WHERE l.source_id = s.id AND {valued}
                      AND l.created_at < {since} AND l.created_at >= {since} - {reach}
                      AND (l.source_id, l.created_at) < (s.id, {since})
                      AND (l.source_id, l.created_at) >= (s.id, {since} - {reach})
                      AND l.created_at <= now()
                    ORDER BY l.source_id DESC, l.created_at DESC LIMIT 1
                ), {since}) AS first OFFSET 0
            ) AS range
            -- The days that have rows; each is looked up from the previous one.
            CROSS JOIN LATERAL (
                WITH RECURSIVE day (start) AS (
                    (
                        SELECT date_trunc('day', l.created_at, 'UTC') FROM {table} l
                        WHERE l.source_id = s.id AND {valued}
                          AND l.created_at >= range.first AND l.created_at < {until}
                          AND (l.source_id, l.created_at) >= (s.id, range.first)
                          AND (l.source_id, l.created_at) < (s.id, {until})
                          AND l.created_at <= now() AND {near}
                        ORDER BY l.source_id, l.created_at LIMIT 1
                    )
                    UNION ALL
                    SELECT (
                        SELECT date_trunc('day', l.created_at, 'UTC') FROM {table} l
                        WHERE l.source_id = s.id AND {valued}
                          AND l.created_at >= day.start + INTERVAL '24 hours'
                          AND (l.source_id, l.created_at) >= (s.id, day.start + INTERVAL '24 hours')
                          AND (l.source_id, l.created_at) < (s.id, {until})
                          AND l.created_at < {until} AND l.created_at <= now() AND {near}
                        ORDER BY l.source_id, l.created_at LIMIT 1
                    )
                    FROM day WHERE day.start IS NOT NULL
                )
                SELECT day.start FROM day WHERE day.start IS NOT NULL
            ) AS day
            -- The source's interval on that day.
            CROSS JOIN LATERAL (
                SELECT least(COALESCE(percentile_disc(0.5) WITHIN GROUP (ORDER BY apart.length),
                    INTERVAL '5 seconds'), INTERVAL '1 hour') AS length
                FROM (
                    SELECT n.created_at - lag(n.created_at) OVER (ORDER BY n.created_at) AS length
                    FROM (
                        (
                            SELECT l.created_at, 0 AS rank, l.created_at - day.start AS distance
                            FROM {table} l
                            WHERE l.source_id = s.id AND {valued}
                              AND l.created_at >= day.start AND l.created_at <= now()
                              AND (l.source_id, l.created_at) >= (s.id, day.start)
                              AND (l.source_id, l.created_at)
                                  < (s.id, day.start + INTERVAL '24 hours')
                              AND l.created_at < day.start + INTERVAL '24 hours' AND {near}
                            ORDER BY l.source_id, l.created_at LIMIT 50
                        )
                        UNION ALL
                        (
                            SELECT l.created_at, 1, day.start - l.created_at FROM {table} l
                            WHERE l.source_id = s.id AND {valued}
                              AND l.created_at >= day.start - INTERVAL '24 hours'
                              AND (l.source_id, l.created_at)
                                  >= (s.id, day.start - INTERVAL '24 hours')
                              AND (l.source_id, l.created_at) < (s.id, day.start)
                              AND l.created_at < day.start AND {near}
                            ORDER BY l.source_id DESC, l.created_at DESC LIMIT 50
                        )
                        ORDER BY rank, distance LIMIT 50
                    ) AS n
                ) AS apart
            ) AS usual
            CROSS JOIN LATERAL (
                SELECT COALESCE({max_gap}, 3 * usual.length) AS length
            ) AS gap
            -- Only the first and the last row of each run of a day remain; they may be the same.
            CROSS JOIN LATERAL (
                SELECT e.code, e.created_at AS started_at, e.starts,
                    CASE WHEN e.ends THEN e.held_until
                        ELSE lead(e.held_until) OVER (ORDER BY e.created_at) END AS ended_at,
                    CASE WHEN e.ends THEN 1
                        ELSE lead(e.place) OVER (ORDER BY e.created_at) - e.place + 1 END AS rows
                FROM (
                    SELECT n.code, n.created_at, n.place, n.starts, n.ends,
                        CASE WHEN n.next <= n.created_at + gap.length THEN n.next
                            WHEN n.next IS NULL AND n.created_at + gap.length >= now() THEN now()
                            ELSE least(n.created_at + usual.length, n.next) END AS held_until
                    FROM (
                        SELECT l.created_at, l.{code} AS code, row_number() OVER by_time AS place,
                            (lag(l.{code}) OVER by_time = l.{code} AND lag(l.created_at) OVER by_time
                                >= l.created_at - gap.length) IS NOT TRUE AS starts,
                            (lead(l.{code}) OVER by_time = l.{code} AND lead(l.created_at) OVER by_time
                                <= l.created_at + gap.length) IS NOT TRUE AS ends,
                            COALESCE(lead(l.created_at) OVER by_time, (
                                SELECT f.created_at FROM {table} f
                                WHERE f.source_id = s.id AND {valued:f}
                                  AND f.created_at > l.created_at
                                  AND f.created_at <= l.created_at + {reach}
                                  AND (f.source_id, f.created_at) > (s.id, l.created_at)
                                  AND (f.source_id, f.created_at)
                                      <= (s.id, l.created_at + {reach})
                                  AND f.created_at <= now() AND {near:f}
                                ORDER BY f.source_id, f.created_at LIMIT 1
                            )) AS next
                        FROM {table} l
                        WHERE l.source_id = s.id AND {valued}
                          AND l.created_at >= greatest(range.first, day.start)
                          AND l.created_at < least({until}, day.start + INTERVAL '24 hours')
                          AND (l.source_id, l.created_at) >= (s.id, greatest(range.first, day.start))
                          AND (l.source_id, l.created_at)
                              < (s.id, least({until}, day.start + INTERVAL '24 hours'))
                          AND l.created_at <= now() AND {near}
                        WINDOW by_time AS (ORDER BY l.created_at)
                    ) AS n
                    WHERE n.starts OR n.ends
                ) AS e
            ) AS r
            WHERE r.starts AND greatest(r.started_at, {since}) < least(r.ended_at, {end})
        ) AS c
        WINDOW by_time AS (PARTITION BY c.source_id ORDER BY c.started_at)
    ) AS m
) AS p
GROUP BY p.source_id, p.run, p.code$query$;
    -- Excludes rows without a code, unless the column is NOT NULL.
    valued TEXT := COALESCE((
        SELECT 'true' FROM pg_attribute
        WHERE attrelid = to_regclass(quote_ident(table_name)) AND attname = code_column AND attnotnull
    ), format('l.%I IS NOT NULL', code_column));
    -- Limits planning on a hypertable to the chunks near the range.
    near TEXT := format($near$l.created_at >= %s - INTERVAL '2 days'
        AND l.created_at < least(%s, TIMESTAMPTZ '9999-12-31 00:00:00+00') + INTERVAL '2 days'$near$,
        since, until);
    replacement RECORD;
BEGIN
    FOR replacement IN
        SELECT * FROM (VALUES
            (1, '{near:f}', replace(near, 'l.', 'f.')),
            (2, '{near}', near),
            (3, '{valued:f}', replace(valued, 'l.', 'f.')),
            (4, '{valued}', valued),
            (5, '{reach}', 'greatest(INTERVAL ''3 hours'', {max_gap})'),
            (6, '{max_gap}', max_gap),
            (7, '{end}', 'least({until}, now())'),
            (8, '{since}', since),
            (9, '{until}', until),
            (10, '{sources}', source_list),
            (11, '{code}', quote_ident(code_column)),
            (12, '{table}', quote_ident(table_name))
        ) AS listed (place, token, value) ORDER BY place
    LOOP
        written := replace(written, replacement.token, replacement.value);
    END LOOP;
    RETURN written;
END;
$function$;

-- The view and the function of app_logs contain the query, so they are replaced. Those of other
-- tables that are declared already keep the old one.
DO $$
BEGIN
    IF starts_with(obj_description(to_regclass('app_status_intervals'), 'pg_class'),
        'From when to when each source had which code. A row ')
    THEN
        PERFORM receiver_make_intervals_view('app_status_intervals', 'app_logs', 'app_status',
            'error_codes', 'app_status', 'error_name');
    END IF;
    IF to_regprocedure('app_status_intervals_between(timestamptz, timestamptz, interval)') IS NOT NULL
    THEN
        PERFORM receiver_make_intervals_function('app_status_intervals_between', 'app_logs',
            'app_status', 'error_codes', 'app_status', 'error_name', (
                SELECT format_type(atttypid, atttypmod) FROM pg_attribute
                WHERE attrelid = to_regclass('app_logs') AND attname = 'app_status'));
    END IF;
END $$;
