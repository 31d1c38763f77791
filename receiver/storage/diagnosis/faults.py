"""Warns of versions of PostgreSQL and TimescaleDB with known bugs that other versions fix."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from receiver.config.settings import Settings
from receiver.storage.connection.database import Connection
from receiver.storage.diagnosis.findings import Finding, ok, warning

FIND_VERSIONS: Final = """
SELECT current_setting('server_version_num')::int AS server,
    (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS timescaledb
"""

# By major version of PostgreSQL, the first minor version with which every job of TimescaleDB's
# scheduler fails with "cannot drop portal"; and by minor version of TimescaleDB, its last patch
# version that fails. All versions before 2.27 fail, none after 2.32 does: the fix is in TimescaleDB
# (timescale/timescaledb#11015), PostgreSQL needs none.
JOBS_FAIL_FROM: Final = {15: 20, 16: 16, 17: 12, 18: 7}
JOBS_FAIL_TO: Final = {
    (2, 27): 2,
    (2, 28): 3,
    (2, 29): 2,
    (2, 30): 2,
    (2, 31): 1,
    (2, 32): 0,
}

# Minor versions of PostgreSQL that crash with a TimescaleDB built for the previous minor version.
OTHER_STRUCTURES: Final = {14: 14, 15: 9, 16: 5, 17: 1}

SECURE: Final = (2, 32, 0)
"""The first version of TimescaleDB without known security holes."""


class Versions(NamedTuple):
    """The versions that a database runs on."""

    major: int
    minor: int
    timescaledb: tuple[int, int, int]

    @property
    def server(self) -> str:
        """Return PostgreSQL's version as text."""
        return f"{self.major}.{self.minor}"

    @property
    def extension(self) -> str:
        """Return TimescaleDB's version as text."""
        return ".".join(map(str, self.timescaledb))


async def check_faults(connection: Connection, _: Settings) -> list[Finding]:
    """Check whether the versions of PostgreSQL and TimescaleDB have known bugs."""
    found = await connection.fetchrow(FIND_VERSIONS)
    numbers = [int(number) for number in re.findall(r"\d+", found["timescaledb"] or "")[:3]]
    if len(numbers) < 3:
        return []
    major, minor = divmod(found["server"], 10_000)
    versions = Versions(major, minor, (numbers[0], numbers[1], numbers[2]))
    return list(judge(versions)) or [
        ok(f"TimescaleDB {versions.extension} on PostgreSQL {versions.server} has no known faults")
    ]


def judge(versions: Versions) -> Iterator[Finding]:
    """Yield a warning for each known bug of these versions."""
    server, extension = versions.server, versions.extension
    if jobs_fail(versions):
        yield warning(
            f"TimescaleDB {extension} cannot run its jobs on PostgreSQL {server} (cannot drop "
            "portal): nothing is compressed, dropped or refreshed",
            f"update TimescaleDB to {fixed(versions)}; PostgreSQL need not change",
        )
    if OTHER_STRUCTURES.get(versions.major) == versions.minor:
        yield warning(
            f"PostgreSQL {server} crashes with a TimescaleDB that was built for another version",
            f"update PostgreSQL to {versions.major}.{versions.minor + 1} or later",
        )
    if versions.timescaledb < SECURE:
        yield warning(
            f"TimescaleDB {extension} has vulnerabilities that 2.32.0 fixes",
            "update TimescaleDB; 2.32 needs PostgreSQL 16 or later",
        )


def jobs_fail(versions: Versions) -> bool:
    """Return whether TimescaleDB's jobs fail on this PostgreSQL."""
    first = JOBS_FAIL_FROM.get(versions.major)
    if first is None or versions.minor < first:
        return False
    line, patch = versions.timescaledb[:2], versions.timescaledb[2]
    return line < min(JOBS_FAIL_TO) or patch <= JOBS_FAIL_TO.get(line, -1)


def fixed(versions: Versions) -> str:
    """Return the version of TimescaleDB whose jobs run on this PostgreSQL."""
    # 2.28 is the last minor version that supports PostgreSQL 15.
    return "2.28.5" if versions.major == 15 else "2.32.1 or later"


CHECKS: Final = {"faults": check_faults}
