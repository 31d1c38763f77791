-- Makes reports on the last hours, and by shift, fast too. Unfinished days are precomputed as far
-- as new rows would be late, so that triggers record them. The sums of a day are also stored for
-- each part of it between two times at which shifts start or end.

-- Unfinished days --------------------------------------------------------------------------------------

ALTER TABLE report_days ADD COLUMN upto TIMESTAMPTZ;

COMMENT ON COLUMN report_days.upto IS
    'Until when the runs of a day are kept that is not finished; NULL: the whole day.';

ALTER TABLE report_ranges
    ADD COLUMN recent_end TIMESTAMPTZ,
    ADD COLUMN recent_source INT,
    ADD COLUMN recent_planned_end TIMESTAMPTZ,
    ADD COLUMN recent_planned_at xid8;

COMMENT ON TABLE report_ranges IS
    'Which days of a table are kept in report_days, all sources of them: from first_day to before '
    'end_day, as max_gap of report_settings was. working_day is kept up to working_source. Of later '
    'days some sources are kept, up to report_days.upto.';
COMMENT ON COLUMN report_ranges.recent_end IS
    'Until when days that are not finished are being kept; they are up to recent_source, or all if '
    'that is NULL.';
COMMENT ON COLUMN report_ranges.recent_planned_at IS
    'Rows before recent_planned_end are kept once this transaction and all before it have ended.';

CREATE FUNCTION receiver_keep_part(
    target TEXT, code_column TEXT, sources INT[], day TIMESTAMPTZ, until TIMESTAMPTZ
) RETURNS VOID
LANGUAGE plpgsql
AS $function$
#variable_conflict use_variable
DECLARE
    part RECORD;
BEGIN
    FOR part IN EXECUTE format($query$
        SELECT COALESCE(d.upto, $3) AS since, array_agg(s.id) AS ids
        FROM unnest($2) AS s (id)
        LEFT JOIN report_days d ON d.table_name = %1$L AND d.code_column = %2$L
            AND d.source_id = s.id AND d.day = $3
        WHERE d.upto < $4 OR d.source_id IS NULL AND (
            -- The first 50 rows of the day determine the interval of a source. If they span at most
            -- two hours, it is shorter than five minutes, and three intervals are shorter than the
            -- 15 minutes that `receiver_keep_recent` assumes.
            SELECT count(*) = 50 AND max(f.created_at) - min(f.created_at) <= $1
            FROM (
                SELECT l.created_at FROM %1$I l
                WHERE l.source_id >= s.id AND l.source_id <= s.id AND l.%2$I IS NOT NULL
                  AND l.created_at >= $3 AND l.created_at < $4
                ORDER BY l.source_id, l.created_at LIMIT 50
            ) AS f
        )
        GROUP BY 1
    $query$, target, code_column) USING INTERVAL '2 hours', sources, day, until
    LOOP
        INSERT INTO report_days AS d (table_name, code_column, source_id, day, codes, started_at,
            ended_at, inner_codes, inner_times, inner_counts, upto)
        SELECT target, code_column, s.id, day, COALESCE(r.codes, '{}'), COALESCE(r.starts, '{}'),
            COALESCE(r.ends, '{}'), '{}', '{}', '{}', until
        FROM unnest(part.ids) AS s (id)
        LEFT JOIN (
            SELECT r.source_id, array_agg(r.code ORDER BY r.started_at) AS codes,
                array_agg(r.started_at ORDER BY r.started_at) AS starts,
                array_agg(r.ended_at ORDER BY r.started_at) AS ends
            FROM receiver_code_runs(target, code_column, part.since, until, part.ids) AS r
            GROUP BY r.source_id
        ) AS r ON r.source_id = s.id
        ON CONFLICT ON CONSTRAINT report_days_pkey DO UPDATE SET (codes, started_at, ended_at, upto) = (
            SELECT d.codes || excluded.codes[1 + j.same:],
                d.started_at || excluded.started_at[1 + j.same:],
                d.ended_at[:cardinality(d.ended_at) - j.same] || excluded.ended_at, excluded.upto
            FROM (
                -- Whether the first new run continues the last stored one.
                SELECT (d.codes[cardinality(d.codes)] = excluded.codes[1]
                    AND d.ended_at[cardinality(d.codes)] = excluded.started_at[1]) IS TRUE
            ) AS found (goes_on) CROSS JOIN LATERAL (SELECT found.goes_on::int) AS j (same)
        );
    END LOOP;
END;
$function$;

COMMENT ON FUNCTION receiver_keep_part IS
    'Keeps the runs of a day up to a time, of the sources of which no row can change them any more '
    'but one that is noted; on from where they have been kept already.';

CREATE FUNCTION receiver_keep_recent(
    target TEXT, code_columns TEXT[], gap INTERVAL, first_day TIMESTAMPTZ, most INT
) RETURNS BOOLEAN
LANGUAGE plpgsql
AS $function$
DECLARE
    a_day CONSTANT INTERVAL := '24 hours';
    -- Every new row that affects the time before this is late: rows before it, and rows after it
    -- until which earlier ones hold. It follows from now(), the start of this transaction: writers
    -- that are not waited for began to write later.
    finished CONSTANT TIMESTAMPTZ := date_bin('10 minutes',
        now() - INTERVAL '31 minutes' - greatest(INTERVAL '15 minutes', gap), '2000-01-01 00:00Z');
    range report_ranges;
    safe_end TIMESTAMPTZ;
    chosen INT[];
    part RECORD;
BEGIN
    IF first_day IS NULL THEN
        RETURN false;
    END IF;
    SELECT * INTO range FROM report_ranges r WHERE r.table_name = target;
    IF range.recent_planned_at < pg_snapshot_xmin(pg_current_snapshot()) THEN
        safe_end := range.recent_planned_end;
    END IF;
    IF range.recent_source IS NULL AND (safe_end > range.recent_end OR range.recent_end IS NULL) THEN
        range.recent_end := safe_end;
        range.recent_source := -1;
    END IF;
    IF range.recent_planned_at IS NULL OR safe_end < finished
        OR range.recent_planned_at >= pg_snapshot_xmax(pg_current_snapshot())
    THEN
        range.recent_planned_end := finished;
        range.recent_planned_at := pg_current_xact_id();
    END IF;
    IF range.recent_end IS NULL THEN
        range.recent_source := NULL;
    ELSIF range.recent_source IS NOT NULL THEN
        SELECT array_agg(s.id) INTO chosen FROM (
            SELECT s.id FROM sources s WHERE s.id > range.recent_source ORDER BY s.id LIMIT most
        ) AS s;
        FOR part IN
            SELECT g.day, c.named FROM unnest(code_columns) AS c (named), generate_series(
                greatest(first_day, date_trunc('day', range.recent_end, 'UTC') - a_day),
                range.recent_end - INTERVAL '1 microsecond', a_day) AS g (day)
            WHERE chosen IS NOT NULL
        LOOP
            PERFORM receiver_keep_part(
                target, part.named, chosen, part.day, least(part.day + a_day, range.recent_end));
        END LOOP;
        range.recent_source := chosen[most];
    END IF;
    UPDATE report_ranges r SET recent_end = range.recent_end, recent_source = range.recent_source,
        recent_planned_end = range.recent_planned_end, recent_planned_at = range.recent_planned_at
    WHERE r.table_name = target;
    RETURN range.recent_source IS NOT NULL;
END;
$function$;

COMMENT ON FUNCTION receiver_keep_recent IS
    'Keeps more of the days from first_day on, which are not finished, of at most so many sources; '
    'whether there are more sources to do.';

CREATE OR REPLACE FUNCTION receiver_keep_reports(
    target TEXT, oldest_kept TIMESTAMPTZ DEFAULT '-infinity', most INT DEFAULT 32
) RETURNS BOOLEAN
LANGUAGE plpgsql
AS $function$
DECLARE
    a_day CONSTANT INTERVAL := '24 hours';
    gap CONSTANT INTERVAL := (SELECT s.max_gap FROM report_settings s);
    code_columns CONSTANT TEXT[] := receiver_code_columns(target);
    -- Days before this are finished: new rows that affect them are late, so triggers record them.
    finished CONSTANT TIMESTAMPTZ := date_trunc('day',
        clock_timestamp() - greatest(INTERVAL '3 hours', gap) - INTERVAL '1 hour', 'UTC');
    range report_ranges;
    oldest TIMESTAMPTZ;
    earlier TIMESTAMPTZ;
    safe_end TIMESTAMPTZ;
    chosen INT[];
    changed_sources INT[];
    changed_days TIMESTAMPTZ[];
    part RECORD;
    more BOOLEAN := false;
BEGIN
    IF receiver_watches_rows(target) IS NOT TRUE OR code_columns = '{}' THEN
        PERFORM receiver_forget_days(target);
        DELETE FROM report_ranges r WHERE r.table_name = target;
        RETURN false;
    END IF;
    -- Lock the table first, as TRUNCATE does before its trigger deletes what is precomputed: the
    -- opposite order could deadlock.
    EXECUTE format('LOCK TABLE ONLY %I IN ACCESS SHARE MODE', target);
    INSERT INTO report_ranges AS r (table_name, code_columns, max_gap)
    VALUES (target, code_columns, gap) ON CONFLICT (table_name) DO NOTHING;
    SELECT * INTO range FROM report_ranges r WHERE r.table_name = target FOR UPDATE;
    IF range.max_gap IS DISTINCT FROM gap OR range.code_columns <> code_columns THEN
        PERFORM receiver_forget_days(target);
        range.max_gap := gap;
        range.code_columns := code_columns;
        range.first_day := NULL;
        range.working_day := NULL;
        range.working_source := NULL;
    END IF;

    -- Forget days whose rows have been deleted or soon will be.
    EXECUTE format('SELECT min(created_at) FROM %I', target) INTO oldest;
    earlier := CASE WHEN isfinite(oldest_kept) THEN date_trunc('day', oldest_kept, 'UTC') + a_day END;
    IF (oldest <= range.oldest) IS NOT TRUE AND range.oldest IS NOT NULL THEN
        earlier := greatest(earlier, COALESCE(date_trunc('day', oldest, 'UTC') + 3 * a_day, 'infinity'));
    END IF;
    range.oldest := oldest;
    IF range.first_day < earlier THEN
        PERFORM receiver_forget_days(target, earlier);
        range.working_day := NULL;
        range.working_source := NULL;
        range.first_day := CASE WHEN earlier < range.end_day THEN earlier END;
    END IF;

    -- A transaction in flight may have written rows before they became late. These are not
    -- recorded, and are invisible until it commits. So days before planned_end are computed only
    -- after all transactions up to planned_at have ended.
    IF range.planned_end IS NULL OR range.planned_at >= pg_snapshot_xmax(pg_current_snapshot())
        OR range.planned_end < finished AND range.end_day >= range.planned_end
    THEN
        range.planned_end := finished;
        range.planned_at := pg_current_xact_id();
        more := true;
    END IF;
    IF range.planned_at < pg_snapshot_xmin(pg_current_snapshot()) THEN
        safe_end := range.planned_end;
    END IF;
    IF range.first_day IS NULL THEN
        PERFORM receiver_forget_days(target);
        range.first_day := safe_end;
        range.end_day := safe_end;
    END IF;

    -- Changed days come first. The statements below see every change whose record is deleted here.
    SELECT array_agg(c.source_id), array_agg(c.day) INTO changed_sources, changed_days FROM (
        SELECT DISTINCT c.source_id, c.day FROM report_changes c WHERE c.table_name = target
        ORDER BY c.source_id, c.day LIMIT most
    ) AS c;
    IF changed_days IS NOT NULL THEN
        more := true;
        DELETE FROM report_changes c USING unnest(changed_sources, changed_days) AS u (source_id, day)
        WHERE c.table_name = target AND c.source_id = u.source_id AND c.day = u.day;
        DELETE FROM report_days d USING unnest(changed_sources, changed_days) AS u (source_id, day)
        WHERE d.table_name = target AND d.source_id = u.source_id AND d.day >= range.end_day
          AND d.day >= u.day - a_day AND d.day <= u.day + 2 * a_day;
        UPDATE report_ranges r SET recent_end = NULL
        WHERE r.table_name = target AND r.recent_source IS NULL;
        FOR part IN
            SELECT i.first, i.last, array_agg(i.source_id) AS sources FROM (
                SELECT d.source_id, min(d.day) AS first, max(d.day) + a_day AS last FROM (
                    SELECT d.source_id, d.day, d.day - a_day * row_number()
                        OVER (PARTITION BY d.source_id ORDER BY d.day) AS island
                    FROM (
                        SELECT DISTINCT u.source_id, u.day + n * a_day AS day
                        FROM unnest(changed_sources, changed_days) AS u (source_id, day),
                            generate_series(-1, 2) AS n
                    ) AS d
                    WHERE d.day >= least(range.first_day, range.working_day)
                      AND d.day < greatest(range.end_day, range.working_day + a_day)
                      AND EXISTS (SELECT FROM sources s WHERE s.id = d.source_id)
                ) AS d GROUP BY d.source_id, d.island
            ) AS i GROUP BY i.first, i.last
        LOOP
            PERFORM receiver_keep_days(target, code_columns, part.sources, part.first, part.last);
        END LOOP;
    ELSIF receiver_keep_recent(target, code_columns, gap,
        greatest(range.end_day, range.working_day + a_day), 4 * most)
    THEN
        -- Next are the last hours.
        more := true;
    ELSIF safe_end IS NOT NULL THEN
        -- Next are newly finished days, then earlier days, the newest first.
        IF range.working_day IS NULL AND range.end_day < safe_end THEN
            range.working_day := range.end_day;
        ELSIF range.working_day IS NULL THEN
            EXECUTE format('SELECT max(created_at) FROM %I WHERE created_at < $1', target)
                INTO earlier USING range.first_day;
            -- The last row of a day may hold into the next one, so begin with the day after it.
            IF earlier IS NOT NULL THEN
                earlier := least(date_trunc('day', earlier, 'UTC') + a_day, range.first_day - a_day);
                range.working_day := CASE WHEN earlier > oldest_kept THEN earlier END;
            END IF;
        END IF;
        more := range.working_day IS NOT NULL;
        IF more AND range.working_source IS NULL THEN
            DELETE FROM report_days d
            WHERE d.table_name = target AND d.day = range.working_day AND d.upto IS NULL;
        END IF;
        IF more THEN
            EXECUTE format($query$
                SELECT array_agg(found.id) FROM (
                    SELECT s.id FROM sources s CROSS JOIN LATERAL (
                        SELECT FROM %I l
                        WHERE l.source_id >= s.id AND l.source_id <= s.id
                          AND l.created_at >= $2 - INTERVAL '24 hours'
                          AND l.created_at < $2 + INTERVAL '24 hours'
                        ORDER BY l.source_id, l.created_at LIMIT 1
                    ) AS seen
                    WHERE s.id > $1 ORDER BY s.id LIMIT $3
                ) AS found
            $query$, target) INTO chosen
            USING COALESCE(range.working_source, -1), range.working_day, most;
            IF chosen IS NOT NULL THEN
                PERFORM receiver_keep_days(
                    target, code_columns, chosen, range.working_day, range.working_day + a_day);
            END IF;
            range.working_source := chosen[cardinality(chosen)];
            IF (cardinality(chosen) = most) IS NOT TRUE THEN
                DELETE FROM report_days d WHERE d.table_name = target AND d.day = range.working_day
                  AND d.upto IS NOT NULL;
                range.first_day := least(range.first_day, range.working_day);
                range.end_day := greatest(range.end_day, range.working_day + a_day);
                range.working_day := NULL;
                range.working_source := NULL;
            END IF;
        END IF;
    END IF;
    IF (
        SELECT sum(receiver_add_up_days(target, named, 8 * most)) FROM unnest(code_columns) AS named
    ) > 0 THEN
        more := true;
    END IF;

    IF gap IS DISTINCT FROM (SELECT s.max_gap FROM report_settings s) THEN
        RAISE EXCEPTION USING ERRCODE = 'serialization_failure', MESSAGE =
            'max_gap of report_settings was changed meanwhile';
    END IF;
    UPDATE report_ranges r SET code_columns = range.code_columns, max_gap = range.max_gap,
        first_day = range.first_day, end_day = range.end_day, working_day = range.working_day,
        working_source = range.working_source, oldest = range.oldest,
        planned_end = range.planned_end, planned_at = range.planned_at
    WHERE r.table_name = target;
    RETURN more;
END;
$function$;

-- Reading unfinished days ------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION receiver_known_runs(
    target TEXT, code_column TEXT, since TIMESTAMPTZ, until TIMESTAMPTZ, sources INT[],
    max_gap INTERVAL DEFAULT NULL
) RETURNS TABLE (source_id INT, code INT, started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ)
LANGUAGE plpgsql STABLE
AS $function$
DECLARE
    a_day CONSTANT INTERVAL := '24 hours';
    kept RECORD;
    first TIMESTAMPTZ;
    last TIMESTAMPTZ;
    rest TIMESTAMPTZ;
BEGIN
    SELECT k.first_day, k.end_day INTO kept
    FROM receiver_kept_range(target, receiver_known_runs.code_column,
        CASE WHEN receiver_known_runs.max_gap IS NULL THEN (SELECT s.max_gap FROM report_settings s)
            ELSE least(receiver_known_runs.max_gap, a_day) END) AS k;
    IF (kept.first_day < until AND since < until) IS NOT TRUE THEN
        RETURN QUERY SELECT r.source_id, r.code, r.started_at, r.ended_at FROM receiver_code_runs(
            target, receiver_known_runs.code_column, since, until, sources,
            receiver_known_runs.max_gap) AS r;
        RETURN;
    END IF;
    first := greatest(kept.first_day, date_trunc('day', since, 'UTC'));
    last := least(kept.end_day, date_trunc('day', until, 'UTC') + a_day);
    -- From here on, each source is precomputed up to a different time.
    rest := greatest(kept.end_day, since);
    RETURN QUERY
    WITH changed AS MATERIALIZED (
        SELECT c.source_id, c.day
        FROM receiver_changed_days(target, first, date_trunc('day', until, 'UTC') + a_day) AS c
        WHERE c.source_id = ANY (sources)
    ), recent AS MATERIALIZED (
        SELECT d.source_id, greatest(d.day, since) AS starts,
            least(COALESCE(d.upto, d.day + a_day), until) AS ends, d.codes, d.started_at, d.ended_at
        FROM report_days d
        WHERE d.table_name = target AND d.code_column = receiver_known_runs.code_column
          AND d.source_id = ANY (sources) AND d.day >= greatest(first, kept.end_day) AND d.day < until
          AND COALESCE(d.upto, d.day + a_day) > since
          AND (d.source_id, d.day) NOT IN (SELECT c.source_id, c.day FROM changed c)
    ), range AS (
        -- Ranges and sources whose runs are computed from the rows.
        SELECT since AS starts, first AS ends, sources AS ids WHERE since < first
        UNION ALL
        SELECT greatest(i.starts, since), least(i.ends, until), array_agg(i.source_id) FROM (
            SELECT d.source_id, min(d.day) AS starts, max(d.day) + a_day AS ends FROM (
                SELECT c.*, c.day - a_day * row_number()
                    OVER (PARTITION BY c.source_id ORDER BY c.day) AS island
                FROM changed c WHERE c.day < last
            ) AS d GROUP BY d.source_id, d.island
        ) AS i GROUP BY i.starts, i.ends
        UNION ALL
        SELECT g.starts, g.ends, array_agg(g.source_id) FROM (
            SELECT r.source_id, lag(r.ends, 1, rest) OVER (PARTITION BY r.source_id ORDER BY r.starts)
                AS starts, r.starts AS ends FROM recent r
            UNION ALL
            SELECT s.id, COALESCE(max(r.ends), rest), until
            FROM unnest(sources) AS s (id) LEFT JOIN recent r ON r.source_id = s.id GROUP BY s.id
        ) AS g WHERE g.starts < g.ends GROUP BY g.starts, g.ends
    ), run AS (
        SELECT r.source_id, r.code, r.started_at, r.ended_at,
            r.started_at = range.starts OR r.ended_at = range.ends AS at_edge
        FROM range CROSS JOIN LATERAL receiver_code_runs(target,
            receiver_known_runs.code_column, range.starts, range.ends, range.ids,
            receiver_known_runs.max_gap) AS r
        UNION ALL
        SELECT d.source_id, r.code, greatest(r.started_at, d.starts), least(r.ended_at, d.ends),
            r.started_at <= d.starts OR r.ended_at >= d.ends
        FROM recent d
        CROSS JOIN LATERAL unnest(d.codes, d.started_at, d.ended_at) AS r (code, started_at, ended_at)
        WHERE r.started_at < d.ends AND r.ended_at > d.starts
        UNION ALL
        SELECT d.source_id, r.code, greatest(r.started_at, since), least(r.ended_at, until),
            r.started_at = d.day OR r.ended_at = d.day + a_day
        FROM report_days d
        CROSS JOIN LATERAL unnest(d.codes, d.started_at, d.ended_at) AS r (code, started_at, ended_at)
        WHERE d.table_name = target AND d.code_column = receiver_known_runs.code_column
          AND d.source_id = ANY (sources) AND d.day >= first AND d.day < last
          AND (d.source_id, d.day) NOT IN (SELECT c.source_id, c.day FROM changed c)
          AND r.started_at < until AND r.ended_at > since
    )
    SELECT r.source_id, r.code, r.started_at, r.ended_at FROM run r WHERE NOT r.at_edge
    UNION ALL
    SELECT j.source_id, j.code, min(j.started_at), max(j.ended_at) FROM (
        SELECT n.*, count(*) FILTER (WHERE n.begins)
            OVER (PARTITION BY n.source_id ORDER BY n.started_at) AS run
        FROM (
            SELECT r.*, (lag(r.code) OVER by_time = r.code
                AND lag(r.ended_at) OVER by_time = r.started_at) IS NOT TRUE AS begins
            FROM run r WHERE r.at_edge
            WINDOW by_time AS (PARTITION BY r.source_id ORDER BY r.started_at)
        ) AS n
    ) AS j GROUP BY j.source_id, j.run, j.code;
END;
$function$;

-- Parts of days ----------------------------------------------------------------------------------------

ALTER TABLE report_days
    ADD COLUMN part_up INTERVAL[],
    ADD COLUMN part_down INTERVAL[],
    ADD COLUMN part_planned INTERVAL[],
    ADD COLUMN part_failures INT[],
    ADD COLUMN part_micro_stops INT[],
    ADD COLUMN part_micro_stop_time INTERVAL[];

COMMENT ON COLUMN report_days.part_up IS
    'By parts of the day as of receiver_day_parts, as are the next ones; failures where they begin.';

CREATE FUNCTION receiver_day_parts(first_day TIMESTAMPTZ, end_day TIMESTAMPTZ) RETURNS TABLE (
    day TIMESTAMPTZ, part INT, starts TIMESTAMPTZ, ends TIMESTAMPTZ
)
LANGUAGE sql STABLE
AS $function$
    WITH border AS (
        SELECT g.at FROM generate_series(first_day, end_day, INTERVAL '24 hours') AS g (at)
        UNION
        SELECT (d.day + c.clock) AT TIME ZONE z.time_zone
        FROM report_settings z
        CROSS JOIN (SELECT s.starts FROM report_shifts s UNION SELECT s.ends FROM report_shifts s)
            AS c (clock)
        CROSS JOIN generate_series(date_trunc('day', first_day AT TIME ZONE z.time_zone)
            - INTERVAL '1 day', end_day AT TIME ZONE z.time_zone, INTERVAL '1 day') AS d (day)
    ), piece AS (
        SELECT date_trunc('day', b.at, 'UTC') AS day, b.at AS starts, lead(b.at) OVER (ORDER BY b.at) AS ends
        FROM border b WHERE b.at >= first_day AND b.at <= end_day
    )
    SELECT p.day, (row_number() OVER (PARTITION BY p.day ORDER BY p.starts))::int, p.starts, p.ends
    FROM piece p WHERE p.ends IS NOT NULL;
$function$;

COMMENT ON FUNCTION receiver_day_parts IS
    'The parts of days of UTC between the times of the clock at which shifts start or end, on '
    'whatever days they take place.';

CREATE OR REPLACE FUNCTION receiver_report_basis(code_table TEXT) RETURNS BIGINT
LANGUAGE sql STABLE
AS $function$
    SELECT hashtextextended(concat_ws(' ', EXTRACT(EPOCH FROM s.micro_stop), (
        SELECT string_agg(c.code || c.class, ' ' ORDER BY c.code) FROM code_classes c
        WHERE c.code_table = receiver_report_basis.code_table
    ), s.time_zone, (
        SELECT string_agg(concat_ws(' ', r.starts, r.ends), ' ' ORDER BY r.starts, r.ends)
        FROM report_shifts r
    )), 0)
    FROM report_settings s;
$function$;

COMMENT ON FUNCTION receiver_report_basis IS
    'A number that is another one whenever classes of codes, the length of a micro-stop or the times '
    'of shifts are others.';

CREATE OR REPLACE FUNCTION receiver_add_up_days(target TEXT, code_column TEXT, most INT) RETURNS BIGINT
LANGUAGE plpgsql
AS $function$
DECLARE
    changed BIGINT;
BEGIN
    WITH rule AS MATERIALIZED (
        SELECT c.code_table, receiver_report_basis(c.code_table) AS basis, s.micro_stop
        FROM report_settings s, receiver_code_column(target, receiver_add_up_days.code_column) AS c
    ), chosen AS MATERIALIZED (
        SELECT d.* FROM report_days d, rule
        WHERE d.table_name = target AND d.code_column = receiver_add_up_days.code_column
          AND d.upto IS NULL AND (d.basis IS NULL OR d.basis < rule.basis OR d.basis > rule.basis)
        LIMIT most
    ), run AS MATERIALIZED (
        SELECT d.source_id, d.day, r.started_at, r.ended_at, r.ended_at - r.started_at AS length,
            COALESCE(c.class, CASE r.code WHEN 0 THEN 'ok' ELSE 'failure' END) AS class
        FROM chosen d
        CROSS JOIN rule
        CROSS JOIN LATERAL unnest(d.codes, d.started_at, d.ended_at) AS r (code, started_at, ended_at)
        LEFT JOIN code_classes c ON c.code_table = rule.code_table AND c.code = r.code
    ), part AS MATERIALIZED (
        SELECT p.* FROM (SELECT min(c.day) AS first, max(c.day) AS last FROM chosen c) AS c
        CROSS JOIN LATERAL receiver_day_parts(c.first, c.last + INTERVAL '24 hours') AS p
        WHERE p.day IN (SELECT c.day FROM chosen c)
    ), times AS (
        SELECT r.source_id, r.day, sum(r.length) FILTER (WHERE r.class = 'ok') AS up,
            sum(r.length) FILTER (WHERE r.class = 'failure') AS down,
            sum(r.length) FILTER (WHERE r.class = 'planned') AS planned
        FROM run r GROUP BY r.source_id, r.day
    ), stop AS (
        SELECT s.source_id, s.day, min(s.started_at) AS started_at, max(s.ended_at) AS ended_at,
            max(s.ended_at) - min(s.started_at) AS length,
            min(s.started_at) > s.day AND max(s.ended_at) < s.day + INTERVAL '24 hours' AS is_inner
        FROM (
            SELECT b.*, count(*) FILTER (WHERE b.begins)
                OVER (PARTITION BY b.source_id, b.day ORDER BY b.started_at) AS stop
            FROM (
                SELECT r.*, lag(r.ended_at) OVER (PARTITION BY r.source_id, r.day ORDER BY r.started_at)
                    IS DISTINCT FROM r.started_at AS begins
                FROM run r WHERE r.class = 'failure'
            ) AS b
        ) AS s
        GROUP BY s.source_id, s.day, s.stop
    ), stops AS (
        SELECT s.source_id, s.day, count(*) FILTER (WHERE s.is_inner) AS failures,
            count(*) FILTER (WHERE s.is_inner AND s.length < rule.micro_stop) AS micro_stops,
            sum(s.length) FILTER (WHERE s.is_inner AND s.length < rule.micro_stop) AS micro_stop_time,
            max(s.ended_at) FILTER (WHERE s.started_at = s.day) AS down_until,
            min(s.started_at) FILTER (WHERE s.ended_at = s.day + INTERVAL '24 hours') AS down_from
        FROM stop s CROSS JOIN rule GROUP BY s.source_id, s.day
    ), part_times AS (
        SELECT r.source_id, r.day, p.part, sum(t.length) FILTER (WHERE r.class = 'ok') AS up,
            sum(t.length) FILTER (WHERE r.class = 'failure') AS down,
            sum(t.length) FILTER (WHERE r.class = 'planned') AS planned
        FROM run r
        JOIN part p ON p.day = r.day AND p.starts < r.ended_at AND p.ends > r.started_at
        CROSS JOIN LATERAL (
            SELECT least(r.ended_at, p.ends) - greatest(r.started_at, p.starts) AS length
        ) AS t
        GROUP BY r.source_id, r.day, p.part
    ), part_stops AS (
        SELECT s.source_id, s.day, p.part, count(*)::int AS failures,
            (count(*) FILTER (WHERE s.length < rule.micro_stop))::int AS micro_stops,
            sum(s.length) FILTER (WHERE s.length < rule.micro_stop) AS micro_stop_time
        FROM stop s CROSS JOIN rule
        JOIN part p ON p.day = s.day AND p.starts <= s.started_at AND p.ends > s.started_at
        WHERE s.is_inner
        GROUP BY s.source_id, s.day, p.part
    ), parts AS (
        SELECT c.source_id, c.day, array_agg(COALESCE(t.up, '0') ORDER BY p.part) AS up,
            array_agg(COALESCE(t.down, '0') ORDER BY p.part) AS down,
            array_agg(COALESCE(t.planned, '0') ORDER BY p.part) AS planned,
            array_agg(COALESCE(s.failures, 0) ORDER BY p.part) AS failures,
            array_agg(COALESCE(s.micro_stops, 0) ORDER BY p.part) AS micro_stops,
            array_agg(COALESCE(s.micro_stop_time, '0') ORDER BY p.part) AS micro_stop_time
        FROM chosen c JOIN part p USING (day)
        LEFT JOIN part_times t USING (source_id, day, part)
        LEFT JOIN part_stops s USING (source_id, day, part)
        GROUP BY c.source_id, c.day
    )
    UPDATE report_days d SET basis = rule.basis, up = COALESCE(t.up, '0'),
        down = COALESCE(t.down, '0'), planned = COALESCE(t.planned, '0'),
        failures = COALESCE(s.failures, 0), micro_stops = COALESCE(s.micro_stops, 0),
        micro_stop_time = COALESCE(s.micro_stop_time, '0'), down_until = s.down_until,
        down_from = s.down_from, part_up = p.up, part_down = p.down, part_planned = p.planned,
        part_failures = p.failures, part_micro_stops = p.micro_stops,
        part_micro_stop_time = p.micro_stop_time
    FROM rule, times t JOIN parts p USING (source_id, day) LEFT JOIN stops s USING (source_id, day)
    WHERE d.table_name = target AND d.code_column = receiver_add_up_days.code_column
      AND d.source_id = t.source_id AND d.day = t.day;
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END;
$function$;

DROP FUNCTION receiver_ready_days(TEXT, TEXT, TIMESTAMPTZ, TIMESTAMPTZ, INT[]);

CREATE FUNCTION receiver_ready_days(
    target TEXT, code_column TEXT, since TIMESTAMPTZ, until TIMESTAMPTZ, sources INT[],
    with_parts BOOLEAN DEFAULT false
) RETURNS TABLE (
    source_id INT, day TIMESTAMPTZ, first_code INT, first_end TIMESTAMPTZ, last_code INT,
    last_start TIMESTAMPTZ, inner_codes INT[], inner_times INTERVAL[], inner_counts INT[], up INTERVAL,
    down INTERVAL, planned INTERVAL, failures INT, micro_stops INT, micro_stop_time INTERVAL,
    down_until TIMESTAMPTZ, down_from TIMESTAMPTZ, part_up INTERVAL[], part_down INTERVAL[],
    part_planned INTERVAL[], part_failures INT[], part_micro_stops INT[], part_micro_stop_time INTERVAL[]
)
LANGUAGE plpgsql STABLE
AS $function$
DECLARE
    a_day CONSTANT INTERVAL := '24 hours';
    wanted_basis BIGINT;
    first TIMESTAMPTZ;
    last TIMESTAMPTZ;
BEGIN
    SELECT greatest(k.first_day, date_trunc('day', since - INTERVAL '1 microsecond', 'UTC') + a_day),
        least(k.end_day, date_trunc('day', until, 'UTC')) INTO first, last
    FROM receiver_kept_range(target, receiver_ready_days.code_column,
        (SELECT s.max_gap FROM report_settings s)) AS k
    WHERE k.first_day IS NOT NULL;
    IF (first < last) IS NOT TRUE THEN
        RETURN;
    END IF;
    wanted_basis := receiver_report_basis(
        (receiver_code_column(target, receiver_ready_days.code_column)).code_table);
    RETURN QUERY
    WITH other AS MATERIALIZED (
        SELECT c.source_id, c.day FROM receiver_changed_days(target, first, last) AS c
        UNION ALL
        SELECT s.id, g.day FROM planned_stops p
        JOIN sources s ON s.id = ANY (receiver_ready_days.sources) AND s.labels @> p.labels
            AND (p.source_id IS NULL OR p.source_id = s.id)
        CROSS JOIN LATERAL generate_series(
            date_trunc('day', greatest(p.started_at, first), 'UTC'),
            least(p.ended_at, last) - INTERVAL '1 microsecond', a_day) AS g (day)
        WHERE p.started_at < last AND p.ended_at > first
    )
    SELECT s.id, g.day, CASE WHEN d.started_at[1] = g.day THEN d.codes[1] END, d.ended_at[1],
        CASE WHEN d.ended_at[cardinality(d.codes)] = g.day + a_day
            THEN d.codes[cardinality(d.codes)] END, d.started_at[cardinality(d.codes)],
        d.inner_codes, d.inner_times, d.inner_counts, d.up, d.down, d.planned, d.failures,
        d.micro_stops, d.micro_stop_time, d.down_until, d.down_from,
        CASE WHEN with_parts THEN d.part_up END, CASE WHEN with_parts THEN d.part_down END,
        CASE WHEN with_parts THEN d.part_planned END, CASE WHEN with_parts THEN d.part_failures END,
        CASE WHEN with_parts THEN d.part_micro_stops END,
        CASE WHEN with_parts THEN d.part_micro_stop_time END
    FROM unnest(receiver_ready_days.sources) AS s (id)
    CROSS JOIN generate_series(first, last - a_day, a_day) AS g (day)
    LEFT JOIN report_days d ON d.table_name = target
        AND d.code_column = receiver_ready_days.code_column AND d.source_id = s.id AND d.day = g.day
    WHERE (d.source_id IS NULL OR d.basis = wanted_basis)
      AND (s.id, g.day) NOT IN (SELECT o.source_id, o.day FROM other o);
END;
$function$;

COMMENT ON FUNCTION receiver_ready_days IS
    'The whole days of UTC within a range of which what is kept counts and no planned stop changes '
    'anything; NULLs for a day without runs. first_code goes on from the midnight at which the day '
    'begins until first_end, last_code from last_start until the midnight at which it ends.';

CREATE OR REPLACE FUNCTION receiver_figures(
    table_name TEXT, span_names TEXT[], span_starts TIMESTAMPTZ[], span_ends TIMESTAMPTZ[],
    sources INT[], code_column TEXT DEFAULT NULL
) RETURNS TABLE (
    span INT, source_id INT, up INTERVAL, down INTERVAL, planned INTERVAL, unknown INTERVAL,
    failures BIGINT, micro_stops BIGINT, micro_stop_time INTERVAL
)
LANGUAGE sql STABLE
AS $function$
    WITH spans AS (
        SELECT s.n::int AS n, s.name, s.starts, s.ends
        FROM unnest(span_names, span_starts, span_ends) WITH ORDINALITY AS s (name, starts, ends, n)
    ), names AS (
        -- Spans of the same name do not overlap, so a time can be looked up in their sorted starts.
        SELECT array_agg(s.starts ORDER BY s.starts) AS starts,
            array_agg(s.n ORDER BY s.starts) AS numbers
        FROM spans s GROUP BY s.name
    ), whole AS (
        SELECT min(s.starts) AS starts, max(s.ends) AS ends, max(r.micro_stop) AS micro_stop,
            max((receiver_code_column(table_name, receiver_figures.code_column)).code_column)
                AS code_column
        FROM spans s CROSS JOIN report_settings r
    ), ready AS MATERIALIZED (
        SELECT d.* FROM whole w CROSS JOIN LATERAL receiver_ready_days(
            table_name, w.code_column, w.starts, w.ends, sources, cardinality(span_starts) > 1) AS d
    ), part AS MATERIALIZED (
        -- Several spans are shifts. Within the range, they start and end where parts do.
        SELECT p.day, p.part, p.ends - p.starts AS length, s.n
        FROM (SELECT min(r.day) AS first, max(r.day) AS last FROM ready r) AS r
        CROSS JOIN LATERAL receiver_day_parts(r.first, r.last + INTERVAL '24 hours') AS p
        JOIN spans s ON s.starts <= p.starts AND s.ends >= p.ends
        WHERE cardinality(span_starts) > 1
    ), moments AS MATERIALIZED (
        -- Begins a microsecond earlier, to see whether a failure had already begun, and ends later
        -- by the length of a micro-stop, to tell micro-stops from longer failures.
        SELECT i.source_id, i.state, i.started_at, i.ended_at
        FROM whole w CROSS JOIN LATERAL receiver_other_states(
            table_name, w.starts - INTERVAL '1 microsecond', w.ends + w.micro_stop, sources,
            receiver_figures.code_column, ARRAY(SELECT r.source_id FROM ready r ORDER BY r.source_id, r.day),
            ARRAY(SELECT r.day FROM ready r ORDER BY r.source_id, r.day)
        ) AS i
    ), times AS (
        SELECT m.source_id, s.n,
            sum(t.length) FILTER (WHERE m.state = 'up') AS up,
            sum(t.length) FILTER (WHERE m.state = 'down') AS down,
            sum(t.length) FILTER (WHERE m.state = 'planned') AS planned,
            sum(t.length) FILTER (WHERE m.state = 'unknown') AS unknown
        FROM moments m
        CROSS JOIN names
        CROSS JOIN LATERAL generate_series(
            greatest(width_bucket(m.started_at, names.starts), 1),
            width_bucket(m.ended_at, names.starts)
        ) AS place
        JOIN spans s ON s.n = names.numbers[place]
        CROSS JOIN LATERAL (
            SELECT least(m.ended_at, s.ends) - greatest(m.started_at, s.starts) AS length
        ) AS t
        WHERE t.length > '0'
        GROUP BY 1, 2
        UNION ALL
        SELECT r.source_id, 1, sum(r.up), sum(r.down), sum(r.planned),
            sum(INTERVAL '24 hours' - COALESCE(r.up + r.down + r.planned, '0'))
        FROM ready r WHERE cardinality(span_starts) = 1 GROUP BY 1
        UNION ALL
        SELECT r.source_id, p.n, sum(r.part_up[p.part]), sum(r.part_down[p.part]),
            sum(r.part_planned[p.part]), sum(p.length - COALESCE(
                r.part_up[p.part] + r.part_down[p.part] + r.part_planned[p.part], '0'))
        FROM ready r JOIN part p USING (day) GROUP BY 1, 2
    ), pieces AS (
        SELECT m.source_id, m.started_at, m.ended_at FROM moments m WHERE m.state = 'down'
        UNION ALL
        SELECT r.source_id, r.day, r.down_until FROM ready r WHERE r.down_until IS NOT NULL
        UNION ALL
        SELECT r.source_id, r.down_from, r.day + INTERVAL '24 hours' FROM ready r
        WHERE r.down_from > r.day
    ), stops AS (
        -- Maximal stretches of down time, whatever their codes.
        SELECT d.source_id, min(d.started_at) AS started_at, max(d.ended_at) - min(d.started_at) AS length
        FROM (
            SELECT b.*, count(*) FILTER (WHERE b.begins)
                OVER (PARTITION BY b.source_id ORDER BY b.started_at) AS stop
            FROM (
                SELECT p.*, lag(p.ended_at) OVER (PARTITION BY p.source_id ORDER BY p.started_at)
                    IS DISTINCT FROM p.started_at AS begins
                FROM pieces p
            ) AS b
        ) AS d
        GROUP BY d.source_id, d.stop
    ), counts AS (
        SELECT p.source_id, s.n, count(*) AS failures,
            count(*) FILTER (WHERE p.length < w.micro_stop) AS micro_stops,
            sum(p.length) FILTER (WHERE p.length < w.micro_stop) AS micro_stop_time
        FROM stops p CROSS JOIN whole w CROSS JOIN names
        JOIN spans s ON s.n = names.numbers[width_bucket(p.started_at, names.starts)]
            AND p.started_at < s.ends
        GROUP BY 1, 2
        UNION ALL
        SELECT r.source_id, 1, sum(r.failures), sum(r.micro_stops), sum(r.micro_stop_time)
        FROM ready r WHERE cardinality(span_starts) = 1 GROUP BY 1
        UNION ALL
        SELECT r.source_id, p.n, sum(r.part_failures[p.part]), sum(r.part_micro_stops[p.part]),
            sum(r.part_micro_stop_time[p.part])
        FROM ready r JOIN part p USING (day) GROUP BY 1, 2
    )
    SELECT t.n, t.source_id, justify_hours(COALESCE(t.up, '0')), justify_hours(COALESCE(t.down, '0')),
        justify_hours(COALESCE(t.planned, '0')), justify_hours(COALESCE(t.unknown, '0')),
        COALESCE(c.failures, 0), COALESCE(c.micro_stops, 0),
        justify_hours(COALESCE(c.micro_stop_time, '0'))
    FROM (
        SELECT t.source_id, t.n, sum(t.up) AS up, sum(t.down) AS down, sum(t.planned) AS planned,
            sum(t.unknown) AS unknown
        FROM times t GROUP BY t.source_id, t.n
    ) AS t
    LEFT JOIN (
        SELECT c.source_id, c.n, sum(c.failures)::bigint AS failures,
            sum(c.micro_stops)::bigint AS micro_stops, sum(c.micro_stop_time) AS micro_stop_time
        FROM counts c GROUP BY c.source_id, c.n
    ) AS c USING (source_id, n);
$function$;

-- JIT compilation of such large statements takes seconds; running them does not.
ALTER FUNCTION receiver_code_runs(TEXT, TEXT, TIMESTAMPTZ, TIMESTAMPTZ, INT[], INTERVAL) SET jit = off;
ALTER FUNCTION receiver_known_runs(TEXT, TEXT, TIMESTAMPTZ, TIMESTAMPTZ, INT[], INTERVAL) SET jit = off;
ALTER FUNCTION state_intervals(TEXT, TIMESTAMPTZ, TIMESTAMPTZ, INT[], INTERVAL, TEXT) SET jit = off;
ALTER FUNCTION receiver_keep_reports(TEXT, TIMESTAMPTZ, INT) SET jit = off;
