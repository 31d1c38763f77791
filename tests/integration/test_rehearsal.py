"""Readiness, the metric, the log and doctor report whether rows can be stored."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import pytest

from receiver.config.settings import Settings
from receiver.storage.diagnosis.findings import Level
from tests.conftest import MakeSettings
from tests.integration.test_doctor import found_in
from tests.receivers import Point, Running, encode, receiving
from tests.roles import as_role, plain_role
from tests.waiting import until

NOW = 1_700_000_000_000
TRIGGER = (
    "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN PERFORM * FROM {use}; RETURN NEW; END';"
    "CREATE TRIGGER broken AFTER INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION broken()"
)
VIEWS = (
    "DROP VIEW app_status_now, app_status_intervals, app_status_hourly, app_logs_now, "
    "app_logs_intervals CASCADE;"
    "DROP FUNCTION app_status_intervals_between, app_logs_intervals_between;"
)
FIND_ROLE = """
SELECT rolname FROM pg_roles
WHERE rolname LIKE 'receiver_test_%' AND has_table_privilege(oid, 'app_logs', 'INSERT')
"""


def pair(moment: int, instance: str = "a", code: float = 0) -> list[Point]:
    return [
        ({"__name__": "app_status", "instance": instance}, NOW + moment, code),
        ({"__name__": "ocr_value", "instance": instance}, NOW + moment, NOW / 1000),
    ]


@pytest.fixture
async def settings(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> AsyncIterator[Settings]:
    async with plain_role(database_url) as role:
        await connection.execute(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
        )
        yield make_settings(
            database_url=as_role(database_url, role),
            migrate_on_start=False,
            maintenance_interval="100ms",
        )


async def database_up(receiver: Running) -> str:
    text = (await receiver.get("/metrics"))[1]
    (line,) = [line for line in text.splitlines() if line.startswith("receiver_database_up ")]
    return line.split()[1]


async def change(connection: asyncpg.Connection, statement: str) -> None:
    """Change the schema in one transaction; retry if the receiver's statements aborted it."""

    async def changed() -> bool:
        with suppress(asyncpg.DeadlockDetectedError):
            await connection.execute(statement)
            return True
        return False

    try:
        await until(changed)
    except asyncpg.PostgresError as error:
        if await connection.fetchval("SELECT to_regclass('timescaledb_information.hypertables')"):
            pytest.skip(f"TimescaleDB does not allow this change: {error}")
        raise


@pytest.mark.parametrize(
    ("breaks", "mends", "said"),
    [
        ("REVOKE INSERT ON app_logs FROM {role}", "GRANT INSERT ON app_logs TO {role}", "app_logs"),
        ("REVOKE INSERT ON sources FROM {role}", "GRANT INSERT ON sources TO {role}", "sources"),
        (
            "REVOKE SELECT ON sources FROM {role}",
            "GRANT SELECT ON sources TO {role}",
            "sources",
        ),
        (
            "REVOKE INSERT ON rejected_samples FROM {role}",
            "GRANT INSERT ON rejected_samples TO {role}",
            "rejected_samples",
        ),
        (
            "REVOKE DELETE ON pending_rows FROM {role}",
            "GRANT DELETE ON pending_rows TO {role}",
            "pending_rows",
        ),
        (
            "ALTER TABLE app_logs RENAME TO app_logs_2026",
            "ALTER TABLE app_logs_2026 RENAME TO app_logs",
            "app_logs",
        ),
        (
            "ALTER TABLE app_logs RENAME COLUMN ocr_value TO ocr_time",
            "ALTER TABLE app_logs RENAME COLUMN ocr_time TO ocr_value",
            "ocr_value",
        ),
        (
            f"{VIEWS} ALTER TABLE app_logs ALTER ocr_value TYPE TEXT",
            "ALTER TABLE app_logs ALTER ocr_value TYPE TIMESTAMPTZ USING ocr_value::timestamptz",
            "app_logs",
        ),
        (
            "ALTER TABLE app_logs DROP CONSTRAINT app_logs_pkey",
            "ALTER TABLE app_logs ADD PRIMARY KEY (source_id, created_at)",
            "unique index",
        ),
        (
            "ALTER TABLE app_logs DROP CONSTRAINT app_logs_pkey;"
            "ALTER TABLE app_logs ADD PRIMARY KEY (id, source_id, created_at)",
            "ALTER TABLE app_logs DROP CONSTRAINT app_logs_pkey;"
            "ALTER TABLE app_logs ADD PRIMARY KEY (source_id, created_at)",
            "unique index",
        ),
        (
            "ALTER TABLE error_codes RENAME COLUMN description TO text",
            "ALTER TABLE error_codes RENAME COLUMN text TO description",
            "description",
        ),
    ],
)
async def test_what_keeps_rows_from_being_stored_is_told_everywhere(
    settings: Settings,
    connection: asyncpg.Connection,
    caplog: pytest.LogCaptureFixture,
    breaks: str,
    mends: str,
    said: str,
) -> None:
    caplog.set_level(logging.INFO)
    role = await connection.fetchval(FIND_ROLE)
    async with receiving(settings) as receiver:
        await receiver.send(*pair(0))
        await change(connection, breaks.format(role=role))

        async def noticed() -> bool:
            return not await receiver.ready()

        await until(noticed)
        status, text = await receiver.get("/-/ready")
        assert status == 503
        assert said in text
        assert (await receiver.post(encode(pair(1, "b", code=7))))[0] == 503
        assert await database_up(receiver) == "0.0"
        problems = [
            finding
            for findings in (await found_in(settings)).values()
            for finding in findings
            if finding.level is Level.PROBLEM
        ]
        assert any(said in finding.found + finding.advice for finding in problems), problems
        assert all(finding.advice or "GRANT" in finding.found for finding in problems)
        await connection.execute(mends.format(role=role))
        await until(receiver.ready)
        await receiver.send(*pair(1, "b", code=7))
        assert await database_up(receiver) == "1.0"
    assert caplog.text.count("no row can be stored") == 1
    assert "rows can be stored again" in caplog.text
    assert await connection.fetchval("SELECT count(*) FROM app_logs") == 2


@pytest.mark.parametrize("table", ["sources", "app_logs", "rejected_samples"])
@pytest.mark.parametrize("use", ["nowhere", "not_for_all"])
async def test_a_trigger_that_fails_for_every_row_keeps_all_from_being_stored(
    settings: Settings,
    connection: asyncpg.Connection,
    caplog: pytest.LogCaptureFixture,
    table: str,
    use: str,
) -> None:
    caplog.set_level(logging.INFO)
    await connection.execute("CREATE TABLE not_for_all ()")
    await connection.execute(TRIGGER.format(table=table, use=use))
    async with receiving(settings) as receiver:
        rejected = {"__name__": "app_status", "instance": "c"}, NOW, 0.5
        body = encode([*pair(1), rejected])
        for _ in range(2):
            assert (await receiver.post(body))[0] == 503
            status, text = await receiver.get("/-/ready")
            assert status == 503
            assert f"{table}: " in text
            assert use in text
        assert await database_up(receiver) == "0.0"
        await connection.execute(f"DROP TRIGGER broken ON {table}")
        await until(receiver.ready)
        assert (await receiver.post(body))[0] == 204
    assert caplog.text.count("no row can be stored") == 1
    assert await connection.fetchval("SELECT count(*) FROM app_logs") == 1
    assert await connection.fetchval("SELECT count(*) FROM rejected_samples") == 1
    assert await connection.fetchval("SELECT count(*) FROM pending_rows") == 0
    assert await connection.fetchval("SELECT count(*) FROM sources") == 2


@pytest.mark.parametrize(
    "statement",
    [
        f"{VIEWS} ALTER TABLE app_logs ALTER app_status TYPE BIGINT",
        f"{VIEWS} ALTER TABLE app_logs ALTER source_id TYPE BIGINT;"
        "ALTER TABLE sources ALTER id TYPE BIGINT",
        "ALTER TABLE app_logs ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY everything ON app_logs USING (true) WITH CHECK (true)",
        "CREATE RULE audit AS ON INSERT TO app_logs DO ALSO NOTHING",
        "CREATE TABLE audit (x INT); GRANT INSERT ON audit TO PUBLIC;"
        "CREATE RULE audit AS ON INSERT TO app_logs WHERE NEW.app_status <> 0 "
        "DO ALSO INSERT INTO audit VALUES (1)",
        "CREATE RULE audit AS ON INSERT TO error_codes DO ALSO NOTHING",
        "CREATE RULE audit AS ON INSERT TO sources DO ALSO NOTHING",
        "CREATE RULE audit AS ON INSERT TO rejected_samples DO ALSO NOTHING",
        "ALTER TABLE app_logs ADD COLUMN note TEXT, ADD COLUMN site TEXT NOT NULL DEFAULT 'x'",
        "ALTER TABLE app_logs ADD day DATE "
        "GENERATED ALWAYS AS ((created_at AT TIME ZONE 'UTC')::date) STORED",
        "CREATE PUBLICATION everything FOR ALL TABLES",
        "ALTER TABLE app_logs RENAME TO old; CREATE TABLE app_logs (LIKE old INCLUDING ALL) "
        "PARTITION BY RANGE (created_at); CREATE TABLE part PARTITION OF app_logs "
        "FOR VALUES FROM ('2000-01-01') TO ('2100-01-01'); GRANT ALL ON app_logs TO PUBLIC",
    ],
)
async def test_where_rows_can_be_stored_they_are(
    settings: Settings, connection: asyncpg.Connection, statement: str
) -> None:
    async with receiving(settings) as receiver:
        await change(connection, statement)
        points = [
            *pair(1),
            *pair(2, "b", code=7),
            pair(3)[0],
            ({"__name__": "app_status", "instance": "c"}, NOW, 0.5),
        ]
        for body in (encode(points), encode(points), encode([pair(3)[1]])):
            assert (await receiver.post(body))[0] == 204
        assert await receiver.ready()
    assert await connection.fetchval("SELECT count(*) FROM app_logs") == 3
    assert await connection.fetchval("SELECT count(*) FROM rejected_samples") == 1
    assert await connection.fetchval("SELECT count(*) FROM pending_rows") == 0


async def test_rows_are_stored_again_though_the_row_that_is_tried_out_is_refused(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    await connection.execute("ALTER TABLE app_logs ADD CONSTRAINT odd CHECK (app_status <> 0)")
    role = await connection.fetchval(FIND_ROLE)
    async with receiving(settings) as receiver:
        await connection.execute(f"REVOKE INSERT ON app_logs FROM {role}")
        assert (await receiver.post(encode(pair(1, code=1))))[0] == 503
        assert not await receiver.ready()
        await connection.execute(f"GRANT INSERT ON app_logs TO {role}")
        await until(receiver.ready)
        await receiver.send(*pair(1, code=1))
    assert await connection.fetchval("SELECT count(*) FROM app_logs") == 1


async def test_a_column_that_takes_no_row_is_named(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "ALTER TABLE app_logs ADD site TEXT NOT NULL DEFAULT 'x';"
        "ALTER TABLE app_logs ALTER site DROP DEFAULT"
    )
    (finding,) = (await found_in(settings))["writing"]
    assert finding.level is Level.PROBLEM
    assert "app_logs.site is NOT NULL without a default" in finding.found
