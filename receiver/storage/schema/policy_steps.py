"""Finds the statements that make a table the hypertable that it is declared to be."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Final, NamedTuple

import asyncpg

from receiver.config.value_types import write_duration
from receiver.rows.tables import Table
from receiver.storage.connection.places import literal, quote
from receiver.storage.schema.timescale import KNOWS_HYPERTABLES, PLACE

# The chunk interval of a hypertable ($1), and whether its chunks can be compressed.
FIND_STATE: Final = f"""
SELECT d.time_interval, h.compression_enabled
FROM timescaledb_information.hypertables h
JOIN timescaledb_information.dimensions d USING (hypertable_schema, hypertable_name)
WHERE (hypertable_schema, hypertable_name) = {PLACE} AND d.dimension_number = 1
"""

# Its policies, and the chunk age from which they apply. The age is 0 for a policy that goes by the
# creation time of chunks, which is not ours.
FIND_POLICIES: Final = f"""
SELECT proc_name,
    COALESCE(config ->> 'compress_after', config ->> 'drop_after', '0')::interval AS age
FROM timescaledb_information.jobs
WHERE (hypertable_schema, hypertable_name) = {PLACE}
  AND proc_name IN ('policy_compression', 'policy_retention')
"""

IS_THERE: Final = "SELECT to_regclass(quote_ident($1::text)) IS NOT NULL"


class Policy(NamedTuple):
    """A kind of job that TimescaleDB runs on old chunks."""

    name: str
    procedure: str
    """TimescaleDB's name for the job."""


COMPRESSION: Final = Policy("compression", "policy_compression")
RETENTION: Final = Policy("retention", "policy_retention")


class Step(NamedTuple):
    """A statement that changes how TimescaleDB treats a table, or why there is none."""

    statement: str | None
    message: str
    level: int = logging.INFO


class State(NamedTuple):
    """How TimescaleDB treats a table."""

    interval: timedelta
    compressible: bool = False
    policies: Mapping[str, timedelta] = {}
    """Ages of the policies, by the names of their jobs."""


async def find_steps(
    connection: asyncpg.Connection, table: Table, interval: timedelta, extension: asyncpg.Record
) -> list[Step]:
    """Find the steps that make a table the hypertable that it is declared to be.

    Args:
        connection: A connection to the database.
        table: The table, which need not exist yet.
        interval: Time range of a chunk.
        extension: The result of `FIND_EXTENSION`.
    """
    state = await find_state(connection, table.name)
    steps: list[Step] = []
    if state is None:
        if await holds_rows(connection, table.name):
            return [stays_plain(table.name)]
        steps.append(create_hypertable(table.name, interval))
        state = State(interval)
    elif state.interval != interval:
        steps.append(
            Step(
                f"SELECT set_chunk_time_interval({regclass(table.name)}, {as_interval(interval)})",
                f"new chunks of {table.name} span {write_duration(interval)}",
            )
        )
    if not extension["allowed"]:
        return steps
    if table.compress_after and not extension["compresses"]:
        message = (
            f"{table.name} is not compressed: TimescaleDB {extension['version']} cannot "
            "compress a table with foreign keys, 2.16 and newer can"
        )
        steps.append(Step(None, message, logging.WARNING))
    else:
        if table.compress_after and not state.compressible:
            steps.append(make_compressible(table.name))
        steps += change_policy(table.name, COMPRESSION, state, table.compress_after)
    return [*steps, *change_policy(table.name, RETENTION, state, table.retention)]


async def find_state(connection: asyncpg.Connection, table: str) -> State | None:
    """Return how TimescaleDB treats a table; None if it is not a hypertable."""
    if not await connection.fetchval(KNOWS_HYPERTABLES):
        return None
    found = await connection.fetchrow(FIND_STATE, table)
    if found is None:
        return None
    policies = dict(await connection.fetch(FIND_POLICIES, table))
    return State(found[0], found[1], policies)


async def holds_rows(connection: asyncpg.Connection, table: str) -> bool:
    """Return whether a table exists and has rows."""
    return bool(
        await connection.fetchval(IS_THERE, table)
        and await connection.fetchval(f"SELECT EXISTS (SELECT FROM {quote(table)})")
    )


def create_hypertable(table: str, interval: timedelta) -> Step:
    """Return the step that makes a table a hypertable on `created_at`."""
    return Step(
        f"SELECT create_hypertable({regclass(table)}, "
        f"by_range('created_at', {as_interval(interval)}), create_default_indexes => false)",
        f"{table} is a hypertable with chunks of {write_duration(interval)}",
    )


def stays_plain(table: str) -> Step:
    """Return the step that says how to make a table with rows a hypertable."""
    return Step(
        None,
        f"{table} stays a plain table, although TimescaleDB is installed, because it has rows; to "
        "make it a hypertable, stop the receiver and run: SELECT "
        f"create_hypertable({regclass(table)}, by_range('created_at'), create_default_indexes => "
        "false, migrate_data => true)",
        logging.WARNING,
    )


def make_compressible(table: str) -> Step:
    """Return the step that enables compression of a table's chunks.

    It is taken only once: it locks the table, and somebody may have chosen another layout since.
    """
    return Step(
        f"ALTER TABLE {quote(table)} SET (timescaledb.compress, timescaledb.compress_segmentby = "
        "'source_id', timescaledb.compress_orderby = 'created_at DESC')",
        f"chunks of {table} can be compressed",
        logging.DEBUG,
    )


def change_policy(
    table: str, policy: Policy, state: State, age: timedelta | None
) -> Iterator[Step]:
    """Yield the steps that apply a policy to chunks from an age on, or remove it."""
    found = state.policies.get(policy.procedure)
    if found == age:
        return
    when = "off" if age is None else f"after {write_duration(age)}"
    message = f"{policy.name} of {table}: {when}"
    if found is not None:
        level = logging.INFO if age is None else logging.DEBUG
        yield Step(f"SELECT remove_{policy.name}_policy({regclass(table)})", message, level)
    if age is not None:
        yield Step(
            f"SELECT add_{policy.name}_policy({regclass(table)}, {as_interval(age)})", message
        )


def regclass(table: str) -> str:
    """Write a table's name as TimescaleDB's functions take it."""
    return literal(quote(table))


def as_interval(time: timedelta) -> str:
    """Write a duration as SQL."""
    parts = {"days": time.days, "seconds": time.seconds, "microseconds": time.microseconds}
    text = " ".join(f"{value} {unit}" for unit, value in parts.items() if value)
    return f"INTERVAL '{text or 0}'"
