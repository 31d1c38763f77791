"""Findings of `receiver doctor` in real databases, and how it reports them."""

from __future__ import annotations

import json
import shutil
import tempfile
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from receiver.commands import doctor
from receiver.config.settings import Settings
from receiver.doctor import own
from receiver.embedded import EmbeddedPostgres
from receiver.storage import diagnosis
from receiver.storage.diagnosis import diagnose, timescale
from receiver.storage.diagnosis.findings import Finding, Level
from receiver.storage.schema import requirements
from receiver.storage.schema.revisions import migrate
from tests.conftest import MakeSettings
from tests.declaring import APP_LOGS, PRESSES, declare, with_columns
from tests.logs import stop_refreshing
from tests.not_on_citus import IS_CHOSEN
from tests.receivers import receiving
from tests.roles import as_role, execute, plain_role, run_script
from tests.timescale import require_timescaledb
from tests.waiting import until

Found = dict[str, list[Finding]]
Tell = Callable[..., Awaitable[int]]
SOURCE = "INSERT INTO sources (labels, digest) VALUES ('{}', '');"
ROW = SOURCE + "INSERT INTO app_logs (created_at, app_status, ocr_value, source_id)"
WAITING = SOURCE + (
    "INSERT INTO pending_rows (created_at, arrived_at, source_id, samples, table_name)"
)
REJECT = SOURCE + (
    "INSERT INTO rejected_samples "
    "(source_id, metric, timestamp_ms, value, reason, rejected_at, table_name)"
)
STATUS = """'{"app_status": "0"}', 'app_logs'"""
MY_SOURCE = "(SELECT id FROM sources LIMIT 1)"


async def found_in(settings: Settings) -> Found:
    found: Found = {}
    async for topic, finding in diagnose(settings):
        found.setdefault(topic, []).append(finding)
    return found


def worst(findings: list[Finding]) -> Level:
    return max((finding.level for finding in findings), key=list(Level).index)


LAST_RUNS = "SELECT count(*) FROM timescaledb_information.job_stats WHERE last_run_status <> ''"
PORTALS = (
    "SELECT count(*) FROM timescaledb_information.job_errors "
    "WHERE err_message LIKE 'cannot drop portal%'"
)


async def skip_without_timescaledb(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await require_timescaledb(connection)
    finally:
        await connection.close()


async def test_a_fresh_schema_gives_no_cause_to_act(
    database_url: str, make_settings: MakeSettings
) -> None:
    found = await found_in(make_settings(database_url=database_url))
    assert {topic: worst(findings) for topic, findings in found.items()}.items() >= {
        ("version", Level.OK),
        ("writable", Level.OK),
        ("durability", Level.OK),
        ("connections", Level.OK),
        ("vacuum", Level.OK),
        ("schema", Level.OK),
        ("rights", Level.OK),
        ("indexes", Level.OK),
        ("pending", Level.OK),
        ("rejected", Level.OK),
        ("codes", Level.OK),
        ("clock", Level.OK),
        ("rows", Level.NOTE),
    }
    # The schema does not determine whether TimescaleDB's own jobs succeed: some versions fail.
    del found.get("policies", [])[1:]
    found.pop("faults", None)
    assert all(worst(findings) in {Level.OK, Level.NOTE} for findings in found.values()), found


FAULTS = [
    ("INSERT INTO error_codes VALUES (7, 'UNREGISTERED_7')", "codes", Level.NOTE, ": 7"),
    (f"{ROW} SELECT now(), 0, now(), {MY_SOURCE}", "rows", Level.OK, "s old"),
    (f"{ROW} SELECT now() - interval '3h', 0, now(), {MY_SOURCE}", "rows", Level.WARNING, "3h old"),
    (
        f"{ROW} SELECT now() + i * interval '1h', 0, now(), {MY_SOURCE} "
        "FROM generate_series(0, 2) AS i",
        "rows",
        Level.WARNING,
        "in the future: 2, the newest by ",
    ),
    (
        f"{ROW} SELECT '290000-01-01', 0, now(), {MY_SOURCE}",
        "rows",
        Level.WARNING,
        "in the future: 1, the newest by ",
    ),
    (
        f"{ROW} SELECT now(), 0, to_timestamp(EXTRACT(EPOCH FROM now()) * 1000), {MY_SOURCE}",
        "unit",
        Level.PROBLEM,
        "RECEIVER_OCR_UNIT=milliseconds",
    ),
    (f"{ROW} SELECT now(), 0, now() - interval '1h', {MY_SOURCE}", "unit", Level.OK, "seconds"),
    (
        f"{WAITING} SELECT now(), now(), {MY_SOURCE}, {STATUS}",
        "pending",
        Level.OK,
        "; they lack ocr_value (1) →",
    ),
    (
        f"{WAITING} SELECT now(), now() - interval '10m', {MY_SOURCE}, {STATUS}",
        "pending",
        Level.WARNING,
        "→ the metrics of a row must have the same labels",
    ),
    (
        f"{WAITING} SELECT now(), now() - interval '3h', {MY_SOURCE}, {STATUS}",
        "pending",
        Level.WARNING,
        "is `receiver serve` running",
    ),
    (
        f"{WAITING} SELECT now(), now(), {MY_SOURCE}, '{{}}', 'other'",
        "pending",
        Level.WARNING,
        "; the table is no longer declared",
    ),
    (
        f"{REJECT} SELECT {MY_SOURCE}, 'app_status', i, i, 'conflict', now(), "
        f"'app_logs' FROM generate_series(1, 3) AS i UNION ALL SELECT {MY_SOURCE}, 'ocr_value', 1, "
        "1, 'out_of_range', now(), 'app_logs'",
        "rejected",
        Level.WARNING,
        "3 conflict, 1 out_of_range (4 in all) → two senders",
    ),
    (
        f"{REJECT} SELECT {MY_SOURCE}, 'a', 1, 1, 'conflict', now() - interval '2 days', 'x'",
        "rejected",
        Level.OK,
        "(1 in all)",
    ),
    (
        f"{REJECT} SELECT {MY_SOURCE}, 'a', 1, 1, 'unpaired', now(), 'other'",
        "rejected",
        Level.WARNING,
        "in the last day: 1 unpaired of other (1 in all)",
    ),
    (
        "DROP VIEW app_logs_now; DROP FUNCTION app_logs_intervals_between",
        "tables",
        Level.WARNING,
        "are gone or lack columns: app_logs_now, app_logs_intervals_between",
    ),
    (
        "ALTER TABLE app_logs RENAME COLUMN app_status TO status",
        "tables",
        Level.NOTE,
        'ALTER TABLE "app_logs" ADD COLUMN "app_status" integer',
    ),
    (
        "UPDATE receiver_tables SET digest = '', declared_by = 'her@office', "
        "declaration = jsonb_set(declaration, '{tables,app_logs,columns,ocr_value,metric}', "
        "'\"t\"')",
        "declaration",
        Level.WARNING,
        "column app_logs.ocr_value has metric t in the database, ocr_value in this receiver",
    ),
    (
        "DELETE FROM receiver_tables",
        "declaration",
        Level.PROBLEM,
        "no declaration of tables is in force → run `receiver migrate`",
    ),
    (
        "DROP INDEX app_logs_created_at_idx",
        "indexes",
        Level.PROBLEM,
        '→ CREATE INDEX ON "app_logs" (created_at)',
    ),
    (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'pending_rows_pkey'::regclass",
        "indexes",
        Level.PROBLEM,
        "REINDEX INDEX CONCURRENTLY pending_rows_pkey",
    ),
    (
        "UPDATE receiver_schema_version SET version_num = '9999'",
        "schema",
        Level.PROBLEM,
        "install a newer receiver",
    ),
    (
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', "
        "current_database()); END $$",
        "writable",
        Level.PROBLEM,
        "read-only by default",
    ),
    (
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 3', current_database()); "
        "END $$",
        "connections",
        Level.PROBLEM,
        "3 left; a receiver takes up to 5",
    ),
]


@pytest.mark.parametrize(("fault", "topic", "level", "message"), FAULTS)
async def test_a_fault_is_found(
    database_url: str,
    make_settings: MakeSettings,
    fault: str,
    topic: str,
    level: Level,
    message: str,
) -> None:
    await execute(database_url, fault)
    found = await found_in(make_settings(database_url=database_url))
    text = " | ".join(f"{finding.found} → {finding.advice}" for finding in found[topic])
    assert message in text
    assert worst(found[topic]) is level


async def test_every_declared_table_is_looked_at(
    database_url: str, connection: asyncpg.Connection, make_settings: MakeSettings
) -> None:
    settings = declare(make_settings, database_url, app_logs=APP_LOGS, **{"Press Line": PRESSES})
    found = await found_in(settings)
    (finding,) = found["tables"]
    assert finding.level is Level.NOTE
    assert 'CREATE TABLE "press_states"' in finding.found
    # What is missing only because it is new is reported once.
    assert "does not exist" not in str(found)
    assert Level.PROBLEM not in map(worst, found.values())
    left_to_others = settings.model_copy(update={"migrate_on_start": False})
    found = await found_in(left_to_others)
    for topic in ("tables", "declaration"):
        assert worst(found[topic]) is Level.PROBLEM
    await migrate(settings)
    await run_script(
        connection,
        f"""
        {SOURCE}
        INSERT INTO press_states VALUES (7, 'UNREGISTERED_7');
        INSERT INTO "Press Line" (created_at, pressure, state, source_id)
        SELECT now() - INTERVAL '2 hours', 1, 7, id FROM sources;
        DROP INDEX "Press Line_created_at_idx"
        """,
    )
    found = await found_in(settings)
    text = {
        topic: " | ".join(f"{finding.found} → {finding.advice}" for finding in findings)
        for topic, findings in found.items()
    }
    assert "with their columns and views: Press Line, app_logs" in text["tables"]
    advice = "receiver codes rename CODE NAME [DESCRIPTION] --table press_states"
    assert f"codes of press_states without a name: 7 → {advice}" in text["codes"]
    assert "the newest row of Press Line is 2h old" in text["rows"]
    assert "app_logs has no rows yet" in text["rows"]
    assert 'CREATE INDEX ON "Press Line" (created_at)' in text["indexes"]
    assert "this receiver's" in text["declaration"]
    changed = with_columns(PRESSES, strokes={"metric": "s", "type": "double"})
    (finding,) = (await found_in(declare(make_settings, database_url, **{"Press Line": changed})))[
        "tables"
    ]
    assert finding.level is Level.PROBLEM
    assert "column strokes of table Press Line is bigint" in finding.found
    assert 'RENAME COLUMN "strokes" TO "strokes_old"' in finding.advice


async def test_each_worker_takes_connections(
    database_url: str, make_settings: MakeSettings
) -> None:
    settings = make_settings(database_url=database_url, workers=1000, writers=3)
    (finding,) = (await found_in(settings))["connections"]
    assert finding.level is Level.PROBLEM
    assert "takes up to 5000" in finding.found


async def test_seconds_read_as_milliseconds(database_url: str, make_settings: MakeSettings) -> None:
    early = "to_timestamp(EXTRACT(EPOCH FROM now()) / 1000)"
    await execute(database_url, f"{ROW} SELECT now(), 0, {early}, {MY_SOURCE}")
    found = await found_in(make_settings(database_url=database_url, ocr_unit="milliseconds"))
    assert "RECEIVER_OCR_UNIT=seconds" in found["unit"][0].advice


@pytest.mark.parametrize(
    ("migrates", "level", "advice"),
    [(True, Level.NOTE, "at start"), (False, Level.PROBLEM, "run `receiver migrate`")],
)
async def test_no_tables_yet(
    empty_database_url: str,
    make_settings: MakeSettings,
    *,
    migrates: bool,
    level: Level,
    advice: str,
) -> None:
    settings = make_settings(database_url=empty_database_url, migrate_on_start=migrates)
    found = await found_in(settings)
    (finding,) = found["schema"]
    assert (finding.level, advice in finding.advice) == (level, True)
    assert "rows" not in found


async def test_another_applications_tables_are_named_and_not_looked_into(
    empty_database_url: str, make_settings: MakeSettings
) -> None:
    await execute(empty_database_url, "CREATE TABLE app_logs (); CREATE TABLE error_codes ()")
    found = await found_in(make_settings(database_url=empty_database_url))
    (finding,) = found["schema"]
    assert finding.level is Level.PROBLEM
    assert "has app_logs, error_codes of another application" in finding.found
    assert "rows" not in found


async def test_what_may_not_be_looked_at_hides_nothing_else(
    database_url: str, make_settings: MakeSettings
) -> None:
    async with plain_role(database_url) as role:
        await execute(
            database_url,
            "REVOKE SELECT ON pg_settings FROM PUBLIC",
            f"GRANT SELECT ON error_codes, app_logs, receiver_schema_version TO {role}",
        )
        found = await found_in(make_settings(database_url=as_role(database_url, role)))
    for topic in ("writable", "pending"):
        (finding,) = found[topic]
        assert finding.level is Level.WARNING
        assert "could not be checked: the database answered: permission denied" in finding.found
    (rights,) = found["rights"]
    assert rights.level is Level.PROBLEM
    assert "DELETE on pending_rows" in rights.found
    grant = f'let the owner run GRANT SELECT, INSERT, UPDATE, DELETE ON "app_logs" TO {role}'
    assert grant in [finding.advice for finding in found["writing"]]
    assert worst(found["rows"]) is Level.NOTE


async def test_roles_that_read_rows_but_no_reports_are_named(
    database_url: str, make_settings: MakeSettings
) -> None:
    async with plain_role(database_url) as role:
        await execute(
            database_url,
            f"GRANT SELECT ON app_logs, code_classes, report_settings, report_shifts, "
            f"report_holidays, planned_stops, state_comments, report_ranges TO {role}",
        )
        _, reader = (await found_in(make_settings(database_url=database_url)))["rights"]
        assert reader.level is Level.NOTE
        keys = ", source_keys" if IS_CHOSEN else ""
        lacking = f"receiver_tables, report_days, report_changes{keys}"
        assert reader.advice == f"GRANT SELECT ON {lacking} TO {role}"
        await execute(database_url, reader.advice)
        (_,) = (await found_in(make_settings(database_url=database_url)))["rights"]


async def test_a_check_over_which_the_server_ends_the_session_stops_no_other(
    database_url: str, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def end(connection: asyncpg.Connection, _: Settings) -> list[Finding]:
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return []

    monkeypatch.setitem(diagnosis.ALWAYS, "ending", end)
    found = await found_in(make_settings(database_url=database_url))
    (finding,) = found["ending"]
    assert "could not be checked: the database answered: connection was closed" in finding.found
    assert worst(found["rights"]) is Level.OK


async def test_looking_changes_nothing(
    database_url: str, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def meddle(connection: asyncpg.Connection, _: Settings) -> list[Finding]:
        await connection.execute("DELETE FROM error_codes")
        return []

    monkeypatch.setitem(diagnosis.ALWAYS, "meddling", meddle)
    found = await found_in(make_settings(database_url=database_url))
    assert "cannot execute DELETE in a read-only transaction" in found["meddling"][0].found


async def test_a_database_that_cannot_be_reached(make_settings: MakeSettings) -> None:
    found = await found_in(make_settings(database_url="postgresql://u:hunter2@127.0.0.1:1/d"))
    ((finding,),) = found.values()
    assert finding.level is Level.PROBLEM
    assert "cannot be reached" in finding.found


# --- TimescaleDB ----------------------------------------------------------------------------------


async def test_whether_jobs_fail_is_known_by_the_versions(
    database_url: str, connection: asyncpg.Connection, make_settings: MakeSettings
) -> None:
    """The known versions agree with how TimescaleDB's jobs behave on this server."""
    await skip_without_timescaledb(database_url)

    async def has_run() -> bool:
        return bool(await connection.fetchval(LAST_RUNS))

    await until(has_run, 60)
    failed = bool(await connection.fetchval(PORTALS))
    found = await found_in(make_settings(database_url=database_url))
    assert any("cannot drop portal" in finding.found for finding in found["faults"]) is failed


async def test_without_policies(database_url: str, make_settings: MakeSettings) -> None:
    await skip_without_timescaledb(database_url)
    found = await found_in(make_settings(database_url=database_url))
    (finding,) = found["hypertable"]
    assert "is a hypertable with 0 chunks" in finding.found
    assert worst(found["timescaledb"]) is Level.OK


async def test_policies_and_their_jobs(database_url: str, make_settings: MakeSettings) -> None:
    await skip_without_timescaledb(database_url)
    await execute(
        database_url,
        "SELECT remove_compression_policy('app_logs', if_exists => true)",
        "SELECT remove_retention_policy('app_logs', if_exists => true)",
        "ALTER TABLE app_logs SET (timescaledb.compress, "
        "timescaledb.compress_segmentby = 'source_id, app_status')",
        "SELECT alter_job(add_compression_policy('app_logs', interval '9 days'), "
        "scheduled => false)",
        "SELECT alter_job(add_retention_policy('app_logs', interval '3 years'), "
        "scheduled => false)",
    )
    found = await found_in(make_settings(database_url=database_url))
    summary, *others = found["policies"]
    assert "compression of app_logs: after 9 days, retention: after 3 years" in summary.found
    assert sum("is switched off" in finding.found for finding in others) == 2


async def test_a_job_of_a_continuous_aggregate(
    database_url: str, make_settings: MakeSettings
) -> None:
    await skip_without_timescaledb(database_url)
    await execute(
        database_url,
        "CREATE MATERIALIZED VIEW daily WITH (timescaledb.continuous) AS "
        "SELECT time_bucket('1 day', created_at) AS day, count(*) FROM app_logs GROUP BY 1 "
        "WITH NO DATA",
        "SELECT alter_job(add_continuous_aggregate_policy('daily', NULL, interval '1 hour', "
        "interval '1 hour'), scheduled => false)",
    )
    found = await found_in(make_settings(database_url=database_url))
    (switched_off,) = [f.found for f in found["policies"] if "is switched off" in f.found]
    assert "policy_refresh_continuous_aggregate" in switched_off


async def test_an_extension_that_the_server_does_not_load(
    database_url: str, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await skip_without_timescaledb(database_url)
    for module in (requirements, timescale):
        monkeypatch.setattr(module, "IS_LOADED", "SELECT false")
    found = await found_in(make_settings(database_url=database_url))
    assert worst(found["version"]) is Level.PROBLEM
    assert "but does not load it" in found["timescaledb"][0].found


async def test_the_apache_license(
    database_url: str, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await skip_without_timescaledb(database_url)
    monkeypatch.setattr(timescale, "LICENSE", "SELECT 'apache'")
    (finding,) = (await found_in(make_settings(database_url=database_url)))["policies"]
    assert finding.level is Level.NOTE
    assert "neither compression nor retention" in finding.found


async def test_a_job_that_fails(database_url: str, make_settings: MakeSettings) -> None:
    await skip_without_timescaledb(database_url)
    await execute(
        database_url,
        "CREATE PROCEDURE fail(job INT, config JSONB) LANGUAGE plpgsql "
        "AS $$ BEGIN RAISE EXCEPTION 'no paper'; END $$",
        "SELECT add_job('fail', interval '1h')",
    )

    async def failed() -> bool:
        found = await found_in(make_settings(database_url=database_url))
        return any(
            "fail of no table) failed when it last ran" in f.found for f in found["policies"]
        )

    await until(failed)


async def test_a_role_that_does_not_own_the_hypertable(
    database_url: str, make_settings: MakeSettings
) -> None:
    await skip_without_timescaledb(database_url)
    async with plain_role(database_url) as role:
        settings = make_settings(database_url=as_role(database_url, role))
        (finding,) = (await found_in(settings))["hypertable"]
        assert (finding.level, "does not own app_logs" in finding.found) == (Level.WARNING, True)
        left_to_others = settings.model_copy(update={"migrate_on_start": False})
        (finding,) = (await found_in(left_to_others))["hypertable"]
        assert finding.level is Level.OK


async def test_a_plain_table_beside_timescaledb(
    database_url: str, connection: asyncpg.Connection, make_settings: MakeSettings
) -> None:
    await skip_without_timescaledb(database_url)
    # A job that has just started would interfere.
    await stop_refreshing(connection)
    await execute(
        database_url,
        "CREATE TABLE plain (LIKE app_logs INCLUDING ALL)",
        "DROP TABLE app_logs CASCADE",
        "ALTER TABLE plain RENAME TO app_logs",
    )
    found = await found_in(make_settings(database_url=database_url))
    (finding,) = found["hypertable"]
    assert (finding.level, "plain table" in finding.found) == (Level.WARNING, True)


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def tell() -> Tell:
    """Return a function that runs the command with these settings and arguments."""

    async def run(settings: Settings, *words: str) -> int:
        parser = ArgumentParser()
        doctor.add_arguments(parser)
        return await doctor.run(settings, parser.parse_args(words))

    return run


async def test_a_running_receiver_is_well(
    tell: Tell,
    database_url: str,
    make_settings: MakeSettings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = make_settings(database_url=database_url)
    async with receiving(settings) as receiver:
        listen = "{}:{}".format(*receiver.address)
        assert await tell(settings.model_copy(update={"listen": listen})) == 0
    out = capsys.readouterr().out
    assert f"ok       receiver: a receiver answers at http://{listen} and is ready\n" in out
    assert "note     rows: app_logs has no rows yet → " in out
    assert "problem" not in out


async def test_a_problem_is_the_exit_code(
    tell: Tell,
    database_url: str,
    make_settings: MakeSettings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await execute(database_url, "UPDATE receiver_schema_version SET version_num = '9999'")
    settings = make_settings(database_url=database_url)
    assert await tell(settings, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    (schema,) = [finding for finding in found if finding["topic"] == "schema"]
    assert schema["level"] == "problem"
    assert "9999" in schema["found"]


async def test_no_secret_is_shown(
    tell: Tell,
    make_settings: MakeSettings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = make_settings(
        database_url="postgresql://u:hunter2@127.0.0.1:1/d?sslmode=disable",
        database_password="hunter2",
    )
    monkeypatch.setenv("RECEIVER_DATABASE_PASSWORT", "hunter2")
    assert await tell(settings, "--prometheus", "http://u:hunter2@127.0.0.1:1") == 1
    shown = capsys.readouterr()
    assert "note     settings: RECEIVER_DATABASE_PASSWORT is not a setting" in shown.out
    assert "problem  prometheus: Prometheus cannot be reached" in shown.out
    assert "hunter2" not in shown.out + shown.err


@pytest.mark.parametrize("url", ["u:hunter2@h:9090", "http://u:hunter2@", "http://u:1@h:hunter2"])
async def test_a_wrong_url_of_prometheus_is_not_shown(
    tell: Tell, make_settings: MakeSettings, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        await tell(make_settings(), "--prometheus", url)
    shown = capsys.readouterr().err
    assert "must be a URL such as http://localhost:9090" in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    ("changed", "level", "message"),
    [
        ({}, Level.OK, "the settings are consistent"),
        ({"commit_timeout": "30s"}, Level.WARNING, "RECEIVER_COMMIT_TIMEOUT is 30s"),
        ({"pair_timeout": "1m"}, Level.WARNING, "RECEIVER_PAIR_TIMEOUT is 1m"),
    ],
)
async def test_settings_that_do_not_fit(
    make_settings: MakeSettings, changed: dict[str, str], level: Level, message: str
) -> None:
    (finding,) = await own.check_settings(make_settings(**changed))
    assert (finding.level, message in finding.found) == (level, True)


async def test_a_wrong_tables_file_is_named_once_and_a_line_for_each_fault(
    database_url: str,
    make_settings: MakeSettings,
    tell: Tell,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("tables: {sources: {}}")
    settings = make_settings(database_url=database_url, tables_file=file)
    assert await tell(settings) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("wrong.yaml")[2] for line in lines if "wrong.yaml" in line] == [
        " line 1: table sources: needs columns",
        " line 1: table sources: the receiver uses this name itself: choose another name",
    ]
    assert all(line.startswith("problem  settings: ") for line in lines if "wrong.yaml" in line)
    await tell(make_settings(database_url=database_url, tables_file=tmp_path / "none.yaml"))
    assert "problem  settings: cannot read " in capsys.readouterr().out


# --- the embedded database ------------------------------------------------------------------------


@pytest.fixture
def data_dir() -> Iterator[Path]:
    # Not tmp_path: if the tests run as root, PostgreSQL's user cannot access it.
    directory = Path(tempfile.mkdtemp(prefix="doctor-"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)


async def test_an_embedded_database_is_looked_at_but_not_made(
    tell: Tell,
    data_dir: Path,
    make_settings: MakeSettings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = make_settings(data_dir=data_dir)
    assert await tell(settings) == 0
    assert "note     database: RECEIVER_DATABASE_URL is not set" in capsys.readouterr().out
    assert not EmbeddedPostgres(data_dir).exists

    with EmbeddedPostgres(data_dir) as embedded:
        for name in ("fsync", "autovacuum"):
            await execute(embedded.url, f"ALTER SYSTEM SET {name} = off")
    assert await tell(settings) == 0
    out = capsys.readouterr().out
    assert "warning  durability: fsync = off: a crash can lose acknowledged rows" in out
    assert "warning  vacuum: autovacuum is off" in out
    assert EmbeddedPostgres(data_dir).running_url() is None
