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
    app_status_now, app_status_intervals, app_status_hourly TO grafana;
