"""Checks whether the receiver can rely on the server."""

from __future__ import annotations

from typing import Final

from receiver.config.settings import Settings
from receiver.errors import SetupError
from receiver.storage.connection.database import Connection
from receiver.storage.diagnosis.findings import Finding, note, ok, problem, warning
from receiver.storage.schema.requirements import NEWEST_SERVER, require_server

# Whether the server is a standby, or sessions are read-only by default. Our own session is
# read-only too, but by SET, which does not change reset_val.
READ_ONLY: Final = """
SELECT pg_is_in_recovery() AS standby, reset_val = 'on' AS read_only
FROM pg_settings WHERE name = 'default_transaction_read_only'
"""

# The settings that are off although a crash can then lose committed rows, or the whole database.
UNSAFE: Final = """
SELECT name FROM pg_settings
WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name
"""

# The connection limits, -1 where there is none, and how many connections count against each,
# without this one; `ours` are those of receivers. An unprivileged role does not see the type of
# other backends.
CONNECTIONS: Final = """
WITH clients AS (
    SELECT usename, datname, application_name FROM pg_stat_activity
    WHERE datid IS NOT NULL AND pid <> pg_backend_pid()
      AND COALESCE(backend_type, 'client backend') = 'client backend'
)
SELECT current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int
        - COALESCE(current_setting('reserved_connections', true), '0')::int AS for_all,
    (SELECT rolconnlimit FROM pg_roles WHERE rolname = session_user) AS for_role,
    (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS for_database,
    (SELECT count(*)::int FROM clients) AS by_all,
    (SELECT count(*)::int FROM clients WHERE usename = session_user) AS by_role,
    (SELECT count(*)::int FROM clients WHERE datname = current_database()) AS by_database,
    (SELECT count(*)::int FROM clients WHERE application_name = 'receiver'
        AND usename = session_user AND datname = current_database()) AS ours
"""


async def check_version(connection: Connection, _: Settings) -> list[Finding]:
    """Check whether the server's version and the database's encoding are supported."""
    try:
        server = await require_server(connection)
    except SetupError as error:
        return [problem(str(error))]
    name = f"PostgreSQL {server['version']}, {server['encoding']}"
    if server["major"] > NEWEST_SERVER:
        return [note(f"{name}: newer than {NEWEST_SERVER}, the newest it was tested with")]
    return [ok(name)]


async def check_writable(connection: Connection, _: Settings) -> list[Finding]:
    """Check whether the receiver can write."""
    found = await connection.fetchrow(READ_ONLY)
    if found["standby"]:
        return [
            problem(
                "the server is a standby: it is read-only",
                "name the primary, or all hosts with ?target_session_attrs=read-write, in "
                "RECEIVER_DATABASE_URL",
            )
        ]
    if found["read_only"]:
        return [
            problem(
                "sessions are read-only by default",
                "ALTER DATABASE or ALTER ROLE … RESET default_transaction_read_only",
            )
        ]
    return [ok("the database can be written to")]


async def check_durability(connection: Connection, _: Settings) -> list[Finding]:
    """Check whether committed rows survive a crash; the receiver sets synchronous_commit itself."""
    unsafe = [row["name"] for row in await connection.fetch(UNSAFE)]
    commit = await connection.fetchval("SHOW synchronous_commit")
    if unsafe:
        advice = f"set {' and '.join(unsafe)} to on in postgresql.conf"
        return [warning(f"{', '.join(unsafe)} = off: a crash can lose acknowledged rows", advice)]
    return [ok(f"fsync = on, synchronous_commit = {commit} in the receiver's sessions")]


async def check_connections(connection: Connection, settings: Settings) -> list[Finding]:
    """Check whether a receiver can get all the connections that it needs to store rows."""
    found = await connection.fetchrow(CONNECTIONS)
    left = min(
        found[f"for_{whom}"] - found[f"by_{whom}"]
        for whom in ("all", "role", "database")
        if found[f"for_{whom}"] >= 0
    )
    wanted = settings.workers * (settings.writers + 2)
    # A receiver that already runs holds some of them.
    if left + found["ours"] < wanted:
        return [
            problem(
                f"{left} left; a receiver takes up to {wanted}",
                "raise max_connections (or the limit of the role or the database), or lower "
                "RECEIVER_WORKERS or RECEIVER_WRITERS",
            )
        ]
    return [ok(f"{left} left; a receiver takes up to {wanted}")]


async def check_vacuum(connection: Connection, _: Settings) -> list[Finding]:
    """Check whether autovacuum is on: pending_rows is written and deleted all the time."""
    if await connection.fetchval("SHOW autovacuum") == "off":
        return [warning("autovacuum is off: tables and indexes will bloat", "turn it on")]
    return [ok("autovacuum is on")]


CHECKS: Final = {
    "version": check_version,
    "writable": check_writable,
    "durability": check_durability,
    "connections": check_connections,
    "vacuum": check_vacuum,
}
