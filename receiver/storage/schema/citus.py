"""Distributes the tables over the nodes of a Citus cluster.

All rows of a source are on one node: the tables with rows are distributed by `source_id`, and the
tables that they refer to are on all nodes. Databases that are no cluster are left unchanged.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import asyncpg

from receiver.config.catalogue import all_code_tables
from receiver.config.settings import Settings
from receiver.rows.tables import Catalogue
from receiver.storage.connection.connecting import HAS_CITUS, IS_DISTRIBUTED, is_distributed
from receiver.storage.connection.places import OWN_SCHEMA, literal, quote
from receiver.storage.schema.differences import refuse
from receiver.storage.schema.dividing import divide_by_time
from receiver.storage.schema.table_statements import create_codes
from receiver.storage.schema.tables import Changes, Obstacle, rename_table
from receiver.storage.schema.views import view_names

logger = logging.getLogger(__name__)

REFERENCE: Final = ("sources", "planned_stops", "state_comments")
"""The receiver's own tables that every node has: the sources, and tables that refer to one."""

KEYS: Final = "source_keys"
"""A table of the sources' ids, distributed as their rows are, so that Citus looks up the rows of
each source on its node."""
CREATE_KEYS: Final = f"""CREATE TABLE {KEYS} (
    id INT PRIMARY KEY REFERENCES sources (id) ON DELETE CASCADE
)"""
COMMENT_KEYS: Final = (
    f"COMMENT ON TABLE {KEYS} IS 'The ids of sources, each on the node of its rows.'"
)
FILL_KEYS: Final = f"INSERT INTO {KEYS} SELECT id FROM sources ON CONFLICT DO NOTHING"

VIEWS_OF_LOGS: Final = ("app_status_hourly", "app_status_intervals", "app_status_now")
"""Views of the built-in table that no template makes."""

# How many worker nodes there are, and whether Citus knows the coordinator.
NODE: Final = """
SELECT count(*) FILTER (WHERE groupid <> 0 AND shouldhaveshards) AS workers,
    count(*) FILTER (WHERE groupid = 0) > 0 AS has_coordinator
FROM pg_dist_node WHERE noderole = 'primary' AND isactive
"""

# The tables in our schema that have one of these names ($1), and whether they are distributed
# already. Citus also knows a table that only refers to a distributed one, but leaves it on the
# coordinator; it refuses to distribute it later if it has an identity column (`fixed`).
FIND_TABLES: Final = f"""
SELECT c.relname AS name,
    (p.partmethod = 'h' OR p.repmodel = 't') IS TRUE AS distributed,
    (p.partmethod = 'n' AND p.repmodel <> 't') IS TRUE AND EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attidentity <> ''
    ) AS fixed
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_dist_partition p ON p.logicalrelid = c.oid
WHERE n.nspname = {OWN_SCHEMA} AND c.relkind IN ('r', 'p')
  AND c.relname = ANY($1::text[])
"""

# Otherwise Citus would take over all local tables that are connected by foreign keys, step by step.
KEEP_LOCAL: Final = "SET citus.enable_local_reference_table_foreign_keys = off"


class Distribution(NamedTuple):
    """How the tables are to be distributed."""

    statements: list[str]
    with_rows: list[str]
    """Tables that are not distributed because they have rows."""


# Every unique key must include the distribution column, which cannot be NULL, as source_id is for a
# sample whose label set is not in `sources`.
GIVE_SHARD_KEY: Final = (
    "ALTER TABLE rejected_samples ADD COLUMN IF NOT EXISTS shard_key INT NOT NULL DEFAULT 0",
    "ALTER TABLE rejected_samples ALTER COLUMN shard_key TYPE INT USING COALESCE(source_id, 0)",
    """ALTER TABLE rejected_samples
    DROP CONSTRAINT rejected_samples_pkey,
    ADD CONSTRAINT rejected_samples_pkey PRIMARY KEY (id, shard_key),
    DROP CONSTRAINT rejected_samples_with_source_key,
    ADD CONSTRAINT rejected_samples_with_source_key
        UNIQUE (source_id, metric, timestamp_ms, value, reason, table_name, shard_key)""",
    "DROP INDEX rejected_samples_without_source_key",
    """CREATE UNIQUE INDEX rejected_samples_without_source_key ON rejected_samples
    (source_digest, metric, timestamp_ms, value, reason, table_name, shard_key)
    WHERE source_id IS NULL""",
    "COMMENT ON COLUMN rejected_samples.shard_key IS 'source_id, or 0 where there is none.'",
)

NONE: Final = Distribution([], [])


def divided(catalogue: Catalogue) -> dict[str, str]:
    """Return the distributed tables, each with its distribution column."""
    return {
        "pending_rows": "source_id",
        "rejected_samples": "shard_key",
        KEYS: "id",
        **dict.fromkeys(catalogue.by_name, "source_id"),
    }


async def is_cluster(connection: asyncpg.Connection, settings: Settings) -> bool:
    """Return whether the tables belong on several nodes of Citus."""
    if not await connection.fetchval(HAS_CITUS):
        return False
    # A new table beside distributed ones could not be read together with them.
    if settings.citus == "off" and not await connection.fetchval(IS_DISTRIBUTED):
        return False
    return bool((await connection.fetchrow(NODE))["workers"])


async def plan_distribution(
    connection: asyncpg.Connection, settings: Settings, *, with_rows: bool = False
) -> Distribution:
    """Plan which tables to distribute, and by which statements.

    Args:
        connection: A connection to the coordinator; all declared tables must exist, or be about to.
        settings: The receiver's settings.
        with_rows: Whether to distribute tables that have rows, too.

    Raises:
        NotAdditiveError: Citus cannot distribute a table.
    """
    if not await is_cluster(connection, settings):
        return NONE
    catalogue = settings.catalogue
    reference = [*all_code_tables(catalogue), *REFERENCE]
    divided_by = divided(catalogue)
    found = await connection.fetch(FIND_TABLES, [*reference, *divided_by])
    there = {row["name"]: row["distributed"] for row in found}
    new = [name for name in divided_by if not there.get(name, False)]
    full = [name for name in new if name in there and await has_rows(connection, name)]
    if full and not with_rows:
        return Distribution([], full)
    refuse(Changes([], [keep_apart(row["name"]) for row in found if row["fixed"]]))
    statements = [make_reference(name) for name in reference if not there.get(name)]
    if KEYS not in there:
        statements += [CREATE_KEYS, COMMENT_KEYS]
    if "rejected_samples" in new:
        statements += GIVE_SHARD_KEY
    tables = [name for name in catalogue.by_name if name in new and name in there]
    statements += [statement for name in tables for statement in drop_triggers(name)]
    for table in catalogue.tables:
        if table.name in new and table.name not in full:
            statements += await divide_by_time(connection, table, own_readers(catalogue))
    statements += (divide(name, divided_by[name], settings.shards) for name in new)
    if KEYS in new:
        statements.append(FILL_KEYS)
    return Distribution([*statements, *drop_copies(full)], [])


def keep_apart(table: str) -> Obstacle:
    """Return why a table that Citus keeps on the coordinator cannot be distributed."""
    return Obstacle(
        f"Citus cannot distribute table {table}, which has an identity column and a foreign key: "
        "rename it, and copy its rows into the new table",
        [rename_table(table)],
    )


def own_readers(catalogue: Catalogue) -> list[str]:
    """Return the names of the receiver's own views and functions that read the tables."""
    views = [name for table in catalogue.tables for name in view_names(table)]
    names = [*VIEWS_OF_LOGS, *views]
    return names + [f"{name}_between" for name in names if name.endswith("_intervals")]


async def has_rows(connection: asyncpg.Connection, table: str) -> bool:
    """Return whether a table has a row."""
    return bool(await connection.fetchval(f"SELECT EXISTS (SELECT 1 FROM {quote(table)})"))


async def with_references(
    connection: asyncpg.Connection, catalogue: Catalogue, statements: Iterable[str]
) -> list[str]:
    """Add the statements that put new tables of codes on all nodes, for distributed tables to use.

    Args:
        connection: A connection to the coordinator.
        catalogue: The declared tables.
        statements: Statements that create and widen tables, each table of codes before it is used.
    """
    # Queried again: a connection caches the answer, and tables may be distributed in the meantime.
    if not await connection.fetchval(IS_DISTRIBUTED):
        return list(statements)
    made = {create_codes(name): make_reference(name) for name in all_code_tables(catalogue)}
    return [
        line
        for statement in statements
        for line in (statement, *filter(None, [made.get(statement)]))
    ]


def make_reference(table: str) -> str:
    """Write the statement that makes a table a reference table, which is on all nodes."""
    return f"SELECT create_reference_table({literal(quote(table))})"


def divide(table: str, column: str, shards: int) -> str:
    """Write the statement that distributes a table, colocated with `pending_rows`, the first."""
    how = (
        f"shard_count => {shards}, colocate_with => 'none'"
        if table == "pending_rows"
        else "colocate_with => 'pending_rows'"
    )
    return f"SELECT create_distributed_table({literal(quote(table))}, {literal(column)}, {how})"


def drop_triggers(table: str) -> Iterator[str]:
    """Write the statements that drop the triggers for reports, as Citus supports no triggers."""
    for trigger in ("inserted", "updated", "deleted", "truncated"):
        yield f"DROP TRIGGER IF EXISTS receiver_note_{trigger} ON {quote(table)}"


def drop_copies(tables: Iterable[str]) -> Iterator[str]:
    """Write the statements that drop the coordinator's copies of rows that were moved."""
    for table in tables:
        yield f"SELECT truncate_local_data_after_distributing_table({literal(quote(table))})"


async def lock_local(connection: asyncpg.Connection, catalogue: Catalogue) -> None:
    """Lock the tables that are not distributed yet, in the order in which writers lock them.

    Citus locks one after the other, as it comes to them; that would end in deadlocks.
    """
    order = ["pending_rows", *sorted(catalogue.by_name), "rejected_samples"]
    order += [*sorted(all_code_tables(catalogue)), *REFERENCE]
    local = {
        row["name"] for row in await connection.fetch(FIND_TABLES, order) if not row["distributed"]
    }
    tables = ", ".join(quote(name) for name in order if name in local)
    if tables:
        await connection.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")


async def distribute(
    connection: asyncpg.Connection, settings: Settings, *, with_rows: bool = False
) -> bool:
    """Distribute the tables that are to be distributed; return whether they now are.

    The arguments are those of `plan_distribution`.
    """
    if with_rows and not await is_cluster(connection, settings):
        logger.warning(
            "nothing was distributed: that needs the extension citus, worker nodes, and not "
            "RECEIVER_CITUS=off"
        )
    plan = await plan_distribution(connection, settings, with_rows=with_rows)
    if plan.with_rows:
        logger.warning(
            "Citus: %s have rows and stay on the coordinator: run `receiver migrate --distribute`, "
            "which keeps writers waiting until all rows have moved",
            ", ".join(plan.with_rows),
        )
    if plan.statements:
        await lock_local(connection, settings.catalogue)
    for statement in plan.statements:
        await connection.execute(statement)
    if plan.statements:
        logger.info(
            "Citus: tables are distributed over the worker nodes: %s",
            ", ".join(divided(settings.catalogue)),
        )
    return await is_distributed(connection)
