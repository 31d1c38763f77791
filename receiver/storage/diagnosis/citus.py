"""Checks the nodes of a Citus cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from receiver.config.settings import Settings
from receiver.errors import SchemaError
from receiver.storage.connection.connecting import HAS_CITUS, is_distributed
from receiver.storage.connection.database import Connection
from receiver.storage.diagnosis.findings import Finding, note, ok, problem, warning
from receiver.storage.diagnosis.server import UNSAFE
from receiver.storage.schema.citus import NODE, plan_distribution

# The state of a node; run on each node.
LOOK: Final = f"""
SELECT json_build_object(
    'version', current_setting('server_version'),
    'standby', pg_is_in_recovery(),
    'unsafe', ARRAY({UNSAFE}),
    'commit', current_setting('synchronous_commit'),
    'prepared', current_setting('max_prepared_transactions')::int,
    'left', (SELECT count(*) FROM pg_prepared_xacts
        WHERE database = current_database() AND prepared < now() - INTERVAL '5 minutes')
)
"""

LOOK_AT_ALL: Final = """
SELECT format('%s:%s', n.nodename, n.nodeport), n.groupid <> 0, r.success, r.result
FROM run_command_on_all_nodes($1) r JOIN pg_dist_node n USING (nodeid) ORDER BY n.nodeid
"""

# The node with the most data of our tables, as a multiple of an even share.
SKEW: Final = """
SELECT format('%s:%s', nodename, nodeport),
    (sum(shard_size) / NULLIF(avg(sum(shard_size)) OVER (), 0))::double precision AS times
FROM citus_shards WHERE colocation_id = (
    SELECT colocationid FROM pg_dist_partition WHERE logicalrelid = to_regclass('source_keys')
)
GROUP BY nodename, nodeport ORDER BY 2 DESC LIMIT 1
"""
UNEVEN: Final = 1.5
"""Multiple of an even share above which a node counts as too full."""

# Those of our tables ($1) whose newest partition ends before now.
LACK_PARTS: Final = """
SELECT c.relname FROM time_partitions p JOIN pg_class c ON c.oid = p.parent_table
WHERE p.parent_table = ANY(
    SELECT to_regclass(quote_ident(name)) FROM unnest($1::text[]) AS name
)
GROUP BY c.relname HAVING max(p.to_value::timestamptz) < now() ORDER BY 1
"""

HAS_DAEMON: Final = """
SELECT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'Citus Maintenance Daemon'
)
"""


async def check_cluster(connection: Connection, settings: Settings) -> list[Finding]:
    """Check whether all nodes can be reached, and are as durable as the coordinator must be."""
    if not await connection.fetchval(HAS_CITUS):
        return []
    node = await connection.fetchrow(NODE)
    if not node["workers"]:
        return [
            note("Citus has no worker nodes: the tables stay plain", "SELECT citus_add_node(…)")
        ]
    findings = [
        finding
        for name, is_worker, reached, said in await connection.fetch(LOOK_AT_ALL, LOOK)
        for finding in judge(name, said, is_worker=is_worker, reached=reached)
    ]
    if not node["has_coordinator"]:
        findings.append(
            warning(
                "Citus does not know the coordinator as a node",
                "SELECT citus_set_coordinator_host(…), with the name that workers reach it by",
            )
        )
    if not await connection.fetchval(HAS_DAEMON):
        findings.append(
            warning(
                "the Citus maintenance daemon does not run in this database: prepared transactions "
                "are not recovered",
                "raise max_worker_processes: it takes one for each database",
            )
        )
    return [*findings, *await find_distribution(connection, settings)]


def judge(name: str, said: str, *, is_worker: bool, reached: bool) -> Iterator[Finding]:
    """Yield the findings on a node.

    Args:
        name: Its host and port.
        said: The result of `LOOK` there, or the error message.
        is_worker: Whether it only holds shards.
        reached: Whether it answered.
    """
    if not reached:
        yield problem(
            f"node {name} cannot be reached: {' '.join(said.split())}",
            "start or restart it, or fail over",
        )
        return
    found: dict[str, Any] = json.loads(said)
    faults = []
    if found["standby"]:
        faults.append(problem(f"node {name} is a standby", "promote it, or citus_update_node(…)"))
    if found["unsafe"]:
        faults.append(
            warning(
                f"node {name}: {', '.join(found['unsafe'])} = off: a crash can lose acknowledged "
                "rows",
                "turn it on in postgresql.conf",
            )
        )
    if is_worker and found["commit"] in {"off", "local"}:
        faults.append(
            warning(
                f"node {name}: synchronous_commit = {found['commit']}, which the receiver's "
                "sessions do not change there: a crash can lose acknowledged rows",
                "set it to on in postgresql.conf",
            )
        )
    if is_worker and not found["prepared"]:
        faults.append(
            problem(
                f"node {name}: max_prepared_transactions = 0, so that nothing can be committed",
                "set it to at least max_connections, and restart the node",
            )
        )
    if found["left"]:
        faults.append(
            warning(
                f"node {name}: {found['left']} prepared transactions have waited for minutes, and "
                "hold locks",
                "SELECT recover_prepared_transactions() on the coordinator",
            )
        )
    yield from faults or [ok(f"node {name} answers: PostgreSQL {found['version']}")]


async def find_distribution(connection: Connection, settings: Settings) -> list[Finding]:
    """Check whether the tables are distributed, and evenly."""
    try:
        plan = await plan_distribution(connection, settings)
    except SchemaError as error:
        return [problem(*str(error).split("\n", 1))]
    if plan.with_rows:
        return [
            note(
                f"not distributed because they have rows: {', '.join(plan.with_rows)}",
                "run `receiver migrate --distribute`",
            )
        ]
    if not await is_distributed(connection):
        undistributed = "the tables are not distributed"
        return [
            note(f"{undistributed}: RECEIVER_CITUS is off")
            if settings.citus == "off"
            else note(undistributed, "run `receiver migrate`")
        ]
    lacking = [
        name for (name,) in await connection.fetch(LACK_PARTS, [*settings.catalogue.by_name])
    ]
    if lacking:
        return [
            warning(
                f"{', '.join(lacking)}: no partition for new rows, which are deleted one by one",
                "run `receiver migrate` as the owner of the table",
            )
        ]
    name, times = await connection.fetchrow(SKEW)
    if times is not None and times > UNEVEN:
        return [
            warning(
                f"node {name} has {times:.1f} times the data of an even share",
                "SELECT citus_rebalance_start()",
            )
        ]
    return [ok("the tables are distributed over the worker nodes")]


CHECKS: Final = {"cluster": check_cluster}
