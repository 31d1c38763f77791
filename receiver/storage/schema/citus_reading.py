"""Views and functions in the form that Citus can run on distributed tables.

Where the tables are distributed, the rows of each source are looked up on its node, next to its key
in `source_keys`, and a function that reads them cannot be plain SQL. Views and functions that
revisions created in another form are recreated here; each change is one rule on the text.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

import asyncpg

from receiver.config.table_names import APP_LOGS
from receiver.rows.tables import Catalogue
from receiver.storage.connection.places import OWN_SCHEMA
from receiver.storage.schema import citus_references

# Hides a reference table in a function: Citus does not plan a query of plain tables only, but would
# refuse one that it cannot distribute.
READ: Final = """
CREATE OR REPLACE FUNCTION receiver_read(of_table ANYELEMENT) RETURNS SETOF ANYELEMENT
LANGUAGE plpgsql STABLE
AS $function$
BEGIN
    RETURN QUERY EXECUTE format('SELECT * FROM %s', pg_typeof(of_table));
END;
$function$;

COMMENT ON FUNCTION receiver_read IS 'All rows of a table that every node of Citus has.'
"""

Rules: TypeAlias = tuple[tuple[str, str], ...]
"""Patterns, each with its replacement."""

RULES: Final[Rules] = (
    (
        r"\b(sources|planned_stops|%3\$I)( (?:AS )?[a-z]\b)",
        r"receiver_read(NULL::\1)\2",
    ),
)
"""Make functions read reference tables through `receiver_read`."""

READING: Final = (
    "receiver_day_parts",
    "receiver_figures",
    "receiver_known_runs",
    "receiver_other_states",
    "receiver_ready_days",
    "receiver_report_basis",
    "report_codes",
    "state_intervals",
    "shift_times",
    "report",
)

ADAPTED: Final[tuple[tuple[tuple[str, ...], Rules], ...]] = (
    (READING, RULES),
    (("receiver_references_obstacle",), citus_references.RULES),
)

FIND_FUNCTIONS: Final = f"""
SELECT pg_get_functiondef(p.oid) FROM pg_proc p
WHERE p.pronamespace = to_regnamespace(quote_ident({OWN_SCHEMA})) AND p.proname = ANY($1::text[])
ORDER BY p.proname
"""

# Functions that return the same runs as those of the revisions. For a few sources, one query for
# each is sent to its node; for more, one query runs on each shard in parallel, as Citus distributes
# no recursive query.
FOR_EACH_SOURCE: Final = r"""
CREATE OR REPLACE FUNCTION receiver_run(query TEXT) RETURNS JSON
LANGUAGE plpgsql STABLE SET jit_above_cost = -1
AS $function$
DECLARE
    found JSON;
BEGIN
    EXECUTE query INTO found;
    RETURN found;
END;
$function$;

COMMENT ON FUNCTION receiver_run IS
    'Runs a query on a node, without compiling it first, which takes seconds for each shard.';

SELECT create_distributed_function('receiver_run(text)');

CREATE OR REPLACE FUNCTION receiver_shard_runs(
    table_name TEXT, code_column TEXT, since TIMESTAMPTZ, until TIMESTAMPTZ, sources INT[],
    max_gap INTERVAL
) RETURNS TABLE (
    source_id INT, code INT, started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ, rows BIGINT,
    ongoing BOOLEAN
)
LANGUAGE plpgsql STABLE
AS $function$
DECLARE
    query TEXT := replace(receiver_runs_query(
        '%shard%', code_column,
        format('(SELECT k.id FROM %%keys%% k WHERE k.id = ANY(%L::int[])) AS s', sources),
        format('%L::timestamptz', since), format('%L::timestamptz', until),
        format('%L::interval', max_gap)), '%', '%%');
    shard RECORD;
BEGIN
    FOR shard IN
        SELECT c.nodename, c.success, c.result FROM run_command_on_colocated_placements(
            to_regclass(quote_ident(table_name)), 'source_keys',
            format('SELECT receiver_run($receiver_run$SELECT COALESCE(json_agg(r), ''[]'') '
                'FROM (%s) AS r$receiver_run$)',
                replace(replace(query, '"%%shard%%"', '%1$s'), '%%keys%%', '%2$s'))) AS c
    LOOP
        IF NOT shard.success THEN
            RAISE EXCEPTION 'node %: %', shard.nodename, shard.result;
        END IF;
        RETURN QUERY SELECT r.* FROM json_to_recordset(shard.result::json) AS r (
            source_id INT, code INT, started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ, rows BIGINT,
            ongoing BOOLEAN);
    END LOOP;
END;
$function$;

COMMENT ON FUNCTION receiver_shard_runs IS 'The runs of many sources, each shard''s by its node.';

CREATE OR REPLACE FUNCTION receiver_code_runs(
    table_name TEXT, code_column TEXT, since TIMESTAMPTZ, until TIMESTAMPTZ, sources INT[],
    max_gap INTERVAL DEFAULT NULL
) RETURNS TABLE (
    source_id INT, code INT, started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ, rows BIGINT,
    ongoing BOOLEAN
)
LANGUAGE plpgsql STABLE
AS $function$
DECLARE
    -- `s.id` in the query is a placeholder, which the id of each source replaces below.
    query TEXT := receiver_runs_query(
        table_name, code_column, '(SELECT s.id AS id) AS s', '$1', '$2', '$3');
    written TEXT := format('SELECT r.source_id, r.code::int, r.started_at, r.ended_at, r.rows, '
        'r.ongoing FROM (%s) AS r', query);
    of_source INT;
    first TIMESTAMPTZ := greatest(since, '4700-01-01 00:00Z BC');
    last TIMESTAMPTZ := least(until, now() + INTERVAL '1 second');
    gap INTERVAL := least(max_gap, INTERVAL '1 day');
BEGIN
    IF max_gap IS NULL THEN
        SELECT s.max_gap INTO gap FROM report_settings s;
    END IF;
    IF cardinality(sources) > 50 THEN
        RETURN QUERY SELECT * FROM receiver_shard_runs(
            table_name, code_column, first, last, sources, gap);
        RETURN;
    END IF;
    FOREACH of_source IN ARRAY sources LOOP
        RETURN QUERY EXECUTE regexp_replace(written, '\ms\.id\M', of_source::text, 'g')
        USING first, last, gap;
    END LOOP;
END;
$function$;

CREATE OR REPLACE FUNCTION receiver_make_intervals_view(
    view_name TEXT, table_name TEXT, code_column TEXT, code_table TEXT, as_code TEXT, as_name TEXT
) RETURNS VOID
LANGUAGE plpgsql
AS $function$
BEGIN
    EXECUTE format($view$CREATE OR REPLACE VIEW %I AS
        SELECT s.id AS source_id, r.code AS %I, e.name::text AS %I, r.started_at, r.ended_at,
            r.rows, r.ongoing
        FROM receiver_read(NULL::sources) s
        CROSS JOIN LATERAL receiver_code_runs(%L, %L, '-infinity', 'infinity', ARRAY[s.id]) AS r
        LEFT JOIN receiver_read(NULL::%I) e ON e.code = r.code$view$,
        view_name, as_code, as_name, table_name, code_column, code_table);
    EXECUTE format($comment$COMMENT ON VIEW %I IS 'From when to when each source had which code. '
        'A row holds until the next one if that comes within three intervals of its source (or '
        'report_settings.max_gap), else for one interval.'$comment$, view_name);
END;
$function$;

CREATE OR REPLACE FUNCTION receiver_make_intervals_function(
    function_name TEXT, table_name TEXT, code_column TEXT, code_table TEXT, as_code TEXT,
    as_name TEXT, code_type TEXT
) RETURNS VOID
LANGUAGE plpgsql
AS $function$
BEGIN
    EXECUTE format($create$CREATE OR REPLACE FUNCTION %1$I(
            since TIMESTAMPTZ, until TIMESTAMPTZ DEFAULT 'infinity', max_gap INTERVAL DEFAULT NULL
        ) RETURNS TABLE (
            source_id INT, %2$I %3$s, %4$I TEXT, started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ,
            rows BIGINT, ongoing BOOLEAN
        )
        LANGUAGE sql STABLE
        BEGIN ATOMIC
            SELECT s.id, r.code, e.name::text, r.started_at, r.ended_at, r.rows, r.ongoing
            FROM receiver_read(NULL::sources) s
            CROSS JOIN LATERAL receiver_code_runs(%5$L, %6$L, %1$I.since, %1$I.until, ARRAY[s.id],
                %1$I.max_gap) AS r
            LEFT JOIN receiver_read(NULL::%7$I) e ON e.code = r.code;
        END$create$,
        function_name, as_code, code_type, as_name, table_name, code_column, code_table);
    EXECUTE format($comment$COMMENT ON FUNCTION %I(TIMESTAMPTZ, TIMESTAMPTZ, INTERVAL) IS 'The '
        'intervals from since to before until, cut there. A row holds until the next one if that '
        'comes within max_gap (three intervals of its source, unless report_settings says '
        'otherwise), else for one interval.'$comment$, function_name);
END;
$function$;

CREATE OR REPLACE FUNCTION receiver_reported_sources(
    table_name TEXT, since TIMESTAMPTZ, until TIMESTAMPTZ
) RETURNS INT[]
LANGUAGE plpgsql STABLE
AS $function$
DECLARE
    found INT[];
BEGIN
    EXECUTE format($query$
        SELECT array_agg(k.id ORDER BY k.id) FROM source_keys k WHERE EXISTS (
            SELECT 1 FROM %I l
            WHERE l.source_id = k.id
              AND l.created_at >= $1 - INTERVAL '30 days' AND l.created_at < $2
        )
    $query$, table_name) INTO found USING since, until;
    RETURN COALESCE(found, '{}');
END;
$function$
"""
IS_ADAPTED: Final = "SELECT to_regprocedure('receiver_read(anyelement)') IS NOT NULL"

HOURLY: Final = """
CREATE OR REPLACE VIEW app_status_hourly AS
SELECT l.source_id, date_bin('1 hour', l.created_at, TIMESTAMPTZ '2000-01-01 00:00Z') AS hour,
    count(*) AS rows,
    app_status_shares(array_agg(l.app_status)) AS shares,
    app_status_longest_outage(array_agg(l.created_at), array_agg(l.app_status)) AS longest_outage,
    min(l.created_at - l.ocr_value) AS ocr_delay_min,
    make_interval(
        secs => avg(EXTRACT(EPOCH FROM l.created_at - l.ocr_value))::double precision
    ) AS ocr_delay_avg,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY l.created_at - l.ocr_value) AS ocr_delay_p95,
    max(l.created_at - l.ocr_value) AS ocr_delay_max
FROM app_logs l
WHERE l.created_at >= '2000-01-01 00:00Z' AND l.created_at <= now() + INTERVAL '1 day'
GROUP BY 1, 2
"""

NOW: Final = """
CREATE OR REPLACE VIEW app_status_now AS
SELECT k.id AS source_id, s.labels, l.created_at, now() - l.created_at AS age, l.app_status,
    e.name AS error_name, e.description, l.ocr_value
FROM source_keys k
JOIN sources s ON s.id = k.id
JOIN LATERAL (
    SELECT l.source_id, l.created_at, l.app_status, l.ocr_value FROM app_logs l
    WHERE l.source_id >= k.id AND l.source_id <= k.id AND l.created_at <= now()
    ORDER BY l.source_id DESC, l.created_at DESC LIMIT 1
) l ON l.source_id = k.id
LEFT JOIN error_codes e ON e.code = l.app_status
"""


INTERVALS: Final = """
SELECT receiver_make_intervals_view('app_status_intervals', 'app_logs', 'app_status', 'error_codes',
        'app_status', 'error_name'),
    receiver_make_intervals_function('app_status_intervals_between', 'app_logs', 'app_status',
        'error_codes', 'app_status', 'error_name', 'INT')
"""


def adapt(definition: str, rules: Rules) -> str:
    """Return the definition of a function with the rules applied."""
    for pattern, replacement in rules:
        definition = re.sub(pattern, replacement, definition)
    return definition


async def adapt_functions(connection: asyncpg.Connection) -> bool:
    """Recreate the functions that Citus cannot run; return whether there were any.

    Args:
        connection: Must be in a transaction.
    """
    changed = not await connection.fetchval(IS_ADAPTED)
    if changed:
        await connection.execute(READ)
        await connection.execute(FOR_EACH_SOURCE)
    if not await connection.fetchval(citus_references.IS_THERE):
        await connection.execute(citus_references.KEEP)
        await connection.execute(citus_references.CHECK)
        changed = True
    for names, rules in ADAPTED:
        for (definition,) in await connection.fetch(FIND_FUNCTIONS, list(names)):
            if (adapted := adapt(definition, rules)) != definition:
                await connection.execute(adapted)
                changed = True
    return changed


async def adapt_views(connection: asyncpg.Connection, catalogue: Catalogue) -> None:
    """Recreate the views of the built-in table that no template makes."""
    if APP_LOGS in catalogue.by_name:
        await connection.execute(HOURLY)
        await connection.execute(NOW)
        await connection.execute(INTERVALS)
