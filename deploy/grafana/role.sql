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

-- Citus grants rights on several tables in one transaction only so; other servers ignore it.
SET citus.multi_shard_modify_mode = 'sequential';

-- The declared tables, their codes and views, what was rejected and where from; not how the receiver
-- works: rows that are incomplete, backfills, the version of the schema, and the stored
-- part of the hourly summary, which TimescaleDB may be refreshing, and whose view has what is in it.
DO $$
DECLARE
    relation REGCLASS;
BEGIN
    FOR relation IN
        SELECT c.oid FROM pg_class c
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v')
            AND pg_has_role(c.relowner, 'USAGE')
            AND c.relname NOT IN ('pending_rows', 'backfills',
                'receiver_schema_version', 'app_status_hourly_stored')
            AND NOT has_table_privilege('grafana', c.oid, 'SELECT')
    LOOP
        EXECUTE format('GRANT SELECT ON %s TO grafana', relation);
    END LOOP;
END
$$;
