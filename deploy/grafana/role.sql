-- The role that Grafana reads with: what its dashboards show and nothing else. psql runs this at
-- each start of the stack, as the owner of the tables.

\getenv password GRAFANA_PASSWORD

DO $$
BEGIN
    IF to_regrole('grafana') IS NULL THEN
        CREATE ROLE grafana;
    END IF;
END
$$;

ALTER ROLE grafana WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
    CONNECTION LIMIT 20 PASSWORD :'password';

-- Whoever may edit a panel may write any query: none that changes anything, or that never ends.
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET statement_timeout = '30s';

GRANT SELECT ON app_logs, error_codes, sources, rejected_samples,
    app_status_now, app_status_intervals, app_status_hourly,
    receiver_tables, code_classes, report_settings, report_shifts, report_holidays, planned_stops,
    state_comments TO grafana;

-- Every declared table, and what its codes mean.
DO $$
DECLARE
    name TEXT;
BEGIN
    FOR name IN
        SELECT t.key FROM receiver_tables, jsonb_each(declaration -> 'tables') AS t
        UNION SELECT c.value ->> 'codes'
        FROM receiver_tables, jsonb_each(declaration -> 'tables') AS t,
            jsonb_each(t.value -> 'columns') AS c
        WHERE c.value ? 'codes'
    LOOP
        EXECUTE format('GRANT SELECT ON %I TO grafana', name);
    END LOOP;
END
$$;
