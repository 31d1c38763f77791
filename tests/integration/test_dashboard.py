"""Every query of the dashboard: those to the database by the role that Grafana has, on the real
schema; those to Prometheus by the names that a running receiver exposes.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
import yaml

from receiver.embedded.programs import BINARIES, find_package
from tests.conftest import MakeSettings
from tests.grafana import DASHBOARD, REPORT, ROOT, Query, Range, find_query, queries, substitute
from tests.logs import START, add_logs, add_sources, has_timescaledb, logs, seconds
from tests.receivers import receiving
from tests.roles import as_role
from tests.waiting import until

PSQL = find_package() / BINARIES / "psql"
SQL_QUERIES = list(queries("grafana-postgresql-datasource"))
HOUR = Range(START - timedelta(minutes=10), START + timedelta(minutes=50))


def make_role(database_url: str, role: str, script: Path) -> None:
    """Run the script that creates Grafana's role, as the stack does, for another role name."""
    script.write_text((ROOT / "deploy/grafana/role.sql").read_text().replace("grafana", role))
    subprocess.run(
        [PSQL, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={script}", database_url],
        env={**os.environ, "GRAFANA_PASSWORD": "it's secret"},
        check=True,
    )


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect as the owner to a database in which cam-1 failed twice and cam-2 fell silent."""
    connection = await asyncpg.connect(database_url)
    await add_sources(connection, 3)
    await add_logs(
        connection,
        logs(1, [0, 0, 2, 2, 0, 1, 0])
        + logs(2, [0] * 4)
        + logs(2, [0], start=START + seconds(600)),
    )
    await connection.execute(
        "INSERT INTO rejected_samples (source_id, metric, timestamp_ms, value, reason, rejected_at,"
        " table_name) VALUES (1, 'app_status', 0, 'NaN', 'not_a_number', $1, 'app_logs')",
        START,
    )
    yield connection
    await connection.close()


@pytest.fixture
async def grafana(
    owner: asyncpg.Connection, database_url: str, tmp_path: Path
) -> AsyncIterator[asyncpg.Connection]:
    """Connect as Grafana's role; the script runs twice, as it does at each start of the stack."""
    role = f"receiver_test_{secrets.token_hex(6)}"
    for _ in range(2):
        make_role(database_url, role, tmp_path / "role.sql")
    connection = await asyncpg.connect(as_role(database_url, role))
    yield connection
    await connection.close()
    await owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def show(grafana: asyncpg.Connection, panel: str, ref: str = "A") -> list[asyncpg.Record]:
    """Return the rows that a panel shows for the hour."""
    rows: list[asyncpg.Record] = await grafana.fetch(substitute(find_query(panel, ref), HOUR))
    return rows


@pytest.mark.parametrize("query", SQL_QUERIES, ids=lambda query: query.name)
@pytest.mark.parametrize("sources", ["SELECT id FROM sources", "'1','2'"], ids=["all", "two"])
async def test_every_query_runs(grafana: asyncpg.Connection, query: Query, sources: str) -> None:
    sql = substitute(
        query.target["rawSql"],
        HOUR,
        sources=sources,
        timescaledb=await has_timescaledb(grafana),
    )
    assert "$" not in sql
    rows = await grafana.fetch(sql)
    assert rows
    if query.target["format"] == "time_series":
        assert list(rows[0].keys()) == ["time", "metric", "delay"]
        assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)


async def test_the_variable_lists_the_sources(grafana: asyncpg.Connection) -> None:
    (variable,) = DASHBOARD["templating"]["list"]
    rows = await grafana.fetch(variable["query"])
    assert [(row["__text"], row["__value"]) for row in rows] == [
        ("cam-1 #1", "1"),
        ("cam-2 #2", "2"),
        ("cam-3 #3", "3"),
    ]


async def test_states_follow_each_other_and_end_where_nobody_knows(
    grafana: asyncpg.Connection,
) -> None:
    rows = await show(grafana, "State of each source")
    shown = [((row["time"] - START).total_seconds(), row["source"], row["Value"]) for row in rows]
    assert [edge for edge in shown if edge[1] == "cam-1 #1"] == [
        (0, "cam-1 #1", 0),
        (10, "cam-1 #1", 2),
        (20, "cam-1 #1", 0),
        (25, "cam-1 #1", 1),
        (30, "cam-1 #1", 0),
        (35, "cam-1 #1", None),
    ]
    assert [edge for edge in shown if edge[1] == "cam-2 #2"] == [
        (0, "cam-2 #2", 0),
        (20, "cam-2 #2", None),
        (600, "cam-2 #2", 0),
        (605, "cam-2 #2", None),
    ]


async def test_a_state_that_goes_on_has_no_end(
    owner: asyncpg.Connection, grafana: asyncpg.Connection
) -> None:
    now = await owner.fetchval("SELECT now()")
    await add_logs(owner, logs(3, [1, 1], start=now - seconds(8)))
    shown = Range(now - timedelta(hours=1), now)
    rows = await grafana.fetch(substitute(find_query("State of each source"), shown))
    assert [(row["source"], row["Value"]) for row in rows] == [("cam-3 #3", 1)]


async def test_every_code_has_a_name_and_ok_alone_is_green(grafana: asyncpg.Connection) -> None:
    rows = await show(grafana, "State of each source", "names")
    assert [(row["code"], row["name"]) for row in rows][:2] == [("0", "OK"), ("1", "DB_ERROR")]
    assert [row["code"] for row in rows if row["color"] == "green"] == ["0"]
    assert len({row["color"] for row in rows}) == len(rows)


async def test_errors_are_named(grafana: asyncpg.Connection) -> None:
    rows = await show(grafana, "Errors")
    assert [
        (row["source"], row["code"], row["error"], float(row["duration"]), row["rows"])
        for row in rows
    ] == [("cam-1 #1", 1, "DB_ERROR", 5, 1), ("cam-1 #1", 2, "NETWORK_ERROR", 10, 2)]
    assert rows[1]["description"] == "네트워크 장애"


async def test_the_delay_is_what_it_is(grafana: asyncpg.Connection) -> None:
    rows = await show(grafana, "OCR delay")
    assert {float(row["delay"]) for row in rows} == {1}


async def test_what_is_set_aside_is_counted_by_reason(grafana: asyncpg.Connection) -> None:
    (row,) = await show(grafana, "Rejected samples by reason")
    assert (row["reason"], row["source"], row["samples"]) == ("not_a_number", "cam-1 #1", 1)


REPORT_QUERIES = list(queries("grafana-postgresql-datasource", REPORT))
ALL = REPORT["templating"]["list"][1]["allValue"]


@pytest.mark.parametrize("query", REPORT_QUERIES, ids=lambda query: query.name)
@pytest.mark.parametrize("sources", [ALL, "'1','2'"], ids=["all", "two"])
async def test_every_query_of_the_report_runs(
    owner: asyncpg.Connection, grafana: asyncpg.Connection, query: Query, sources: str
) -> None:
    await owner.execute(
        "INSERT INTO report_shifts (name, starts, ends) VALUES ('day', '06:00', '18:00')"
    )
    await owner.execute(
        "INSERT INTO planned_stops (started_at, ended_at, reason) "
        "VALUES ($1::timestamptz, $1::timestamptz + INTERVAL '1 minute', 'a break')",
        START + seconds(60),
    )
    await owner.execute(
        "INSERT INTO state_comments VALUES ('app_logs', 1, $1, 'a switch')", START + seconds(10)
    )
    sql = substitute(query.target["rawSql"], HOUR, sources=sources)
    assert "$" not in sql
    assert await grafana.fetch(sql)


async def test_the_report_says_what_the_database_says(grafana: asyncpg.Connection) -> None:
    async def of(panel: str) -> list[asyncpg.Record]:
        sql = substitute(find_query(panel, dashboard=REPORT), HOUR, sources=ALL)
        rows: list[asyncpg.Record] = await grafana.fetch(sql)
        return rows

    assert [tuple(row) for row in await of("Failures")] == [(2,)]
    assert [float(row[0]) for row in await of("MTTR")] == [7.5]
    assert [
        (row["code"], row["times"], float(row["down"])) for row in await of("Downtime by code")
    ] == [
        (2, 1, 10),
        (1, 1, 5),
    ]
    assert {row["Value"] for row in await of("States")} == {"up", "down", "unknown"}


async def test_the_variables_of_the_report_have_values(grafana: asyncpg.Connection) -> None:
    found = {
        variable["name"]: [row["__value"] for row in await grafana.fetch(variable["query"])]
        for variable in REPORT["templating"]["list"]
    }
    assert found["table"] == ["app_logs"]
    assert found["by"] == ["source", "shift", "instance", "job"]
    assert found["source"] == ["1", "2", "3"]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM pending_rows",
        "SELECT * FROM backfills",
        "SELECT * FROM receiver_schema_version",
        "INSERT INTO error_codes VALUES (7, 'X')",
        "DELETE FROM app_logs",
    ],
)
async def test_the_role_may_do_nothing_else(grafana: asyncpg.Connection, statement: str) -> None:
    await grafana.execute("SET default_transaction_read_only = off")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await grafana.execute(statement)


async def test_the_role_has_its_password_and_its_limits(
    owner: asyncpg.Connection, grafana: asyncpg.Connection
) -> None:
    role = await grafana.fetchval("SELECT current_user")
    stored = await owner.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = $1", role)
    assert stored.startswith("SCRAM-SHA-256$")
    assert await grafana.fetchval("SHOW statement_timeout") == "30s"
    assert await grafana.fetchval("SHOW default_transaction_read_only") == "on"


def recorded_names() -> set[str]:
    """Return the metrics that the recording rules of the stack's Prometheus produce."""
    files = (ROOT / "deploy/prometheus/rules").glob("*.yml")
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}


async def test_every_expression_names_what_the_receiver_exposes(
    database_url: str, make_settings: MakeSettings
) -> None:
    settings = make_settings(database_url=database_url, maintenance_interval="100ms")
    async with receiving(settings) as receiver:
        # The last metric to appear, as it is queried from the database.
        async def complete() -> bool:
            return "receiver_pending_rows{" in (await receiver.get("/metrics"))[1]

        await until(complete)
        text = (await receiver.get("/metrics"))[1]
    exposed = set(re.findall(r"^(?:# TYPE )?(\w+)[{ ]", text, re.MULTILINE)) | recorded_names()
    for query in queries("prometheus"):
        named = re.findall(r"([a-zA-Z_:][\w:]*)\{", query.target["expr"])
        assert named, query.name
        assert set(named) <= exposed | {"up"}, query.name
