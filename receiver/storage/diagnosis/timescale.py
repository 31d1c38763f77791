"""Checks what TimescaleDB does for the tables, by its own catalog."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import asyncpg

from receiver.config.settings import Settings
from receiver.printable import counted
from receiver.storage.connection.connecting import HAS_CITUS
from receiver.storage.connection.database import Connection
from receiver.storage.connection.places import OWN_SCHEMA, quote
from receiver.storage.diagnosis.findings import Finding, note, ok, warning
from receiver.storage.schema.timescale import IS_LOADED, LOAD, PLACE, is_hypertable

OLDEST: Final = (2, 14)

# The version that the server offers, and the one that is installed in this database.
FIND_VERSIONS: Final = """
SELECT default_version, installed_version FROM pg_available_extensions WHERE name = 'timescaledb'
"""

HAS_EXTENSION: Final = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')"

# 'timescale' or 'apache'; the latter comes without compression and policies.
LICENSE: Final = "SELECT current_setting('timescaledb.license', true)"

# How many chunks there are, and whether our role owns the table, as changing its chunks and
# policies requires.
DESCRIBE_HYPERTABLE: Final = f"""
SELECT num_chunks, quote_ident(current_user) AS role, pg_has_role(owner, 'USAGE') AS owned
FROM timescaledb_information.hypertables
WHERE (hypertable_schema, hypertable_name) = {PLACE}
"""

# The policies of a hypertable ($1), and the chunk age from which they apply.
FIND_POLICIES: Final = f"""
SELECT proc_name, COALESCE(config ->> 'compress_after', config ->> 'drop_after')
FROM timescaledb_information.jobs WHERE (hypertable_schema, hypertable_name) = {PLACE}
"""

# The jobs that belong to our schema, and how their last run ended. While a job runs, its next start
# is -infinity. A continuous aggregate's job is listed under its view or under the hypertable that
# holds it, depending on the version.
FIND_JOBS: Final = f"""
SELECT j.job_id, j.proc_name AS name, j.hypertable_name AS table, j.scheduled,
    s.last_run_status = 'Failed' AS failed, (
        SELECT e.err_message FROM timescaledb_information.job_errors e
        WHERE e.job_id = j.job_id ORDER BY e.finish_time DESC LIMIT 1
    ) AS error,
    isfinite(s.next_start) AND s.next_start < now() - interval '1 hour' AS overdue
FROM timescaledb_information.jobs j LEFT JOIN timescaledb_information.job_stats s USING (job_id)
WHERE COALESCE(j.hypertable_schema, j.proc_schema) = {OWN_SCHEMA}
    OR (j.hypertable_schema, j.hypertable_name) IN (
        SELECT materialization_hypertable_schema, materialization_hypertable_name
        FROM timescaledb_information.continuous_aggregates WHERE view_schema = {OWN_SCHEMA}
    )
ORDER BY j.job_id
"""


async def check_extension(connection: Connection, _: Settings) -> list[Finding]:
    """Check whether the extension is installed, and recent enough."""
    if await connection.fetchval(HAS_CITUS):
        return []
    found = await connection.fetchrow(FIND_VERSIONS)
    if found is None:
        return [note("the server does not offer TimescaleDB: all tables are plain")]
    offered, installed = found
    if not await connection.fetchval(IS_LOADED):
        found = f"the server has TimescaleDB {offered} but does not load it"
        return [note(found, f"to use it, {LOAD}")]
    if installed is None:
        return [
            note(
                f"the server offers TimescaleDB {offered}, but this database does not have it",
                "`receiver migrate` creates it if this role may; best before there are rows",
            )
        ]
    findings = [ok(f"TimescaleDB {installed}, license {await connection.fetchval(LICENSE)}")]
    if as_numbers(installed) < OLDEST:
        advice = "ALTER EXTENSION timescaledb UPDATE"
        found = f"TimescaleDB {installed} is too old: the receiver needs 2.14 or newer"
        findings = [warning(found, advice)]
    elif installed != offered:
        findings.append(
            note(
                f"TimescaleDB {offered} is installed on the server, {installed} in this database",
                "ALTER EXTENSION timescaledb UPDATE, first in a session of its own",
            )
        )
    return findings


def as_numbers(version: str) -> tuple[int, ...]:
    """Return the major and minor version as numbers, for comparison."""
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


async def check_hypertables(connection: Connection, settings: Settings) -> list[Finding]:
    """Check whether the declared tables are hypertables where they could be."""
    if not await connection.fetchval(HAS_EXTENSION):
        return []
    return [
        await check_hypertable(connection, name, migrates=settings.migrate_on_start)
        for name in settings.catalogue.by_name
        if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", quote(name))
    ]


async def check_hypertable(connection: Connection, table: str, *, migrates: bool) -> Finding:
    """Check whether an existing table is a hypertable."""
    found = await connection.fetchrow(DESCRIBE_HYPERTABLE, table)
    if found and migrates and not found["owned"]:
        return warning(
            f"role {found['role']} does not own {table}, so it cannot manage its chunks",
            "run `receiver migrate` as the owner, and `receiver serve --no-migrate-on-start`",
        )
    if found:
        return ok(f"{table} is a hypertable with {counted(found['num_chunks'], 'chunk')}")
    return warning(
        f"{table} is a plain table, though TimescaleDB is installed",
        "`receiver migrate` converts it while it is empty, and says how if it is not",
    )


async def check_policies(connection: Connection, settings: Settings) -> list[Finding]:
    """Check whether there are compression and retention policies, and whether their jobs work."""
    if not await connection.fetchval(HAS_EXTENSION):
        return []
    tables = [name for name in settings.catalogue.by_name if await is_hypertable(connection, name)]
    if not tables:
        return []
    if await connection.fetchval(LICENSE) == "apache":
        return [
            note(
                "TimescaleDB under the Apache license has neither compression nor retention",
                "timescaledb.license = timescale in postgresql.conf, if the packages have it",
            )
        ]
    findings = [
        describe_policies(name, dict(await connection.fetch(FIND_POLICIES, name)))
        for name in tables
    ]
    return findings + [
        finding for finding in map(judge, await connection.fetch(FIND_JOBS)) if finding is not None
    ]


def describe_policies(table: str, ages: Mapping[str, str | None]) -> Finding:
    """Return the finding on a table's policies."""
    after = {name: f"after {age}" for name, age in ages.items()}
    compression = after.get("policy_compression")
    found = (
        f"compression of {table}: {compression or 'none'}, "
        f"retention: {after.get('policy_retention', 'none')}"
    )
    if compression is None:
        return note(
            found,
            "it saves most of the space: set RECEIVER_COMPRESS_AFTER, or compress_after of the "
            "table, such as to 7d",
        )
    return ok(found)


def judge(job: asyncpg.Record) -> Finding | None:
    """Return what is wrong with a job; None if nothing is."""
    name = f"job {job['job_id']} ({job['name']} of {job['table'] or 'no table'})"
    if not job["scheduled"]:
        remedy = f"SELECT alter_job({job['job_id']}, scheduled => true)"
        return warning(f"{name} is switched off", remedy)
    if job["failed"]:
        return warning(
            f"{name} failed when it last ran: {job['error'] or 'no reason recorded'}",
            f"fix the cause; to run it now: CALL run_job({job['job_id']})",
        )
    if job["overdue"]:
        return warning(
            f"{name} should have run more than an hour ago",
            "raise timescaledb.max_background_workers and max_worker_processes",
        )
    return None


CHECKS: Final = {
    "timescaledb": check_extension,
    "hypertable": check_hypertables,
    "policies": check_policies,
}
