-- Supports any declared tables instead of one fixed table. Incomplete rows and rejected samples
-- name their table, the database stores the declaration in force, and references can be checked for
-- any table. `storage/schema/tables.py` creates the declared tables and adds columns to them.

-- In the order in which a receiver of the previous revision locks them, since one may be running.
LOCK TABLE pending_halves, rejected_samples IN ACCESS EXCLUSIVE MODE;

DO $$
DECLARE
    dependents TEXT;
BEGIN
    SELECT string_agg(DISTINCT r.ev_class::regclass::text, ', ') INTO dependents
    FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = 'pending_halves'::regclass
      AND r.ev_class <> 'pending_halves'::regclass;
    IF dependents IS NOT NULL THEN
        RAISE EXCEPTION 'pending_rows takes the place of pending_halves, which % reads: run DROP VIEW % first',
            dependents, dependents;
    END IF;
END $$;

-- Incomplete rows --------------------------------------------------------------------------------

-- Renamed rather than recreated, so that its privileges remain.
ALTER TABLE pending_halves RENAME TO pending_rows;

ALTER TABLE pending_rows
    ADD COLUMN table_name TEXT NOT NULL DEFAULT 'app_logs',
    ADD COLUMN samples JSONB,
    ADD COLUMN before JSONB;

-- Writes all digits of a sample, whatever the default of the role.
SET LOCAL extra_float_digits = 1;

UPDATE pending_rows SET samples = jsonb_strip_nulls(jsonb_build_object(
    'app_status', COALESCE(status_sample, app_status)::text, 'ocr_value', ocr_sample::text));

ALTER TABLE pending_rows
    ALTER COLUMN table_name DROP DEFAULT,
    ALTER COLUMN samples SET NOT NULL,
    DROP COLUMN app_status,
    DROP COLUMN status_sample,
    DROP COLUMN ocr_value,
    DROP COLUMN ocr_sample,
    DROP CONSTRAINT pending_halves_pkey,
    ADD CONSTRAINT pending_rows_pkey PRIMARY KEY (source_id, created_at, table_name);

ALTER TABLE pending_rows
    RENAME CONSTRAINT pending_halves_source_id_fkey TO pending_rows_source_id_fkey;

COMMENT ON TABLE pending_rows IS 'Rows that lack a sample of a required column.';
COMMENT ON COLUMN pending_rows.samples IS
    'The samples that came: each column''s name, and the exact value as text.';
COMMENT ON COLUMN pending_rows.before IS
    'samples before the last change; NULL if that added the row.';

-- Rejected samples -------------------------------------------------------------------------------

ALTER TABLE rejected_samples
    ADD COLUMN table_name TEXT NOT NULL DEFAULT 'app_logs',
    ADD COLUMN column_name TEXT,
    DROP CONSTRAINT IF EXISTS rejected_samples_source_id_metric_timestamp_ms_value_reason_key;

ALTER TABLE rejected_samples ALTER COLUMN table_name DROP DEFAULT;

DROP INDEX IF EXISTS rejected_samples_without_source_key;

-- A request that is sent again must not store its rejected samples twice. Samples are looked up by
-- the first columns.
ALTER TABLE rejected_samples ADD CONSTRAINT rejected_samples_with_source_key
    UNIQUE (source_id, metric, timestamp_ms, value, reason, table_name);

CREATE UNIQUE INDEX rejected_samples_without_source_key ON rejected_samples
    (source_digest, metric, timestamp_ms, value, reason, table_name) WHERE source_id IS NULL;

COMMENT ON COLUMN rejected_samples.table_name IS 'The table whose row it would be part of.';
COMMENT ON COLUMN rejected_samples.column_name IS
    'The column that it would be in; NULL for what was rejected before this was recorded.';

-- The declaration in force -----------------------------------------------------------------------

CREATE TABLE receiver_tables (
    -- SHA-256 of the declaration.
    digest BYTEA NOT NULL,
    declaration JSONB NOT NULL,
    declared_by TEXT NOT NULL,
    declared_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX receiver_tables_one_row ON receiver_tables ((true));

COMMENT ON TABLE receiver_tables IS
    'The tables as they were declared last, in one row: a receiver with another declaration stores nothing.';
COMMENT ON COLUMN receiver_tables.declared_by IS 'The role and machine that brought the declaration.';

-- Roles that may read the revision may also read this table.
DO $$
DECLARE
    reader TEXT;
BEGIN
    FOR reader IN
        SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
        FROM pg_class, aclexplode(relacl)
        WHERE oid = 'receiver_schema_version'::regclass AND privilege_type = 'SELECT'
          AND grantee <> relowner
    LOOP
        EXECUTE format('GRANT SELECT ON receiver_tables TO %s', reader);
    END LOOP;
END $$;

-- Checking references ----------------------------------------------------------------------------

CREATE FUNCTION receiver_references_obstacle(target TEXT, codes JSONB) RETURNS TEXT
LANGUAGE plpgsql STABLE
AS $function$
DECLARE
    relation REGCLASS := to_regclass(quote_ident(target));
    referred TEXT[] := ARRAY(
        SELECT DISTINCT value ->> 'table' FROM jsonb_each(codes) UNION SELECT 'sources' ORDER BY 1
    );
    allowed BOOLEAN;
BEGIN
    SELECT rolsuper INTO allowed FROM pg_roles WHERE rolname = current_user;
    IF NOT allowed AND current_setting('server_version_num')::int >= 150000 THEN
        EXECUTE $$SELECT has_parameter_privilege('session_replication_role', 'SET')$$ INTO allowed;
    END IF;
    IF NOT allowed THEN
        RETURN format('role %I may not set session_replication_role', current_user);
    END IF;
    -- FOR KEY SHARE requires this privilege.
    IF EXISTS (
        SELECT FROM unnest(referred) AS name
        WHERE has_any_column_privilege(to_regclass(quote_ident(name)), 'UPDATE') IS NOT TRUE
    ) THEN
        RETURN format('role %I may not update %s', current_user,
            (SELECT string_agg(quote_ident(name), ' and ') FROM unnest(referred) AS name));
    END IF;
    IF EXISTS (SELECT FROM pg_inherits WHERE relation IN (inhparent, inhrelid)) THEN
        RETURN format('%I has partitions or chunks', target);
    END IF;
    IF ARRAY(
        SELECT format('%s(%s)->%s(%s)', a.attname, cardinality(conkey), confrelid, f.attname)
        FROM pg_constraint
        LEFT JOIN pg_attribute a ON (a.attrelid, a.attnum) = (conrelid, conkey[1])
        LEFT JOIN pg_attribute f ON (f.attrelid, f.attnum) = (confrelid, confkey[1])
        WHERE conrelid = relation AND contype = 'f' ORDER BY 1
    ) <> ARRAY(
        SELECT format('%s(1)->%s(%s)', ours.name, to_regclass(quote_ident(ours.referred))::oid, ours.key)
        FROM (
            SELECT key, value ->> 'table', 'code' FROM jsonb_each(codes)
            UNION ALL SELECT 'source_id', 'sources', 'id'
        ) AS ours (name, referred, key) ORDER BY 1
    ) THEN
        RETURN format('%I has other foreign keys than ours', target);
    END IF;
    -- All other triggers on INSERT would be skipped, such as those of deferrable unique
    -- constraints.
    IF EXISTS (
        SELECT FROM pg_trigger t
        WHERE tgrelid = relation AND tgtype & 4 <> 0 AND NOT EXISTS (
            SELECT FROM pg_constraint c
            WHERE c.oid = t.tgconstraint AND c.contype = 'f' AND c.conrelid = relation
        )
    ) THEN
        RETURN format('%I has triggers', target);
    END IF;
    RETURN NULL;
END;
$function$;

COMMENT ON FUNCTION receiver_references_obstacle(TEXT, JSONB) IS
    'Why the references of a batch of a table cannot be checked at once; NULL if they can. codes has '
    'the table of each column of codes, such as {"app_status": {"table": "error_codes"}}.';

CREATE FUNCTION receiver_check_references(target TEXT, codes JSONB, source_keys INT[]) RETURNS VOID
LANGUAGE plpgsql
AS $function$
DECLARE
    obstacle TEXT;
    code_table TEXT;
    code_keys INT[];
    locked INT;
BEGIN
    -- COPY takes the same lock. While it is held, nobody can add a trigger or a constraint.
    EXECUTE format('LOCK TABLE ONLY %I IN ROW EXCLUSIVE MODE', target);
    obstacle := receiver_references_obstacle(target, codes);
    IF obstacle IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = obstacle;
    END IF;
    -- Takes the locks of a foreign key check, in the order in which all transactions lock codes.
    FOR code_table, code_keys IN
        SELECT of_column.value ->> 'table', array_agg(DISTINCT wanted.code::int)
        FROM jsonb_each(codes) AS of_column,
            jsonb_array_elements_text(of_column.value -> 'keys') AS wanted (code)
        GROUP BY 1 ORDER BY (of_column.value ->> 'table') COLLATE "C"
    LOOP
        EXECUTE format('SELECT FROM %I WHERE code = ANY($1) ORDER BY code FOR KEY SHARE', code_table)
            USING code_keys;
        GET DIAGNOSTICS locked = ROW_COUNT;
        IF locked < cardinality(code_keys) THEN
            RAISE EXCEPTION USING ERRCODE = 'foreign_key_violation',
                MESSAGE = format('a code of %I is gone', code_table);
        END IF;
    END LOOP;
    PERFORM FROM sources WHERE id = ANY(source_keys) ORDER BY id FOR KEY SHARE;
    GET DIAGNOSTICS locked = ROW_COUNT;
    IF locked < cardinality(source_keys) THEN
        RAISE EXCEPTION USING ERRCODE = 'foreign_key_violation', MESSAGE = 'a source is gone';
    END IF;
    PERFORM set_config('session_replication_role', 'replica', true);
END;
$function$;

COMMENT ON FUNCTION receiver_check_references(TEXT, JSONB, INT[]) IS
    'Checks that all these codes and sources are there and keeps them until the transaction ends; '
    'from then on, foreign keys are not checked row by row in it. codes has the table and the codes '
    'of each column, such as {"app_status": {"table": "error_codes", "keys": [0, 3]}}.';

-- If EXECUTE on the old functions is restricted, the new ones get the same privileges.
DO $$
DECLARE
    old_name TEXT;
    new_name TEXT;
    grantee TEXT;
BEGIN
    FOR old_name, new_name IN
        VALUES ('receiver_references_obstacle()', 'receiver_references_obstacle(text, jsonb)'),
            ('receiver_check_references(int[], int[])',
                'receiver_check_references(text, jsonb, int[])')
    LOOP
        CONTINUE WHEN (SELECT proacl IS NULL FROM pg_proc WHERE oid = old_name::regprocedure);
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', new_name);
        FOR grantee IN
            SELECT CASE acl.grantee WHEN 0 THEN 'PUBLIC'
                ELSE quote_ident(pg_get_userbyid(acl.grantee)) END
            FROM pg_proc, aclexplode(proacl) AS acl
            WHERE oid = old_name::regprocedure AND acl.grantee <> proowner
        LOOP
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', new_name, grantee);
        END LOOP;
    END LOOP;
END $$;

DROP FUNCTION receiver_check_references(INT[], INT[]);
DROP FUNCTION receiver_references_obstacle();

-- From now on, rows of app_logs may lack a status if its column is declared optional.
CREATE OR REPLACE FUNCTION app_status_shares(statuses INT[]) RETURNS JSONB
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT jsonb_object_agg(code, rows::double precision / cardinality(statuses))
    FROM (
        SELECT code, count(*) AS rows FROM unnest(statuses) AS log (code)
        WHERE code IS NOT NULL GROUP BY code
    ) AS counted;
END;
