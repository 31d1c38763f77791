"""The views of each table: the newest rows, and intervals of the same code."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from receiver.errors import NotAdditiveError
from receiver.storage.schema.revisions import migrate, plan
from tests.conftest import MakeSettings
from tests.declaring import PRESSES, columns_of, declare, schema_of, with_columns
from tests.logs import HAS_SUMMARY, add_logs, add_sources, refresh, stop_refreshing
from tests.logs import logs as scrapes

HEAT = {"metric": "heat", "type": "double"}
NEWEST = "SELECT source_id, created_at, app_status, ocr_value FROM {} ORDER BY source_id"
INTERVALS = "SELECT * FROM {} ORDER BY source_id, started_at"
PARTS = ("source_id", "app_status", "started_at", "ended_at", "rows", "ongoing")


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url, statement_cache_size=0)
    await stop_refreshing(connection)
    await add_sources(connection, 4)
    yield connection
    await connection.close()


async def parts(connection: asyncpg.Connection, query: str) -> list[tuple[object, ...]]:
    return [tuple(row[part] for part in PARTS) for row in await connection.fetch(query)]


async def test_the_views_of_app_logs_show_what_its_older_views_show(
    connection: asyncpg.Connection,
) -> None:
    now = datetime.now(UTC)
    await add_logs(
        connection,
        [
            *scrapes(1, [0, 0, 2, 2, 0], start=now - timedelta(minutes=5)),
            *scrapes(1, [99], start=now + timedelta(days=400)),
            *scrapes(2, [1, 1], start=now - timedelta(days=20)),
            *scrapes(2, [1], start=now - timedelta(days=19)),
            *scrapes(3, [99], start=now + timedelta(days=1)),
        ],
    )
    if await connection.fetchval(HAS_SUMMARY):
        # With TimescaleDB, the older view takes silent sources from the summary.
        await refresh(connection)
    newest = await connection.fetch(NEWEST.format("app_logs_now"))
    assert newest == await connection.fetch(NEWEST.format("app_status_now"))
    assert [row["source_id"] for row in newest] == [1, 2]
    for new, old in (
        ("app_logs_intervals", "app_status_intervals"),
        (
            "app_logs_intervals_between(now() - INTERVAL '19 days 1 minute', now())",
            "app_status_intervals_between(now() - INTERVAL '19 days 1 minute', now())",
        ),
    ):
        found = await parts(connection, INTERVALS.format(new))
        assert found == await parts(connection, INTERVALS.format(old))
        assert len(found) > 3


async def test_the_newest_row_is_shown_with_its_labels_and_names_of_codes(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    await migrate(declare(make_settings, database_url, presses=PRESSES))
    await connection.execute(
        """
        INSERT INTO press_states VALUES (7, 'STUCK', 'a sheet is stuck');
        INSERT INTO presses (created_at, line, pressure, state, source_id) VALUES
            (now() - INTERVAL '30 days', 'A', 0.5, 7, 1),
            (now() - INTERVAL '1 minute', 'B', 'NaN', 7, 2),
            (now() - INTERVAL '2 minutes', 'B', 1, 7, 2)
        """
    )
    first, second = await connection.fetch("SELECT * FROM presses_now ORDER BY source_id")
    assert json.loads(first["labels"])["instance"] == "cam-1"
    assert timedelta(days=29) < first["age"] < timedelta(days=31)
    assert tuple(first)[4:] == ("A", None, 0.5, 7, "STUCK", "a sheet is stuck", None)
    assert str(second["pressure"]) == "nan"


async def test_rows_without_a_code_are_in_no_interval_and_end_none(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    optional = {**PRESSES["columns"]["state"], "required": False}
    await migrate(
        declare(make_settings, database_url, presses=with_columns(PRESSES, state=optional))
    )
    await connection.execute(
        """
        INSERT INTO press_states VALUES (7, 'STUCK');
        INSERT INTO presses (created_at, pressure, state, source_id)
        SELECT now() - INTERVAL '1 hour' + place * INTERVAL '1 minute', 1, state, 1
        FROM unnest(ARRAY[7, NULL, 7, NULL]) WITH ORDINALITY AS row (state, place)
        """
    )
    (interval,) = await connection.fetch("SELECT * FROM presses_intervals")
    assert (interval["state"], interval["state_name"], interval["rows"]) == (7, "STUCK", 2)


async def test_a_view_gets_new_columns_and_keeps_what_is_built_on_it(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    await migrate(declare(make_settings, database_url, presses=PRESSES))
    await connection.execute("CREATE VIEW mine AS SELECT source_id, pressure FROM presses_now")
    before = list(await columns_of(connection, "presses_now"))
    wider = with_columns(
        PRESSES, heat=HEAT, alarm={"metric": "a", "type": "code", "codes": "alarms"}
    )
    await migrate(declare(make_settings, database_url, presses=wider))
    after = list(await columns_of(connection, "presses_now"))
    assert after[: len(before)] == before
    assert after[len(before) :] == ["heat", "alarm", "alarm_name", "alarm_description"]
    await connection.fetch("SELECT * FROM mine")
    # Columns that are no longer filled are still shown.
    narrower = with_columns(wider, pressure=None, state=None, late={**HEAT, "metric": "late"})
    await migrate(declare(make_settings, database_url, presses=narrower))
    assert list(await columns_of(connection, "presses_now")) == [*after, "late"]


async def test_a_view_that_somebody_has_changed_stays_and_is_named(
    database_url: str,
    make_settings: MakeSettings,
    connection: asyncpg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await migrate(declare(make_settings, database_url, presses=PRESSES))
    await connection.execute(
        "DROP VIEW presses_now; CREATE VIEW presses_now AS SELECT 1 AS one, 'x' AS pressure"
    )
    mine = await columns_of(connection, "presses_now")
    settings = declare(make_settings, database_url, presses=with_columns(PRESSES, heat=HEAT))
    with caplog.at_level(logging.WARNING):
        await migrate(settings)
    (warned,) = [line for line in caplog.messages if "presses_now" in line]
    assert warned.endswith('run DROP VIEW "presses_now", then `receiver migrate`')
    assert "heat" in await columns_of(connection, "presses")
    assert await columns_of(connection, "presses_now") == mine
    assert await plan(settings) == [f"-- {warned}"]
    await connection.execute("DROP VIEW presses_now")
    await migrate(settings)
    assert "heat" in await columns_of(connection, "presses_now")


async def test_a_view_that_reads_a_renamed_column_is_named(
    database_url: str,
    make_settings: MakeSettings,
    connection: asyncpg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await migrate(declare(make_settings, database_url, presses=with_columns(PRESSES, heat=HEAT)))
    # As a change of the type advises.
    await connection.execute("ALTER TABLE presses RENAME COLUMN heat TO heat_old")
    whole = {**HEAT, "type": "bigint"}
    settings = declare(make_settings, database_url, presses=with_columns(PRESSES, heat=whole))
    with caplog.at_level(logging.WARNING):
        await migrate(settings)
    (warned,) = [line for line in caplog.messages if "presses_now" in line]
    assert warned.endswith('run DROP VIEW "presses_now", then `receiver migrate`')
    assert await plan(settings) == [f"-- {warned}"]
    await connection.execute("DROP VIEW presses_now")
    await migrate(settings)
    assert (await columns_of(connection, "presses_now"))["heat"][0] == "bigint"
    assert await plan(settings) == []


async def test_views_of_a_column_that_got_another_table_of_codes_show_the_new_column(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    await migrate(declare(make_settings, database_url, presses=PRESSES))
    await connection.execute("CREATE VIEW mine AS SELECT source_id, state FROM presses_now")
    state = {"metric": "press_state", "type": "code", "codes": "others"}
    settings = declare(make_settings, database_url, presses=with_columns(PRESSES, state=state))
    with pytest.raises(NotAdditiveError) as refused:
        await migrate(settings)
    for statement in refused.value.statements:
        await connection.execute(statement)
    await migrate(settings)
    await connection.execute(
        """
        INSERT INTO others (code, name) VALUES (3, 'OTHER');
        INSERT INTO presses (source_id, pressure, state) VALUES (1, 1, 3)
        """
    )
    for relation in ("presses_now", "presses_intervals", "presses_intervals_between('-infinity')"):
        (row,) = await connection.fetch(f"SELECT state, state_name FROM {relation}")
        assert tuple(row) == (3, "OTHER")
    assert await connection.fetchval("SELECT state FROM mine") == 3
    assert await plan(settings) == []


async def test_a_definition_of_the_users_own_with_all_columns_is_left_alone(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "CREATE OR REPLACE VIEW app_logs_now AS SELECT * FROM (TABLE app_logs_now) AS n WHERE false"
    )
    before = await schema_of(connection)
    await migrate(make_settings(database_url=database_url))
    assert await schema_of(connection) == before


async def test_views_that_were_dropped_come_back(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "DROP VIEW app_logs_now, app_logs_intervals;"
        "DROP FUNCTION app_logs_intervals_between;"
        "CREATE TABLE app_logs_intervals (mine INT)"
    )
    settings = make_settings(database_url=database_url)
    await migrate(settings)
    assert "app_status_name" in await columns_of(connection, "app_logs_now")
    await connection.fetch("SELECT * FROM app_logs_intervals_between('-infinity')")
    # A relation that has the name of a view but is not one is left unchanged.
    assert list(await columns_of(connection, "app_logs_intervals")) == ["mine"]
    (left,) = await plan(settings)
    assert left.startswith("-- view app_logs_intervals cannot be created")


async def test_a_type_that_a_person_changed_as_advised_leaves_the_view_behind(
    database_url: str,
    make_settings: MakeSettings,
    connection: asyncpg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await migrate(declare(make_settings, database_url, presses=PRESSES))
    await connection.execute("ALTER TABLE presses RENAME COLUMN strokes TO strokes_old")
    changed = with_columns(PRESSES, strokes={"metric": "s", "type": "double"})
    settings = declare(make_settings, database_url, presses=changed)
    with caplog.at_level(logging.WARNING):
        await migrate(settings)
    assert (await columns_of(connection, "presses"))["strokes"][0] == "double precision"
    assert [line for line in await plan(settings) if not line.startswith("--")] == []


async def test_a_column_named_as_one_of_the_views_is_shown_under_its_own_name(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    names = ("labels", "age", "rows", "ongoing", "started_at", "code", "place", "since", "max_gap")
    columns = {name: {"metric": name, "type": "code", "codes": "states"} for name in names}
    for first in names:
        kept = {first: columns[first], "z": {"metric": "z", "type": "double", "required": False}}
        await migrate(declare(make_settings, database_url, **{f"t_{first}": {"columns": kept}}))
        assert (await columns_of(connection, f"t_{first}_now"))[first][0] == "integer"
        await connection.fetch(f"SELECT * FROM t_{first}_intervals")
        await connection.fetch(f"SELECT * FROM t_{first}_intervals_between('-infinity')")
    every = {name: {**column, "required": False} for name, column in columns.items()}
    every["z"] = {"metric": "z", "type": "double"}
    await migrate(declare(make_settings, database_url, everything={"columns": every}))
    assert (await columns_of(connection, "everything_now")).keys() >= {*names, "labels_2", "age_2"}


async def test_a_column_that_comes_later_takes_no_name_from_the_view(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    table = {"columns": {"heat": HEAT}}
    await migrate(declare(make_settings, database_url, ovens=table))
    await connection.execute("INSERT INTO ovens (heat, source_id) VALUES (1, 1)")
    for later in ({}, {"more": {"metric": "more", "type": "double"}}):
        wider = with_columns(table, age={"metric": "age", "type": "bigint"}, **later)
        settings = declare(make_settings, database_url, ovens=wider)
        await migrate(settings)
        assert await plan(settings) == []
    await connection.execute("UPDATE ovens SET age = 7")
    newest = await connection.fetchrow("SELECT age, age_2, more FROM ovens_now")
    assert newest["age"] < timedelta(hours=1)
    assert (newest["age_2"], newest["more"]) == (7, None)
