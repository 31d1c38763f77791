"""The page reads a large database by indexes, and not much more than it shows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from receiver.config.catalogue import built_in
from receiver.config.settings import Settings
from receiver.errors import DatabaseUnavailableError, SchemaError
from receiver.storage.connection.database import translated
from receiver.storage.editing import codes
from receiver.storage.reading import arrivals, began, logs, rejected, sources, states
from receiver.storage.reading.connection import CONNECTIONS, Viewer
from receiver.storage.reading.newest import NewestRows
from receiver.storage.schema.revisions import migrate
from receiver.web.floor_pages import PER_PAGE
from receiver.web.pages import ROWS
from tests.conftest import MakeSettings, fresh_database
from tests.logs import add_sources, stop_refreshing
from tests.plans import BEGINNING, NOW, SOURCES, add_many, explain
from tests.waiting import until

APP_LOGS = built_in().tables[0]
LOGS = logs.Logs(APP_LOGS)
NEWEST = NewestRows(APP_LOGS)
HOUR = timedelta(hours=1)
PER_SOURCE = 2 * 24 * 3600 / 1.44 / SOURCES
MANY = 20_000

Question = Callable[[asyncpg.Connection], Awaitable[object]]


@pytest.fixture
def viewer(database_url: str, make_settings: MakeSettings) -> Viewer:
    return Viewer(make_settings(database_url=database_url))


@pytest.fixture(scope="module")
def large_url(server_url: str) -> Iterator[str]:
    """A database with many rows in every table."""
    database = fresh_database(server_url)
    with asyncio.Runner() as runner:
        url = runner.run(database.__aenter__())
        runner.run(fill(url))
        yield url
        runner.run(database.__aexit__(None, None, None))


async def fill(url: str) -> None:
    await migrate(Settings.load(database_url=url))
    connection = await asyncpg.connect(url)
    await stop_refreshing(connection)
    await add_sources(connection, 4)
    await add_many(connection, SOURCES)
    await connection.execute(
        f"""
        INSERT INTO error_codes (code, name)
        SELECT i, 'E' FROM generate_series(100, {MANY}) AS i;
        INSERT INTO sources (labels, digest)
        SELECT jsonb_build_object('instance', i), i::text::bytea
        FROM generate_series(1000, 1000 + {MANY}) AS i;
        INSERT INTO rejected_samples (source_id, metric, timestamp_ms, value, reason, table_name)
        SELECT 1 + i % 40, 'app_status', i, 'NaN', 'not_a_number', 'app_logs'
        FROM generate_series(1, {MANY}) AS i;
        INSERT INTO pending_rows (table_name, source_id, created_at, samples)
        SELECT 'app_logs', 1 + i % 40, now() - i * INTERVAL '1 s', '{{"app_status": "0"}}'
        FROM generate_series(1, {MANY}) AS i;
        """
    )
    # Statistics of all rows: with a random sample of them, plans may vary.
    await connection.execute("SET default_statistics_target = 1000")
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


def of_logs(source: int | None = None, code: int | None = None, **others: object) -> Question:
    """A page of logs of the last day."""
    since, end = (NOW - timedelta(days=1)).isoformat(), (NOW + HOUR).isoformat()
    after = others.get("after", logs.NEWEST)
    assert isinstance(after, logs.Place)

    async def ask(connection: asyncpg.Connection) -> object:
        wanted = logs.Filter(since, end, source, code)
        return await LOGS.page(connection, wanted, after, ROWS)

    return ask


def failing() -> list[states.SourceState]:
    """Return ten sources as failing, whatever their rows say."""
    return [
        states.SourceState(id_, {}, states.State.FAILURE, 1, None, None, 1.0, 300.0)
        for id_ in range(5, 15)
    ]


MIDDLE = logs.Place((NOW - 12 * HOUR).isoformat(), 20)
FIRST = list(range(1, PER_PAGE + 1))
WITHOUT_ROWS = list(range(5, 1000))
OLD = logs.Filter(BEGINNING.isoformat(), (NOW + HOUR).isoformat(), source=1)


@pytest.mark.parametrize(
    ("ask", "most"),
    [
        # The last minute; up to so many incomplete rows; and what was rejected this minute.
        pytest.param(
            lambda connection: arrivals.arrivals(connection, built_in()),
            2 * MANY + 100,
            id="arrivals",
        ),
        pytest.param(
            lambda connection: NEWEST.cells(connection, FIRST),
            # For each source its newest row and what that row's code means; with TimescaleDB, one
            # row of each of the chunks too.
            16 * PER_PAGE,
            id="newest rows",
        ),
        pytest.param(
            lambda connection: states.read_states(connection, APP_LOGS, {}),
            # For each source its own row, its newest log, and a few before it; for a source
            # without logs only its own row.
            4 * (MANY + 1) + 40 * (SOURCES + 4),
            id="states",
        ),
        pytest.param(
            lambda connection: states.read_strangers(connection, APP_LOGS, WITHOUT_ROWS),
            2 * states.MOST_SAMPLES + 100,
            id="tables of sources without rows",
        ),
        pytest.param(
            lambda connection: began.read_began(connection, APP_LOGS, failing(), {}),
            # The rows of each source's failure, twice.
            10 * 2 * 1000,
            id="since when sources fail",
        ),
        pytest.param(
            lambda connection: sources.first_sources(connection, 100), 100, id="known sources"
        ),
        pytest.param(of_logs(), 4 * (ROWS + 1), id="logs"),
        pytest.param(of_logs(after=MIDDLE), 4 * (ROWS + 1) + 50, id="older logs"),
        pytest.param(of_logs(source=7), 4 * (ROWS + 1) + 50, id="logs of a source"),
        pytest.param(
            lambda connection: LOGS.page(connection, OLD, logs.NEWEST, ROWS),
            4 * (ROWS + 1),
            id="logs of a source long gone",
        ),
        # Two searches: for the code, and for the end of the search.
        pytest.param(of_logs(code=99), 2 * logs.LOOKED_AT + 500, id="logs with a code"),
        # If a range covers little of a chunk, the chunk's index on the time is cheaper.
        pytest.param(of_logs(source=7, code=99), 4 * PER_SOURCE, id="logs of a source with a code"),
        pytest.param(
            lambda connection: rejected.rejected(connection, rejected.NEWEST, ROWS),
            4 * (ROWS + 1),
            id="rejected",
        ),
        # Two searches: for the table, and for the end of the search.
        pytest.param(
            lambda connection: rejected.rejected(connection, rejected.NEWEST, ROWS, "none"),
            2 * rejected.LOOKED_AT,
            id="rejected of a table",
        ),
        pytest.param(
            lambda connection: codes.CodeTable().page(connection, 5000, ROWS + 1),
            ROWS + 1,
            id="codes",
        ),
    ],
)
async def test_no_more_is_read_than_is_shown(
    large_url: str, make_settings: MakeSettings, ask: Question, most: float
) -> None:
    asked: list[Any] = []
    async with Viewer(make_settings(database_url=large_url)).connection() as connection:
        with connection.query_logger(asked.append):
            await ask(connection)
        # Let the event loop deliver the recorded queries.
        await asyncio.sleep(0)
        # The driver's own queries look up array types.
        questions = [query for query in asked if "pg_type" not in query.query]
        assert questions
        for query in questions:
            read = 0.0
            for node in await explain(connection, query.query, *query.args):
                # Nodes added by TimescaleDB pass on rows that other nodes have read.
                if "Relation Name" not in node or "Custom Plan Provider" in node:
                    continue
                once = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
                # Tables that are small here may be read whole.
                assert node["Node Type"] != "Seq Scan" or once <= SOURCES, node
                read += once * node["Actual Loops"]
            assert read <= most, query.query


YOUNG = 1_000
"""Sources of a table that has existed for minutes."""
EACH = 20
"""Rows of each of them."""


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda connection: states.read_states(connection, APP_LOGS, {}), id="states"),
        pytest.param(
            lambda connection: connection.fetch(
                "SELECT * FROM state_intervals('app_logs', $1, $2)", NOW - HOUR, NOW
            ),
            id="intervals",
        ),
        pytest.param(
            lambda connection: connection.fetch("SELECT * FROM app_status_intervals"), id="view"
        ),
        pytest.param(
            lambda connection: connection.fetch(
                "SELECT * FROM app_status_intervals_between($1)", NOW - HOUR
            ),
            id="function",
        ),
    ],
)
async def test_a_young_table_is_read_by_source(
    database_url: str, make_settings: MakeSettings, ask: Question
) -> None:
    writing = await asyncpg.connect(database_url)
    await stop_refreshing(writing)
    await add_sources(writing, YOUNG)
    await writing.execute(
        """
        INSERT INTO app_logs (source_id, created_at, app_status, ocr_value)
        SELECT s, $3::timestamptz - i * INTERVAL '1 min', 1, $3
        FROM generate_series(1, $1::int) AS s, generate_series(1, $2::int) AS i ORDER BY i DESC
        """,
        *(YOUNG, EACH, NOW),
    )
    await writing.execute("ANALYZE")
    await writing.close()
    read = "SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_xact_user_tables"
    async with (
        Viewer(make_settings(database_url=database_url)).connection() as connection,
        connection.transaction(),
    ):
        await ask(connection)
        assert await connection.fetchval(read) <= 20 * YOUNG * EACH


async def test_those_who_look_can_change_nothing(viewer: Viewer) -> None:
    async with viewer.connection() as connection:
        with pytest.raises(DatabaseUnavailableError, match="read-only"), translated():
            await connection.execute("DELETE FROM error_codes")


async def test_what_takes_too_long_is_given_up(viewer: Viewer) -> None:
    async with viewer.connection() as connection:
        await connection.execute("SET statement_timeout = '50ms'")
        with pytest.raises(DatabaseUnavailableError, match="statement timeout"), translated():
            await connection.execute("SELECT pg_sleep(10)")
    async with viewer.connection() as connection:
        assert await connection.fetchval("SHOW statement_timeout") == "5s"


async def test_those_who_look_have_few_connections(viewer: Viewer, database_url: str) -> None:
    count = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'receiver page'
    """
    outside = await asyncpg.connect(database_url)
    assert await outside.fetchval(count) == 0
    seen = []

    async def look() -> None:
        async with viewer.connection() as connection:
            seen.append(await connection.fetchval(count))

    await asyncio.gather(*(look() for _ in range(10)))
    # A closed connection is still visible for a moment.
    assert max(seen) <= 2 * CONNECTIONS

    async def gone() -> bool:
        return bool(await outside.fetchval(count) == 0)

    await until(gone)
    await outside.close()


async def test_missing_tables_are_told(
    empty_database_url: str, make_settings: MakeSettings
) -> None:
    viewer = Viewer(make_settings(database_url=empty_database_url))
    with pytest.raises(SchemaError, match="receiver migrate"):
        async with viewer.connection():
            pass
