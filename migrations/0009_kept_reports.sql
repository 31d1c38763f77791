-- Reports are precomputed by source and UTC day: the runs of codes, and their sums.
-- `receiver_code_runs` remains the definition: a precomputed day is what it returns for that day.
--
-- Days are precomputed some hours after they end. If a row is written or changed late, or is
-- deleted, triggers record this in the same transaction. From its commit on, what is precomputed
-- for the days around the row is not used. `receiver_keep_reports` recomputes these days.

CREATE TABLE report_days (
    table_name TEXT NOT NULL,
    code_column TEXT NOT NULL,
    source_id INT NOT NULL REFERENCES sources (id) ON DELETE CASCADE,
    day TIMESTAMPTZ NOT NULL,
    -- The runs of the day in order of time, cut at midnight.
    codes INT[] NOT NULL,
    started_at TIMESTAMPTZ[] NOT NULL,
    ended_at TIMESTAMPTZ[] NOT NULL,
    -- Sums by code of the runs that neither begin nor end at midnight.
    inner_codes INT[] NOT NULL,
    inner_times INTERVAL[] NOT NULL,
    inner_counts INT[] NOT NULL,
    -- Sums by class, without planned stops, for the settings that `basis` stands for (see
    -- `receiver_report_basis`). `failures` counts those that touch neither midnight. `down_until`
    -- is the end of a failure at the first midnight, `down_from` the start of one at the second.
    basis BIGINT,
    up INTERVAL,
    down INTERVAL,
    planned INTERVAL,
    failures INT,
    micro_stops INT,
    micro_stop_time INTERVAL,
    down_until TIMESTAMPTZ,
    down_from TIMESTAMPTZ,
    PRIMARY KEY (table_name, code_column, source_id, day)
);

COMMENT ON TABLE report_days IS
    'What reports are made of, by source and day of UTC; a day without runs has no row. It counts '
    'within the days of report_ranges and where report_changes has nothing around it.';

CREATE INDEX report_days_basis_idx ON report_days (table_name, code_column, basis);

CREATE TABLE report_changes (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_name TEXT NOT NULL,
    source_id INT NOT NULL,
    day TIMESTAMPTZ NOT NULL
);

CREATE INDEX report_changes_day_idx ON report_changes (table_name, source_id, day);

COMMENT ON TABLE report_changes IS
    'The days of UTC in which rows were written, changed or deleted late. Transactions only add to '
    'it, each what it has changed, so that none waits for another.';

CREATE TABLE report_ranges (
    table_name TEXT PRIMARY KEY,
    code_columns TEXT[] NOT NULL,
    max_gap INTERVAL,
    first_day TIMESTAMPTZ,
    end_day TIMESTAMPTZ,
    working_day TIMESTAMPTZ,
    working_source INT,
    oldest TIMESTAMPTZ,
    planned_end TIMESTAMPTZ,
    planned_at xid8
);

COMMENT ON TABLE report_ranges IS
    'Which days of a table are kept in report_days, all sources of them: from first_day to before '
    'end_day, as max_gap of report_settings was. working_day is kept up to working_source.';
COMMENT ON COLUMN report_ranges.planned_at IS
    'Days before planned_end are kept once this transaction and all before it have ended.';

-- Recording changes ----------------------------------------------------------------------------------

-- Run as the owner, since roles that write rows need no privileges on these tables. Use
-- clock_timestamp(), since the transaction may have begun long ago.
CREATE FUNCTION receiver_note_inserted() RETURNS TRIGGER
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    late CONSTANT TIMESTAMPTZ := clock_timestamp() - INTERVAL '30 minutes';
BEGIN
    IF EXISTS (SELECT FROM inserted WHERE created_at < late) THEN
        EXECUTE format('INSERT INTO %I.report_changes (table_name, source_id, day) '
            'SELECT DISTINCT $1, source_id, date_trunc(''day'', created_at, ''UTC'') FROM inserted '
            'WHERE created_at < $2', TG_TABLE_SCHEMA) USING TG_TABLE_NAME::text, late;
    END IF;
    RETURN NULL;
END;
$function$;

CREATE FUNCTION receiver_note_updated() RETURNS TRIGGER
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    late CONSTANT TIMESTAMPTZ := clock_timestamp() - INTERVAL '30 minutes';
BEGIN
    IF EXISTS (
        SELECT FROM before WHERE created_at < late UNION ALL SELECT FROM after WHERE created_at < late
    ) THEN
        EXECUTE format('INSERT INTO %I.report_changes (table_name, source_id, day) '
            'SELECT $1, source_id, date_trunc(''day'', created_at, ''UTC'') FROM before '
            'WHERE created_at < $2 UNION '
            'SELECT $1, source_id, date_trunc(''day'', created_at, ''UTC'') FROM after '
            'WHERE created_at < $2', TG_TABLE_SCHEMA) USING TG_TABLE_NAME::text, late;
    END IF;
    RETURN NULL;
END;
$function$;

CREATE FUNCTION receiver_note_deleted() RETURNS TRIGGER
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    EXECUTE format('INSERT INTO %I.report_changes (table_name, source_id, day) '
        'SELECT DISTINCT $1, source_id, date_trunc(''day'', created_at, ''UTC'') FROM deleted',
        TG_TABLE_SCHEMA) USING TG_TABLE_NAME::text;
    RETURN NULL;
END;
$function$;

CREATE FUNCTION receiver_note_deleted_row() RETURNS TRIGGER
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    -- One record is enough for all rows of a source and day that a transaction deletes.
    EXECUTE format('INSERT INTO %1$I.report_changes (table_name, source_id, day) '
        'SELECT $1, $2, $3 WHERE NOT EXISTS (SELECT FROM %1$I.report_changes '
        'WHERE table_name = $1 AND source_id = $2 AND day = $3 AND xmin = pg_current_xact_id()::xid)',
        TG_ARGV[0]) USING TG_ARGV[1], OLD.source_id, date_trunc('day', OLD.created_at, 'UTC');
    RETURN NULL;
END;
$function$;

CREATE FUNCTION receiver_note_truncated() RETURNS TRIGGER
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    own TEXT;
BEGIN
    FOREACH own IN ARRAY ARRAY['report_days', 'report_changes', 'report_ranges'] LOOP
        EXECUTE format('DELETE FROM %I.%I WHERE table_name = $1', TG_TABLE_SCHEMA, own)
            USING TG_TABLE_NAME::text;
    END LOOP;
    RETURN NULL;
END;
$function$;

COMMENT ON FUNCTION receiver_note_inserted() IS 'Notes the days of late rows that were inserted.';
COMMENT ON FUNCTION receiver_note_updated() IS 'Notes the days of late rows, as they were and are.';
COMMENT ON FUNCTION receiver_note_deleted() IS 'Notes the days of rows that were deleted.';
COMMENT ON FUNCTION receiver_note_deleted_row() IS 'Notes the day of a row that was deleted.';
COMMENT ON FUNCTION receiver_note_truncated() IS 'Forgets what is kept of a table.';

-- TimescaleDB cannot compress a table whose DELETE trigger has a transition table.
CREATE FUNCTION receiver_report_triggers(target TEXT) RETURNS TABLE (name TEXT, definition TEXT)
LANGUAGE sql STABLE
AS $function$
    SELECT t.name, format(t.definition, to_regclass(quote_ident(target)), c.relnamespace::regnamespace,
        target)
    FROM pg_class c CROSS JOIN (VALUES
        ('receiver_note_inserted', NULL, 'AFTER INSERT ON %1$s REFERENCING NEW TABLE AS inserted '
            'FOR EACH STATEMENT EXECUTE FUNCTION receiver_note_inserted()'),
        ('receiver_note_updated', NULL, 'AFTER UPDATE ON %1$s REFERENCING OLD TABLE AS before '
            'NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION receiver_note_updated()'),
        ('receiver_note_deleted', false, 'AFTER DELETE ON %1$s REFERENCING OLD TABLE AS deleted '
            'FOR EACH STATEMENT EXECUTE FUNCTION receiver_note_deleted()'),
        ('receiver_note_deleted_row', true, 'AFTER DELETE ON %1$s '
            'FOR EACH ROW EXECUTE FUNCTION receiver_note_deleted_row(%2$L, %3$L)'),
        ('receiver_note_truncated', NULL, 'AFTER TRUNCATE ON %1$s '
            'FOR EACH STATEMENT EXECUTE FUNCTION receiver_note_truncated()')
    ) AS t (name, by_row, definition)
    WHERE c.oid = to_regclass(quote_ident(target))
      AND (t.by_row = EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')) IS NOT FALSE;
$function$;

COMMENT ON FUNCTION receiver_report_triggers IS
    'The triggers that a table needs so that reports on it can be kept ready.';

CREATE FUNCTION receiver_watches_rows(target TEXT) RETURNS BOOLEAN
LANGUAGE sql STABLE
AS $function$
    SELECT count(*) > 0 AND bool_and(g.oid IS NOT NULL)
    FROM receiver_report_triggers(target) AS wanted
    LEFT JOIN pg_trigger g ON g.tgrelid = to_regclass(quote_ident(target)) AND g.tgname = wanted.name
        AND g.tgenabled IN ('O', 'A');
$function$;

COMMENT ON FUNCTION receiver_watches_rows IS 'Whether a table has the triggers that note late changes.';

CREATE FUNCTION receiver_watch_rows(target TEXT) RETURNS VOID
LANGUAGE plpgsql
AS $function$
DECLARE
    relation CONSTANT REGCLASS := to_regclass(quote_ident(target));
    wanted RECORD;
BEGIN
    FOR wanted IN
        SELECT tgname AS name FROM pg_trigger
        WHERE tgrelid = relation AND starts_with(tgname, 'receiver_note_')
          AND tgname NOT IN (SELECT t.name FROM receiver_report_triggers(target) AS t)
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', wanted.name, relation);
    END LOOP;
    FOR wanted IN SELECT * FROM receiver_report_triggers(target) LOOP
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_trigger WHERE tgrelid = relation AND tgname = wanted.name
        );
        EXECUTE format('CREATE TRIGGER %I %s', wanted.name, wanted.definition);
    END LOOP;
    -- ENABLE ALWAYS lets them fire while session_replication_role switches reference checks off.
    -- Hypertables do not support it, but their reference checks are never switched off.
    BEGIN
        FOR wanted IN SELECT * FROM receiver_report_triggers(target) LOOP
            EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', relation, wanted.name);
        END LOOP;
    EXCEPTION WHEN feature_not_supported THEN
        NULL;
    END;
END;
$function$;

COMMENT ON FUNCTION receiver_watch_rows IS
    'Gives a table the triggers that note late changes, so that reports on it can be kept ready.';

-- The receiver's own trigger fires even while reference checks are off, so it is no obstacle.
DO $$
DECLARE
    old TEXT := pg_get_functiondef('receiver_references_obstacle(text, jsonb)'::regprocedure);
    new TEXT := replace(old, 'tgtype & 4 <> 0 AND NOT EXISTS (',
        $new$tgtype & 4 <> 0
          AND (t.tgname, t.tgenabled) IS DISTINCT FROM ('receiver_note_inserted', 'A') AND NOT EXISTS ($new$);
BEGIN
    IF old = new THEN
        RAISE EXCEPTION 'receiver_references_obstacle is not as it was made';
    END IF;
    EXECUTE new;
END $$;

-- Precomputing days ----------------------------------------------------------------------------------

CREATE FUNCTION receiver_code_columns(target TEXT) RETURNS TEXT[]
LANGUAGE sql STABLE
AS $function$
    SELECT COALESCE(array_agg(c.key ORDER BY c.key), '{}')
    FROM receiver_tables t, jsonb_each(t.declaration -> 'tables' -> target -> 'columns') AS c
    JOIN pg_attribute a ON a.attrelid = to_regclass(quote_ident(target)) AND a.attname = c.key
    WHERE c.value ? 'codes';
$function$;

COMMENT ON FUNCTION receiver_code_columns IS 'The columns of codes of a declared table.';

CREATE FUNCTION receiver_report_basis(code_table TEXT) RETURNS BIGINT
LANGUAGE sql STABLE
AS $function$
    SELECT hashtextextended(concat_ws(' ', EXTRACT(EPOCH FROM s.micro_stop), (
        SELECT string_agg(c.code || c.class, ' ' ORDER BY c.code) FROM code_classes c
        WHERE c.code_table = receiver_report_basis.code_table
    )), 0)
    FROM report_settings s;
$function$;

COMMENT ON FUNCTION receiver_report_basis IS
    'A number that is another one whenever classes of codes or the length of a micro-stop are others.';

CREATE FUNCTION receiver_add_up_days(target TEXT, code_column TEXT, most INT) RETURNS BIGINT
LANGUAGE plpgsql
AS $function$
DECLARE
    changed BIGINT;
BEGIN
    WITH rule AS (
        SELECT c.code_table, receiver_report_basis(c.code_table) AS basis, s.micro_stop
        FROM report_settings s, receiver_code_column(target, receiver_add_up_days.code_column) AS c
    ), chosen AS MATERIALIZED (
        SELECT d.* FROM report_days d, rule
        WHERE d.table_name = target AND d.code_column = receiver_add_up_days.code_column
          AND (d.basis IS NULL OR d.basis < rule.basis OR d.basis > rule.basis)
        LIMIT most
    ), run AS MATERIALIZED (
        SELECT d.source_id, d.day, r.started_at, r.ended_at, r.ended_at - r.started_at AS length,
            COALESCE(c.class, CASE r.code WHEN 0 THEN 'ok' ELSE 'failure' END) AS class
        FROM chosen d
        CROSS JOIN rule
        CROSS JOIN LATERAL unnest(d.codes, d.started_at, d.ended_at) AS r (code, started_at, ended_at)
        LEFT JOIN code_classes c ON c.code_table = rule.code_table AND c.code = r.code
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
    )
    UPDATE report_days d SET basis = rule.basis, up = COALESCE(t.up, '0'),
        down = COALESCE(t.down, '0'), planned = COALESCE(t.planned, '0'),
        failures = COALESCE(s.failures, 0), micro_stops = COALESCE(s.micro_stops, 0),
        micro_stop_time = COALESCE(s.micro_stop_time, '0'), down_until = s.down_until,
        down_from = s.down_from
    FROM rule, times t LEFT JOIN stops s USING (source_id, day)
    WHERE d.table_name = target AND d.code_column = receiver_add_up_days.code_column
      AND d.source_id = t.source_id AND d.day = t.day;
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END;
$function$;

COMMENT ON FUNCTION receiver_add_up_days IS
    'Adds up the runs of kept days that were added up by other classes, or not yet; returns how many.';

CREATE FUNCTION receiver_keep_days(
    target TEXT, code_columns TEXT[], sources INT[], first TIMESTAMPTZ, last TIMESTAMPTZ
) RETURNS VOID
LANGUAGE plpgsql
AS $function$
DECLARE
    named TEXT;
BEGIN
    FOREACH named IN ARRAY code_columns LOOP
        DELETE FROM report_days d
        WHERE d.table_name = target AND d.code_column = named AND d.source_id = ANY (sources)
          AND d.day >= first AND d.day < last;
        INSERT INTO report_days (table_name, code_column, source_id, day, codes, started_at, ended_at,
            inner_codes, inner_times, inner_counts)
        WITH piece AS MATERIALIZED (
            SELECT r.source_id, d.day, r.code, greatest(r.started_at, d.day) AS started_at,
                least(r.ended_at, d.day + INTERVAL '24 hours') AS ended_at
            FROM receiver_code_runs(target, named, first, last, sources) AS r
            CROSS JOIN LATERAL generate_series(date_trunc('day', r.started_at, 'UTC'),
                r.ended_at - INTERVAL '1 microsecond', INTERVAL '24 hours') AS d (day)
        ), added AS (
            SELECT p.source_id, p.day, p.code, sum(p.ended_at - p.started_at) AS length,
                count(*)::int AS number
            FROM piece p WHERE p.started_at > p.day AND p.ended_at < p.day + INTERVAL '24 hours'
            GROUP BY p.source_id, p.day, p.code
        )
        SELECT target, named, p.source_id, p.day, p.codes, p.starts, p.ends,
            COALESCE(a.codes, '{}'), COALESCE(a.lengths, '{}'), COALESCE(a.numbers, '{}')
        FROM (
            SELECT p.source_id, p.day, array_agg(p.code ORDER BY p.started_at) AS codes,
                array_agg(p.started_at ORDER BY p.started_at) AS starts,
                array_agg(p.ended_at ORDER BY p.started_at) AS ends
            FROM piece p GROUP BY p.source_id, p.day
        ) AS p LEFT JOIN (
            SELECT a.source_id, a.day, array_agg(a.code ORDER BY a.code) AS codes,
                array_agg(a.length ORDER BY a.code) AS lengths,
                array_agg(a.number ORDER BY a.code) AS numbers
            FROM added a GROUP BY a.source_id, a.day
        ) AS a USING (source_id, day);
    END LOOP;
END;
$function$;

COMMENT ON FUNCTION receiver_keep_days IS 'Computes what is kept of these days of sources.';

CREATE FUNCTION receiver_forget_days(target TEXT, until TIMESTAMPTZ DEFAULT 'infinity') RETURNS VOID
LANGUAGE sql
AS $function$
    DELETE FROM report_days d WHERE d.table_name = target AND d.day < until;
$function$;

COMMENT ON FUNCTION receiver_forget_days IS 'Deletes what is kept of the days before a time.';

CREATE FUNCTION receiver_keep_reports(
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
            DELETE FROM report_days d WHERE d.table_name = target AND d.day = range.working_day;
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

COMMENT ON FUNCTION receiver_keep_reports IS
    'Keeps more of what reports on a table are made of, at most so many days of sources; whether '
    'there is more to do. One transaction a call, and one at a time.';

-- Reading precomputed days ---------------------------------------------------------------------------

CREATE FUNCTION receiver_kept_range(
    target TEXT, code_column TEXT, max_gap INTERVAL, OUT first_day TIMESTAMPTZ, OUT end_day TIMESTAMPTZ
)
LANGUAGE plpgsql STABLE
AS $function$
BEGIN
    -- Roles that may not read what is precomputed read the rows instead.
    IF has_table_privilege('report_ranges', 'SELECT') AND has_table_privilege('report_days', 'SELECT')
        AND has_table_privilege('report_changes', 'SELECT')
    THEN
        SELECT r.first_day, r.end_day INTO first_day, end_day FROM report_ranges r
        WHERE r.table_name = target AND r.code_columns @> ARRAY[receiver_kept_range.code_column]
          AND r.max_gap IS NOT DISTINCT FROM receiver_kept_range.max_gap;
    END IF;
END;
$function$;

COMMENT ON FUNCTION receiver_kept_range IS
    'From which day to before which day the runs of a code are kept; NULL if they are not.';

CREATE FUNCTION receiver_changed_days(
    target TEXT, first_day TIMESTAMPTZ, end_day TIMESTAMPTZ
) RETURNS TABLE (source_id INT, day TIMESTAMPTZ)
LANGUAGE sql STABLE
AS $function$
    -- A row affects the day before it, whose last row may hold until this one, and the two days
    -- after it: a day with few rows takes its interval from the day before, and its last row may
    -- hold into the next day.
    SELECT DISTINCT c.source_id, c.day + n * INTERVAL '24 hours' FROM report_changes c,
        generate_series(-1, 2) AS n
    WHERE c.table_name = target AND c.day >= first_day - INTERVAL '48 hours'
      AND c.day < end_day + INTERVAL '24 hours' AND c.day + n * INTERVAL '24 hours' >= first_day
      AND c.day + n * INTERVAL '24 hours' < end_day;
$function$;

COMMENT ON FUNCTION receiver_changed_days IS
    'The days of which what is kept does not count, since something has changed in or near them.';

CREATE FUNCTION receiver_known_runs(
    target TEXT, code_column TEXT, since TIMESTAMPTZ, until TIMESTAMPTZ, sources INT[],
    max_gap INTERVAL DEFAULT NULL
) RETURNS TABLE (source_id INT, code INT, started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ)
LANGUAGE plpgsql STABLE
AS $function$
DECLARE
    a_day CONSTANT INTERVAL := '24 hours';
    first TIMESTAMPTZ;
    last TIMESTAMPTZ;
BEGIN
    SELECT greatest(k.first_day, date_trunc('day', since, 'UTC')),
        least(k.end_day, date_trunc('day', until, 'UTC') + a_day) INTO first, last
    FROM receiver_kept_range(target, receiver_known_runs.code_column,
        CASE WHEN receiver_known_runs.max_gap IS NULL THEN (SELECT s.max_gap FROM report_settings s)
            ELSE least(receiver_known_runs.max_gap, a_day) END) AS k
    WHERE k.first_day IS NOT NULL;
    IF (first < last) IS NOT TRUE THEN
        RETURN QUERY SELECT r.source_id, r.code, r.started_at, r.ended_at FROM receiver_code_runs(
            target, receiver_known_runs.code_column, since, until, sources,
            receiver_known_runs.max_gap) AS r;
        RETURN;
    END IF;
    RETURN QUERY
    WITH changed AS MATERIALIZED (
        SELECT c.source_id, c.day FROM receiver_changed_days(target, first, last) AS c
        WHERE c.source_id = ANY (sources)
    ), range AS (
        -- Ranges and sources whose runs are computed from the rows.
        SELECT since AS starts, first AS ends, sources AS ids WHERE since < first
        UNION ALL
        SELECT last, until, sources WHERE last < until
        UNION ALL
        SELECT greatest(i.starts, since), least(i.ends, until), array_agg(i.source_id) FROM (
            SELECT d.source_id, min(d.day) AS starts, max(d.day) + a_day AS ends FROM (
                SELECT c.*, c.day - a_day * row_number()
                    OVER (PARTITION BY c.source_id ORDER BY c.day) AS island
                FROM changed c
            ) AS d GROUP BY d.source_id, d.island
        ) AS i GROUP BY i.starts, i.ends
    ), run AS (
        SELECT r.source_id, r.code, r.started_at, r.ended_at,
            r.started_at = range.starts OR r.ended_at = range.ends AS at_edge
        FROM range CROSS JOIN LATERAL receiver_code_runs(target,
            receiver_known_runs.code_column, range.starts, range.ends, range.ids,
            receiver_known_runs.max_gap) AS r
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

COMMENT ON FUNCTION receiver_known_runs IS
    'The same runs as of receiver_code_runs, from what is kept as far as that counts.';

DO $$
DECLARE
    old TEXT := pg_get_functiondef(
        'state_intervals(text, timestamptz, timestamptz, int[], interval, text)'::regprocedure);
    new TEXT := replace(old, 'FROM receiver_code_runs(', 'FROM receiver_known_runs(');
BEGIN
    IF old = new THEN
        RAISE EXCEPTION 'state_intervals is not as it was made';
    END IF;
    EXECUTE new;
END $$;

CREATE FUNCTION receiver_code_name(code_table TEXT, code INT) RETURNS TEXT
LANGUAGE plpgsql STABLE
AS $function$
DECLARE
    found TEXT;
BEGIN
    EXECUTE format('SELECT name::text FROM %I WHERE code = $1', code_table) INTO found USING code;
    RETURN found;
END;
$function$;

COMMENT ON FUNCTION receiver_code_name IS 'The name of a code.';

CREATE FUNCTION receiver_ready_days(
    target TEXT, code_column TEXT, since TIMESTAMPTZ, until TIMESTAMPTZ, sources INT[]
) RETURNS TABLE (
    source_id INT, day TIMESTAMPTZ, first_code INT, first_end TIMESTAMPTZ, last_code INT,
    last_start TIMESTAMPTZ, inner_codes INT[], inner_times INTERVAL[], inner_counts INT[], up INTERVAL,
    down INTERVAL, planned INTERVAL, failures INT, micro_stops INT, micro_stop_time INTERVAL,
    down_until TIMESTAMPTZ, down_from TIMESTAMPTZ
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
        d.micro_stops, d.micro_stop_time, d.down_until, d.down_from
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

CREATE FUNCTION receiver_other_states(
    target TEXT, since TIMESTAMPTZ, until TIMESTAMPTZ, sources INT[], code_column TEXT,
    ready_sources INT[], ready_days TIMESTAMPTZ[]
) RETURNS TABLE (
    source_id INT, state TEXT, code INT, code_name TEXT, started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ
)
LANGUAGE sql STABLE
AS $function$
    WITH ready AS (
        SELECT * FROM unnest(ready_sources, ready_days) AS r (source_id, day)
    ), gap AS (
        SELECT r.source_id, lag(r.day + INTERVAL '24 hours', 1, since)
            OVER (PARTITION BY r.source_id ORDER BY r.day) AS starts, r.day AS ends
        FROM ready r
        UNION ALL
        SELECT s.id, COALESCE(max(r.day) + INTERVAL '24 hours', since), until
        FROM unnest(sources) AS s (id) LEFT JOIN ready r ON r.source_id = s.id GROUP BY s.id
    ), range AS (
        SELECT g.starts, g.ends, array_agg(g.source_id) AS sources FROM gap g
        WHERE g.starts < g.ends GROUP BY g.starts, g.ends
    )
    SELECT i.source_id, i.state, i.code, i.code_name, i.started_at, i.ended_at
    FROM range r CROSS JOIN LATERAL state_intervals(target, r.starts, r.ends, r.sources,
        code_column => receiver_other_states.code_column) AS i;
$function$;

COMMENT ON FUNCTION receiver_other_states IS
    'The states of sources from since to before until, but for these days of UTC of theirs.';

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
        -- Only for a single span: several spans are shifts, which last at most a day.
        SELECT d.* FROM whole w CROSS JOIN LATERAL receiver_ready_days(
            table_name, w.code_column, w.starts, w.ends, sources) AS d
        WHERE cardinality(span_starts) = 1
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
        FROM ready r GROUP BY 1
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
        FROM ready r GROUP BY 1
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

-- Convert every 24 hours of a sum to a day, so that figures look the same whether they are summed
-- from rows or from precomputed days.
DO $$
DECLARE
    old TEXT := pg_get_functiondef('report(text, timestamptz, timestamptz, text, int[], text)'::regprocedure);
    new TEXT := regexp_replace(old, 'sum\((g\.(up|down|planned|unknown|micro_stop_time))\)',
        'justify_hours(sum(\1))', 'g');
BEGIN
    IF old = new THEN
        RAISE EXCEPTION 'report is not as it was made';
    END IF;
    EXECUTE new;
END $$;

CREATE OR REPLACE FUNCTION report_codes(
    table_name TEXT, since TIMESTAMPTZ, until TIMESTAMPTZ DEFAULT 'infinity',
    sources INT[] DEFAULT NULL, code_column TEXT DEFAULT NULL
) RETURNS TABLE (
    code INT, name TEXT, times BIGINT, down INTERVAL, share DOUBLE PRECISION,
    cumulative_share DOUBLE PRECISION
)
LANGUAGE sql STABLE
AS $function$
    WITH whole AS (
        SELECT report_codes.since - INTERVAL '1 microsecond' AS starts,
            least(report_codes.until, now()) AS ends, c.code_column, c.code_table,
            COALESCE(report_codes.sources, receiver_reported_sources(
                table_name, report_codes.since, least(report_codes.until, now()))) AS sources
        FROM receiver_code_column(table_name, report_codes.code_column) AS c
        WHERE report_codes.since < least(report_codes.until, now())
    ), ready AS MATERIALIZED (
        SELECT d.* FROM whole w CROSS JOIN LATERAL receiver_ready_days(
            table_name, w.code_column, report_codes.since, w.ends, w.sources) AS d
    ), downs AS (
        SELECT c.code FROM (
            SELECT DISTINCT unnest(r.inner_codes || r.first_code || r.last_code) AS code FROM ready r
        ) AS c
        LEFT JOIN code_classes l ON l.code = c.code
            AND l.code_table = (SELECT w.code_table FROM whole w)
        WHERE COALESCE(l.class, CASE c.code WHEN 0 THEN 'ok' ELSE 'failure' END) = 'failure'
    ), pieces AS (
        SELECT i.source_id, i.code, i.started_at, i.ended_at
        FROM whole w CROSS JOIN LATERAL receiver_other_states(
            table_name, w.starts, w.ends, w.sources, report_codes.code_column,
            ARRAY(SELECT r.source_id FROM ready r ORDER BY r.source_id, r.day),
            ARRAY(SELECT r.day FROM ready r ORDER BY r.source_id, r.day)
        ) AS i
        WHERE i.state = 'down'
        UNION ALL
        SELECT r.source_id, r.first_code, r.day, r.first_end FROM ready r
        WHERE r.first_code IN (SELECT d.code FROM downs d)
        UNION ALL
        SELECT r.source_id, r.last_code, r.last_start, r.day + INTERVAL '24 hours' FROM ready r
        WHERE r.last_start > r.day AND r.last_code IN (SELECT d.code FROM downs d)
    ), parts AS (
        -- A run that continues past midnight is counted once.
        SELECT p.code, (p.started_at >= report_codes.since
                AND (lag(p.code) OVER by_time = p.code AND lag(p.ended_at) OVER by_time = p.started_at)
                    IS NOT TRUE)::int AS times,
            p.ended_at - greatest(p.started_at, report_codes.since) AS down
        FROM pieces p WINDOW by_time AS (PARTITION BY p.source_id ORDER BY p.started_at)
        UNION ALL
        SELECT i.code, i.number, i.length FROM ready r
        CROSS JOIN LATERAL unnest(r.inner_codes, r.inner_counts, r.inner_times) AS i (code, number, length)
        WHERE i.code IN (SELECT d.code FROM downs d)
    ), added AS (
        SELECT p.code, sum(p.times)::bigint AS times, justify_hours(sum(p.down)) AS down
        FROM parts p WHERE p.down > '0' GROUP BY p.code
    ), shared AS (
        SELECT a.*, EXTRACT(EPOCH FROM a.down) AS seconds,
            sum(EXTRACT(EPOCH FROM a.down)) OVER (ORDER BY a.down DESC, a.code) AS until_here,
            sum(EXTRACT(EPOCH FROM a.down)) OVER () AS whole
        FROM added a
    )
    SELECT s.code, receiver_code_name(w.code_table, s.code), s.times, s.down,
        (s.seconds / s.whole)::double precision, (s.until_here / s.whole)::double precision
    FROM shared s CROSS JOIN whole w ORDER BY s.down DESC, s.code;
$function$;

-- Roles that may read `sources` may read what is precomputed; roles that may insert into
-- `pending_rows` may also change it. All others read the rows.
DO $$
DECLARE
    found RECORD;
BEGIN
    FOR found IN
        SELECT c.relname, CASE a.grantee WHEN 0 THEN 'PUBLIC'
            ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS role
        FROM pg_class c, aclexplode(c.relacl) AS a
        WHERE a.grantee <> c.relowner AND (c.oid, a.privilege_type)
            IN (('sources'::regclass, 'SELECT'), ('pending_rows'::regclass, 'INSERT'))
    LOOP
        EXECUTE format('GRANT %s ON report_days, report_changes, report_ranges TO %s',
            CASE found.relname WHEN 'sources' THEN 'SELECT' ELSE 'SELECT, INSERT, UPDATE, DELETE' END,
            found.role);
    END LOOP;
END $$;
