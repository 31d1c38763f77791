"""Foreign keys of a batch on the nodes of a cluster; RECEIVER_TEST_CITUS_URL names it."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest

from receiver.config.settings import Settings
from receiver.errors import ConflictingTransactionError
from receiver.rows.model import Row, Source
from receiver.storage.connection.database import Database
from receiver.storage.diagnosis import diagnose
from receiver.storage.schema.partitions import find_parts
from receiver.storage.schema.revisions import migrate
from receiver.storage.writing.each import run_for_each
from receiver.storage.writing.references import FEWEST
from receiver.storage.writing.writer import Writer
from tests.cluster import find_workers, on_node, run
from tests.conftest import MakeSettings
from tests.databases import opened_database
from tests.roles import as_role, plain_role
from tests.rows import CATALOGUE, NOW, contents, count, row, source

pytestmark = pytest.mark.skipif(
    not os.environ.get("RECEIVER_TEST_CITUS_URL"),
    reason="RECEIVER_TEST_CITUS_URL names no cluster",
)

ONCE = "codes and sources of rows are checked once per batch: app_logs"
INSERT = "INSERT INTO app_logs (created_at, source_id, app_status, ocr_value)"
UNKNOWN = f"{INSERT} SELECT now(), unnest($1::int[]), 4711, now()"
GRANT = "GRANT SET ON PARAMETER session_replication_role TO {}"
REVOKE = "REVOKE SET ON PARAMETER session_replication_role FROM {}"


def check(ids: Sequence[int]) -> str:
    """Return the statement that checks rows of these sources, as the write path does."""
    codes = '{"app_status": {"table": "error_codes", "keys": [0]}}'
    listed = ",".join(map(str, ids))
    return f"SELECT receiver_check_references('app_logs', '{codes}', '{{{listed}}}')"


def batch(start: int, sources: Sequence[Source]) -> list[Row]:
    return [row(who, NOW + start + number) for number in range(FEWEST) for who in sources]


async def found_in(settings: Settings) -> str:
    """Return the findings of doctor about a database, as lines."""
    return "\n".join([finding.found async for _, finding in diagnose(settings)])


async def places_to_grant(settings: Settings) -> set[str]:
    """Return where doctor says to grant the right to check references at once."""
    advice = [finding.advice async for _, finding in diagnose(settings)]
    found = (re.match(r"on (.+): GRANT SET ON PARAMETER", line) for line in advice)
    return {match[1] for match in found if match}


@asynccontextmanager
async def rolled_back(database: Database, first: str = "") -> AsyncIterator[asyncpg.Connection]:
    """Open a transaction that is rolled back."""
    with suppress(ZeroDivisionError):
        async with database.transaction(first) as session:
            yield session
            raise ZeroDivisionError


@pytest.mark.parametrize("retention", [None, "365d"], ids=["", "parts by time"])
async def test_each_node_leaves_out_the_checks_of_rows(
    make_settings: MakeSettings, empty_database_url: str, retention: str | None
) -> None:
    settings = make_settings(database_url=empty_database_url, shards=4, retention=retention)
    await migrate(settings)
    async with opened_database(settings) as database:
        who = [source(str(number)) for number in range(8)]
        rows = batch(0, who)
        await Writer(database, CATALOGUE).write(contents(*rows))
        ids = [one.id for one in who if one.id is not None]
        # Unknown codes are no longer looked up.
        async with rolled_back(database, check(ids)) as session:
            assert (await find_parts(session, "app_logs") is None) == (retention is None)
            assert await session.execute(UNKNOWN, ids) == f"INSERT 0 {len(ids)}"
        async with rolled_back(database) as session:
            # Errors of a COPY to a node have no SQLSTATE of their own.
            with pytest.raises(asyncpg.InternalServerError, match="violates foreign key"):
                await session.execute(UNKNOWN, ids)
        async with database.transaction() as session:
            assert await count(session, "app_logs") == len(rows)
        assert ONCE in await found_in(settings)


async def test_a_role_that_may_not_on_a_node_checks_each_row(
    make_settings: MakeSettings, empty_database_url: str
) -> None:
    await migrate(make_settings(database_url=empty_database_url))
    workers = await find_workers(empty_database_url)
    nodes = [on_node(empty_database_url, *worker) for worker in workers]
    async with plain_role(empty_database_url) as role:
        await run(
            empty_database_url,
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON sources, error_codes, planned_stops, "
            f"state_comments, app_logs, pending_rows, rejected_samples, source_keys TO {role}",
            f"GRANT SELECT ON receiver_schema_version, receiver_tables TO {role}",
        )
        settings = make_settings(database_url=as_role(empty_database_url, role))
        places = {"the coordinator", *(f"node {host}:{port}" for host, port in workers)}
        assert await places_to_grant(settings) == places
        await run(empty_database_url, GRANT.format(role))
        assert await places_to_grant(settings) == places - {"the coordinator"}
        async with opened_database(settings) as database:
            writer, who = Writer(database, CATALOGUE), [source(str(number)) for number in range(8)]
            found = await found_in(settings)
            for host, port in workers:
                assert f"checked row by row: node {host}:{port}: " in found
            assert ONCE not in found
            await writer.write(contents(*batch(0, who)))
            for node in nodes:
                await run(node, GRANT.format(role))
            assert ONCE in await found_in(settings)
            await writer.write(contents(*batch(FEWEST, who)))
            ids = [one.id for one in who if one.id is not None]
            async with rolled_back(database, check(ids)) as session:
                await session.execute(UNKNOWN, ids)
            async with database.transaction() as session:
                assert await count(session, "app_logs") == 2 * FEWEST * len(who)
        for url in (empty_database_url, *nodes):
            await run(url, REVOKE.format(role))


async def test_a_source_that_is_gone_is_not_the_fault_of_its_rows(
    make_settings: MakeSettings, empty_database_url: str
) -> None:
    """Otherwise their samples would be rejected, and lost."""
    settings = make_settings(database_url=empty_database_url)
    await migrate(settings)
    async with opened_database(settings) as database:
        insert = f"{INSERT} SELECT now(), (entry ->> 0)::int, 0, now() FROM unnest($1) AS entry"
        async with database.transaction() as session:
            with pytest.raises(ConflictingTransactionError):
                await run_for_each(session, "app_logs", insert, [[4711]])
