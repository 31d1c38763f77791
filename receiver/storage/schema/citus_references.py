"""Checks a batch's references at once, where Citus distributes the tables.

Each node checks foreign keys against its own copy of the referenced tables. So the sources and
codes are locked on each node, over the connection that brings the rows, and only in that session is
each row's check switched off. Then the locks are prepared and committed together with the rows,
even after a crash, and rows that come over another connection are checked one by one.
"""

from __future__ import annotations

from typing import Final

IS_THERE: Final = "SELECT to_regprocedure('receiver_keep_references(jsonb)') IS NOT NULL"

# The names are those of shards: on a worker node, Citus accepts no statement about other tables.
KEEP: Final = """
CREATE OR REPLACE FUNCTION receiver_keep_references(wanted JSONB) RETURNS VOID
LANGUAGE plpgsql
AS $function$
DECLARE
    name TEXT;
    shard TEXT;
    key TEXT;
    keys INT[];
    locked INT;
BEGIN
    FOR name, shard, key, keys IN
        SELECT one ->> 'table', one ->> 'shard', one ->> 'key', (one ->> 'keys')::int[]
        FROM jsonb_array_elements(wanted) WITH ORDINALITY AS list (one, place) ORDER BY place
    LOOP
        EXECUTE format(
            'SELECT FROM %1$s WHERE %2$I = ANY($1) ORDER BY %2$I FOR KEY SHARE', shard, key
        ) USING keys;
        GET DIAGNOSTICS locked = ROW_COUNT;
        IF locked < cardinality(keys) THEN
            RAISE EXCEPTION USING ERRCODE = 'foreign_key_violation',
                MESSAGE = CASE key WHEN 'id' THEN 'a source is gone'
                    ELSE format('a code of %I is gone', name) END;
        END IF;
    END LOOP;
    PERFORM set_config('session_replication_role', 'replica', true);
END;
$function$;

COMMENT ON FUNCTION receiver_keep_references(JSONB) IS
    'Checks that all these rows are on this node and keeps them until the transaction ends; from '
    'then on, foreign keys are not checked row by row in it. wanted is a list such as '
    '[{"table": "error_codes", "shard": "error_codes_102008", "key": "code", "keys": "{0,3}"}].';

SELECT create_distributed_function('receiver_keep_references(jsonb)')
"""

# Without DDL propagation, LOCK locks only on the coordinator, where triggers and constraints are
# added first.
CHECK: Final = """
CREATE OR REPLACE FUNCTION receiver_check_references(target TEXT, codes JSONB, source_keys INT[])
RETURNS VOID
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET citus.enable_ddl_propagation = off
AS $function$
DECLARE
    obstacle TEXT;
    wanted JSONB;
    beginnings INT[];
    nodes INT[];
    example INT;
BEGIN
    EXECUTE format('LOCK TABLE ONLY %I IN ROW EXCLUSIVE MODE', target);
    obstacle := receiver_references_obstacle(target, codes);
    IF obstacle IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = obstacle;
    END IF;
    SELECT jsonb_agg(jsonb_build_object('table', named.name, 'key', named.key,
        'keys', named.keys::text, 'shard', shard_name(logicalrelid, shardid))
        ORDER BY named.place, named.name COLLATE "C")
    INTO wanted
    FROM (
        SELECT 1, of_column.value ->> 'table', 'code', array_agg(DISTINCT wanted.code::int)
        FROM jsonb_each(codes) AS of_column,
            jsonb_array_elements_text(of_column.value -> 'keys') AS wanted (code)
        GROUP BY 2
        UNION ALL SELECT 2, 'sources', 'id', receiver_check_references.source_keys
    ) AS named (place, name, key, keys)
    JOIN pg_dist_shard ON logicalrelid = to_regclass(quote_ident(named.name));
    SELECT array_agg(shardminvalue::int ORDER BY shardminvalue::int),
        array_agg(groupid ORDER BY shardminvalue::int)
    INTO beginnings, nodes
    FROM pg_dist_shard JOIN pg_dist_placement USING (shardid)
    WHERE logicalrelid = 'source_keys'::regclass;
    -- Locks all references on each node, reached through one of its sources. To lock only those of
    -- the node's own rows would not be enough: a shard may move before the rows arrive.
    FOR example IN
        SELECT min(id) FROM unnest(receiver_check_references.source_keys) AS source (id)
        GROUP BY nodes[width_bucket(worker_hash(id), beginnings)] ORDER BY 1
    LOOP
        PERFORM receiver_keep_references(wanted) FROM source_keys WHERE id = example;
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'foreign_key_violation', MESSAGE = 'a source is gone';
        END IF;
    END LOOP;
END;
$function$
"""

RULES: Final = (
    # Removes what release 0.2.0 added.
    (r"\n    IF to_regclass\('source_keys'\) IS NOT NULL THEN\n        RETURN .*\n    END IF;", ""),
    # Partitions have the foreign keys and triggers of their table.
    (
        r"FROM pg_inherits WHERE relation IN \(inhparent, inhrelid\)",
        "FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid\n"
        "        WHERE relation = inhrelid OR relation = inhparent AND NOT c.relispartition",
    ),
    (
        r"WHERE tgrelid = relation AND tgtype",
        "WHERE (tgrelid = relation OR tgrelid IN (SELECT relid FROM pg_partition_tree(relation)))\n"
        "            AND tgtype",
    ),
    (
        r"c\.contype = 'f' AND c\.conrelid = relation\n",
        "c.contype = 'f' AND (c.conrelid = relation\n"
        "                OR c.conrelid = tgrelid AND c.conparentid <> 0)\n",
    ),
)
"""Make `receiver_references_obstacle` judge a partitioned table: patterns and replacements."""
