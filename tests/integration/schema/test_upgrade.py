"""Upgrades a database full of data from the release before declared tables."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from receiver.config.settings import Settings
from receiver.errors import SchemaError
from receiver.storage.schema.policies import set_up_policies
from receiver.storage.schema.revisions import (
    check_schema,
    known_revisions,
    migrate,
    plan,
    schema_transaction,
    upgrade,
)
from receiver.storage.schema.summary import set_up_summary
from tests.conftest import MakeSettings
from tests.logs import has_timescaledb, stop_refreshing
from tests.receivers import receiving
from tests.roles import as_role, plain_role
from tests.waiting import until

NOW = 1_700_000_000_000
FILL = """
INSERT INTO sources (labels, digest) VALUES
    ('{"instance": "a"}', decode('{digest}', 'hex')), ('{"instance": "b"}', 'b');
INSERT INTO error_codes (code, name, description) VALUES (7, 'STUCK', '멈춤');
UPDATE error_codes SET name = 'FINE' WHERE code = 0;
INSERT INTO app_logs (created_at, app_status, ocr_value, source_id)
SELECT now() - i * INTERVAL '10 minutes', i % 3, now() - i * INTERVAL '10 minutes', id
FROM generate_series(1, 300) AS i, sources WHERE id IN (1, 2);
INSERT INTO pending_halves (created_at, source_id, app_status, status_sample, arrived_at) VALUES
    (to_timestamp(1700000000), 1, 7, 7, now() - INTERVAL '1 minute'),
    (to_timestamp(1700000001), 1, 0, '-0', now() - INTERVAL '1 minute'),
    -- As an older release has left it.
    (to_timestamp(1700000002), 1, 2, NULL, now() - INTERVAL '1 minute');
INSERT INTO pending_halves (created_at, source_id, ocr_value, ocr_sample) VALUES
    (to_timestamp(1700000003), 2, '2023-11-14 22:13:20.3+00', 1700000000.3),
    (to_timestamp(1700000004), 2, '2000-01-01', 1e22),
    (to_timestamp(1700000005), 2, '2000-01-01', 5e-324);
INSERT INTO rejected_samples (source_id, metric, timestamp_ms, value, reason) VALUES
    (1, 'app_status', 1, 'NaN', 'not_a_number'), (2, 'ocr_value', 2, 'Infinity', 'infinite');
INSERT INTO rejected_samples
    (source_labels, source_digest, metric, timestamp_ms, value, reason, detail) VALUES
    ('{"instance": "c"}', 'c', 'app_status', 3, 0.5, 'too_many_new_sources', 'x');
INSERT INTO backfills (digest, source_url, start_ms, end_ms, done_ms) VALUES ('d', 'u', 1, 3, 2);
CREATE VIEW mine AS SELECT l.id, e.name FROM app_logs l JOIN error_codes e ON e.code = l.app_status;
CREATE VIEW my_now AS SELECT * FROM app_status_now;
CREATE TABLE notes (source_id INT, created_at TIMESTAMPTZ, note TEXT,
    FOREIGN KEY (source_id) REFERENCES sources);
COMMENT ON COLUMN app_logs.app_status IS 'mine';
"""
DIGEST = """
SELECT encode(sha256(convert_to('{"instance":"a"}', 'UTF8')), 'hex')
"""
KEPT = (
    "app_logs",
    "error_codes",
    "sources",
    "backfills",
    "mine",
    "my_now",
    "app_status_hourly",
)
VIEWS = """
SELECT c.oid, c.relname, pg_get_viewdef(c.oid), c.relacl::text FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind = 'v' AND c.relname !~ '^app_logs_|_intervals$'
ORDER BY c.relname
"""
JOBS = """
SELECT job_id, proc_name, hypertable_name, config::text FROM timescaledb_information.jobs ORDER BY 1
"""


async def to_revision_of_before(settings: Settings) -> None:
    """Migrate as the previous release did."""
    async with schema_transaction(settings) as connection:
        await upgrade(connection, "0006")
        await set_up_policies(connection, settings)
        await set_up_summary(connection)


@pytest.fixture
async def connection(
    empty_database_url: str, make_settings: MakeSettings
) -> AsyncIterator[asyncpg.Connection]:
    """Connect to a database of the previous release, with data in every table."""
    settings = make_settings(database_url=empty_database_url, retention="90d")
    await to_revision_of_before(settings)
    connection = await asyncpg.connect(empty_database_url, statement_cache_size=0)
    await stop_refreshing(connection)
    await connection.execute(FILL.replace("{digest}", await connection.fetchval(DIGEST)))
    yield connection
    await connection.close()


@pytest.fixture
def settings(empty_database_url: str, make_settings: MakeSettings) -> Settings:
    return make_settings(database_url=empty_database_url, retention="90d")


async def contents(connection: asyncpg.Connection) -> dict[str, list[Any]]:
    """Return the content of the user's tables and views, without ages and durations."""
    found = {}
    for name in KEPT:
        rows = await connection.fetch(
            f"SELECT to_jsonb(t) - 'age' - 'longest_outage' FROM {name} AS t"
        )
        found[name] = sorted(text for (text,) in rows)
    return found


async def test_everything_is_carried_over(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    before, views = await contents(connection), await connection.fetch(VIEWS)
    jobs = await connection.fetch(JOBS) if await has_timescaledb(connection) else []
    columns = "SELECT attname, attnotnull FROM pg_attribute WHERE attrelid = 'app_logs'::regclass"
    table = await connection.fetch(columns)
    await migrate(settings)
    assert await contents(connection) == before
    assert await connection.fetch(VIEWS) == views
    assert await connection.fetch(columns) == table
    if jobs:
        assert await connection.fetch(JOBS) == jobs
    await check_schema(settings)
    assert await plan(settings) == []


async def test_samples_that_wait_keep_their_exact_values(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    name = await connection.fetchval("SELECT quote_ident(current_database())")
    # Make sessions print numbers with fewer digits.
    await connection.execute(f"ALTER DATABASE {name} SET extra_float_digits = -10")
    arrived = "SELECT created_at, arrived_at FROM {} ORDER BY 1"
    before = await connection.fetch(arrived.format("pending_halves"))
    await migrate(settings)
    assert await connection.fetch(arrived.format("pending_rows")) == before
    rows = await connection.fetch(
        "SELECT table_name, EXTRACT(EPOCH FROM created_at)::int, source_id, samples, before "
        "FROM pending_rows ORDER BY created_at"
    )
    assert {(table, earlier) for table, _, _, _, earlier in rows} == {("app_logs", None)}
    samples = [(time - NOW // 1000, source, json.loads(came)) for _, time, source, came, _ in rows]
    assert samples == [
        (0, 1, {"app_status": "7"}),
        (1, 1, {"app_status": "-0"}),
        (2, 1, {"app_status": "2"}),
        (3, 2, {"ocr_value": "1700000000.3"}),
        (4, 2, {"ocr_value": "1e+22"}),
        (5, 2, {"ocr_value": "5e-324"}),
    ]
    assert await connection.fetchval("SELECT to_regclass('pending_halves')") is None


async def test_rejected_samples_name_their_table_and_are_kept_once(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    everything = "SELECT * FROM rejected_samples ORDER BY id"
    before = [dict(row) for row in await connection.fetch(everything)]
    await migrate(settings)
    after = [dict(row) for row in await connection.fetch(everything)]
    assert [{**row, "table_name": "app_logs", "column_name": None} for row in before] == [
        {**row, "value": before[place]["value"]} for place, row in enumerate(after)
    ]
    insert = (
        "INSERT INTO rejected_samples (source_id, source_labels, source_digest, metric, "
        "timestamp_ms, value, reason, table_name) SELECT source_id, source_labels, source_digest, "
        "metric, timestamp_ms, value, reason, $1 FROM rejected_samples WHERE table_name = "
        "'app_logs' ON CONFLICT DO NOTHING"
    )
    assert await connection.execute(insert, "app_logs") == "INSERT 0 0"
    assert await connection.execute(insert, "other") == "INSERT 0 3"
    await connection.execute("SET enable_seqscan = off")
    plan_ = await connection.fetch(
        "EXPLAIN SELECT FROM rejected_samples "
        "WHERE (source_id, metric, timestamp_ms) = (1, 'app_status', 1)"
    )
    assert "rejected_samples_with_source_key" in plan_[0][0]


async def test_a_sample_that_waited_becomes_part_of_a_row(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    async with receiving(settings) as receiver:
        await receiver.send(({"__name__": "ocr_value", "instance": "a"}, NOW, NOW / 1000))
        row = "SELECT app_status FROM app_logs WHERE created_at = to_timestamp(1700000000)"

        async def stored() -> bool:
            return bool(await connection.fetchval(row) == 7)

        await until(stored)
    assert await connection.fetchval("SELECT count(*) FROM pending_rows WHERE source_id = 1") == 2


async def test_whoever_had_rights_has_them_still(
    empty_database_url: str,
    make_settings: MakeSettings,
    settings: Settings,
    connection: asyncpg.Connection,
) -> None:
    async with plain_role(empty_database_url) as role:
        await connection.execute(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};"
            "REVOKE EXECUTE ON FUNCTION receiver_check_references, receiver_references_obstacle "
            f"FROM PUBLIC; GRANT EXECUTE ON FUNCTION receiver_references_obstacle TO {role}"
        )
        await migrate(settings)
        theirs = make_settings(database_url=as_role(empty_database_url, role))
        await check_schema(theirs)
        rights = "SELECT has_function_privilege($1, $2, 'EXECUTE')"
        for function, expected in (
            ("receiver_references_obstacle(text, jsonb)", True),
            ("receiver_check_references(text, jsonb, int[])", False),
        ):
            assert await connection.fetchval(rights, role, function) is expected
        for right in ("SELECT", "INSERT", "UPDATE", "DELETE"):
            have = "SELECT has_table_privilege($1, 'pending_rows', $2)"
            assert await connection.fetchval(have, role, right)
        have = "SELECT has_table_privilege($1, 'receiver_tables', 'UPDATE')"
        assert not await connection.fetchval(have, role)


async def test_a_view_of_the_users_on_what_waits_is_named(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    await connection.execute("CREATE VIEW waiting AS SELECT source_id FROM pending_halves")
    with pytest.raises(SchemaError, match="run DROP VIEW waiting first") as refused:
        await migrate(settings)
    assert "\n" not in str(refused.value)
    assert await connection.fetchval("SELECT count(*) FROM waiting") == 6
    await connection.execute("DROP VIEW waiting")
    await migrate(settings)


async def test_a_plan_names_the_revision_that_comes_first(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    first, *others = await plan(settings)
    missing = ", ".join(list(known_revisions())[6:])
    assert first == f"-- `receiver migrate` first applies revisions {missing}"
    assert not any(statement.startswith(("CREATE TABLE", "ALTER")) for statement in others)
    assert await connection.fetchval("SELECT version_num FROM receiver_schema_version") == "0006"
