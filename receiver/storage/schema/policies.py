"""What TimescaleDB does by itself: how long its chunks are, when it compresses and drops them.

The settings say which policies there are; one that differs, whoever made it, is replaced or
removed. Compression has its old names here, which every version since 2.14 understands.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Final, NamedTuple

import asyncpg

from receiver.config.settings import Settings
from receiver.storage.connection.places import LOGS, schema_of
from receiver.storage.schema.timescale import as_far_as_allowed, is_hypertable

logger = logging.getLogger(__name__)


class Policy(NamedTuple):
    """A kind of job that TimescaleDB runs on old chunks."""

    name: str
    procedure: str
    """What TimescaleDB calls the job."""
    age: str
    """Where the job's configuration says how old a chunk must be."""
    add: str
    remove: str


COMPRESSION: Final = Policy(
    "compression",
    "policy_compression",
    "compress_after",
    "SELECT add_compression_policy('app_logs', $1::interval)",
    "SELECT remove_compression_policy('app_logs')",
)
RETENTION: Final = Policy(
    "retention",
    "policy_retention",
    "drop_after",
    "SELECT add_retention_policy('app_logs', $1::interval)",
    "SELECT remove_retention_policy('app_logs')",
)

# What decides on policies; `allowed` is false under the Apache license. Before 2.16, TimescaleDB
# compressed no table by whose foreign keys it was not segmented, and neither checked nor cascaded
# them for rows that came into a compressed chunk.
DESCRIBE: Final = r"""
SELECT extversion AS version,
    string_to_array(substring(extversion FROM '^\d+\.\d+'), '.')::int[] >= '{2,16}' AS compresses,
    current_setting('timescaledb.license', true) = 'timescale' AS allowed
FROM pg_extension WHERE extname = 'timescaledb'
"""

SET_CHUNK_INTERVAL: Final = "SELECT set_chunk_time_interval('app_logs', $1::interval)"

IS_COMPRESSIBLE: Final = f"""
SELECT compression_enabled FROM timescaledb_information.hypertables
WHERE hypertable_schema = {schema_of(LOGS)} AND hypertable_name = 'app_logs'
"""

# Only once: it locks the table, and somebody may have chosen another layout meanwhile.
MAKE_COMPRESSIBLE: Final = """
ALTER TABLE app_logs SET (timescaledb.compress,
    timescaledb.compress_segmentby = 'source_id', timescaledb.compress_orderby = 'created_at DESC')
"""

# The age of a policy that goes by when chunks were made is not ours.
FIND_POLICY: Final = f"""
SELECT COALESCE(config ->> $2, '0')::interval FROM timescaledb_information.jobs
WHERE hypertable_schema = {schema_of(LOGS)} AND hypertable_name = 'app_logs' AND proc_name = $1
"""


async def set_up_policies(connection: asyncpg.Connection, settings: Settings) -> None:
    """Have TimescaleDB treat the hypertable `app_logs` as the settings say, as far as it can."""
    if not await is_hypertable(connection):
        return
    async with as_far_as_allowed(connection):
        await connection.execute(SET_CHUNK_INTERVAL, settings.chunk_interval)
        found = await connection.fetchrow(DESCRIBE)
        if not found["allowed"]:
            logger.info(
                "TimescaleDB has the Apache license, without compression and policies: app_logs "
                "is not compressed, and the receiver itself sees to retention"
            )
            return
        if settings.compress_after and not found["compresses"]:
            logger.warning(
                "app_logs is not compressed: TimescaleDB %s cannot do that to a table with foreign "
                "keys, 2.16 and newer can",
                found["version"],
            )
        else:
            await set_up_compression(connection, settings.compress_after)
        await set_up_policy(connection, RETENTION, settings.retention)


async def set_up_compression(connection: asyncpg.Connection, age: timedelta | None) -> None:
    """Have chunks compressed at an age, or no more of them; those that are compressed stay so."""
    if age and not await connection.fetchval(IS_COMPRESSIBLE):
        await connection.execute(MAKE_COMPRESSIBLE)
    await set_up_policy(connection, COMPRESSION, age)


async def set_up_policy(
    connection: asyncpg.Connection, policy: Policy, age: timedelta | None
) -> None:
    """Have chunks treated when all that is in them has an age, or not at all."""
    found = await connection.fetchval(FIND_POLICY, policy.procedure, policy.age)
    if found == age:
        return
    if found is not None:
        await connection.execute(policy.remove)
    if age is not None:
        await connection.execute(policy.add, age)
    logger.info("%s of app_logs: %s", policy.name, "off" if age is None else f"after {age}")
