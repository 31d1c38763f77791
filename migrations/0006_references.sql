-- Checks all references of a batch at once. PostgreSQL checks foreign keys row by row, which takes
-- half of the time of COPY.

CREATE FUNCTION receiver_references_obstacle() RETURNS TEXT
LANGUAGE plpgsql STABLE
AS $function$
DECLARE
    logs REGCLASS := to_regclass('app_logs');
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
    IF NOT (has_any_column_privilege('error_codes', 'UPDATE')
        AND has_any_column_privilege('sources', 'UPDATE')) THEN
        RETURN format('role %I may not update error_codes and sources', current_user);
    END IF;
    IF EXISTS (SELECT FROM pg_inherits WHERE logs IN (inhparent, inhrelid)) THEN
        RETURN 'app_logs has partitions or chunks';
    END IF;
    IF ARRAY(
        SELECT format('%s(%s)->%s(%s)', conrelid::regclass, a.attname, confrelid::regclass, f.attname)
        FROM pg_constraint
        LEFT JOIN pg_attribute a ON (a.attrelid, a.attnum) = (conrelid, conkey[1])
        LEFT JOIN pg_attribute f ON (f.attrelid, f.attnum) = (confrelid, confkey[1])
        WHERE conrelid = logs AND contype = 'f' ORDER BY 1
    ) <> ARRAY(
        SELECT format('%s(%s)->%s(%s)', logs, columns[1], to_regclass(columns[2]), columns[3])
        FROM (VALUES (ARRAY['app_status', 'error_codes', 'code']),
                     (ARRAY['source_id', 'sources', 'id'])) AS ours (columns) ORDER BY 1
    ) THEN
        RETURN 'app_logs has other foreign keys than ours';
    END IF;
    -- All other triggers on INSERT would be skipped, such as those of deferrable unique
    -- constraints.
    IF EXISTS (
        SELECT FROM pg_trigger t
        WHERE tgrelid = logs AND tgtype & 4 <> 0 AND NOT EXISTS (
            SELECT FROM pg_constraint c
            WHERE c.oid = t.tgconstraint AND c.contype = 'f' AND c.conrelid = logs
        )
    ) THEN
        RETURN 'app_logs has triggers';
    END IF;
    RETURN NULL;
END;
$function$;

COMMENT ON FUNCTION receiver_references_obstacle IS
    'Why the references of a batch of app_logs cannot be checked at once; NULL if they can.';

CREATE FUNCTION receiver_check_references(code_keys INT[], source_keys INT[]) RETURNS VOID
LANGUAGE plpgsql
AS $function$
DECLARE
    obstacle TEXT;
    locked INT;
BEGIN
    -- COPY takes the same lock. While it is held, nobody can add a trigger or a constraint.
    LOCK TABLE app_logs IN ROW EXCLUSIVE MODE;
    obstacle := receiver_references_obstacle();
    IF obstacle IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = obstacle;
    END IF;
    -- Takes the locks that a foreign key check takes for each row.
    PERFORM FROM error_codes WHERE code = ANY(code_keys) ORDER BY code FOR KEY SHARE;
    GET DIAGNOSTICS locked = ROW_COUNT;
    IF locked < cardinality(code_keys) THEN
        RAISE EXCEPTION USING ERRCODE = 'foreign_key_violation', MESSAGE = 'an error code is gone';
    END IF;
    PERFORM FROM sources WHERE id = ANY(source_keys) ORDER BY id FOR KEY SHARE;
    GET DIAGNOSTICS locked = ROW_COUNT;
    IF locked < cardinality(source_keys) THEN
        RAISE EXCEPTION USING ERRCODE = 'foreign_key_violation', MESSAGE = 'a source is gone';
    END IF;
    PERFORM set_config('session_replication_role', 'replica', true);
END;
$function$;

COMMENT ON FUNCTION receiver_check_references IS
    'Checks that all these codes and sources are there and keeps them until the transaction ends; '
    'from then on, foreign keys are not checked row by row in it.';
