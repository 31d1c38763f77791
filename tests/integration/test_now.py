"""Views of "now" show only rows of the past, whatever a wrong clock has dated in the future."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from receiver.config.catalogue import built_in
from receiver.config.settings import Settings
from receiver.storage import diagnosis
from receiver.storage.diagnosis.findings import Level
from receiver.storage.reading import arrivals, logs, states
from receiver.storage.reading.listing import Listing
from receiver.storage.reading.newest import NewestRows
from receiver.storage.reading.observing import GONE, MAX_SOURCES, newest_rows, observe
from receiver.storage.reading.states import State
from receiver.storage.reading.tables import connect
from receiver.storage.schema import summary
from receiver.storage.schema.policies import set_up_policies
from receiver.storage.schema.revisions import migrate, schema_transaction, upgrade
from tests.conftest import MakeSettings
from tests.databases import opened_database
from tests.logs import HAS_SUMMARY, Log, add_logs, add_sources, refresh, seconds, stop_refreshing
from tests.logs import logs as scrapes
from tests.plans import NOW, ROWS, SOURCES, add_many, count_shards, rows_read, scans_of_logs

LISTING = Listing(built_in().tables[0])
MINUTE = timedelta(minutes=1)
YEARS = timedelta(days=3650)
EARLIER = timedelta(days=30)

NEWEST = "SELECT source_id, created_at, app_status FROM app_status_now ORDER BY source_id"
VIEW = "SELECT * FROM app_status_intervals"
BETWEEN = "SELECT * FROM app_status_intervals_between(now() - INTERVAL '1 year')"
ONGOING = "SELECT source_id, app_status, ongoing FROM ({}) AS i ORDER BY source_id, started_at"


@pytest.fixture
def settings(database_url: str, make_settings: MakeSettings) -> Settings:
    return make_settings(database_url=database_url)


@pytest.fixture
async def connection(connection: asyncpg.Connection) -> asyncpg.Connection:
    """Connect to a database with four sources, without background refreshes."""
    await stop_refreshing(connection)
    await add_sources(connection, 4)
    return connection


def ahead(source: int, now: datetime, lead: timedelta = YEARS) -> list[Log]:
    """Return rows dated by a wrong clock, with a status that no correct row has."""
    return scrapes(source, [99, 99], start=now + lead)


def past(now: datetime) -> list[Log]:
    """Return rows of the last seconds, of a minute ago, and of long ago."""
    return [
        *scrapes(1, [0, 2], start=now - seconds(8)),
        *scrapes(2, [0], start=now - 10 * MINUTE),
        *scrapes(3, [1], start=now - EARLIER),
    ]


@pytest.mark.parametrize("lead", [seconds(20), MINUTE * 10, timedelta(days=5), YEARS])
async def test_rows_to_come_are_not_the_newest(
    connection: asyncpg.Connection, lead: timedelta
) -> None:
    now = datetime.now(UTC)
    await add_logs(connection, past(now))
    await refresh(connection)
    before = await connection.fetch(NEWEST)
    assert [tuple(row) for row in before] == [
        (1, now - seconds(3), 2),
        (2, now - 10 * MINUTE, 0),
        (3, now - EARLIER, 1),
    ]
    await add_logs(connection, [row for n in (1, 2, 3, 4) for row in ahead(n, now, lead)])
    assert await connection.fetch(NEWEST) == before
    # The summary may contain an hour of the future, if somebody has refreshed it that far.
    if await connection.fetchval(HAS_SUMMARY):
        await connection.execute(
            "CALL refresh_continuous_aggregate('app_status_hourly_stored', NULL, "
            f"'{now + lead + timedelta(days=1)}')"
        )
        assert await connection.fetch(NEWEST) == before


@pytest.mark.parametrize("query", [VIEW, BETWEEN])
async def test_rows_to_come_end_nothing(connection: asyncpg.Connection, query: str) -> None:
    now = datetime.now(UTC)
    await add_logs(connection, [*past(now), *(r for n in (1, 2, 4) for r in ahead(n, now))])
    found = [tuple(row) for row in await connection.fetch(ONGOING.format(query))]
    assert found == [
        (1, 0, False),
        (1, 2, True),
        (2, 0, False),
        (3, 1, False),
    ]


@pytest.mark.parametrize("query", [VIEW, BETWEEN])
async def test_an_interval_that_goes_on_ahead_is_ongoing(
    connection: asyncpg.Connection, query: str
) -> None:
    """As from a sender whose clock is some seconds fast."""
    now = datetime.now(UTC)
    await add_logs(connection, scrapes(1, [0, 2, 2, 2, 0], start=now - seconds(8)))
    found = [tuple(row) for row in await connection.fetch(ONGOING.format(query))]
    assert found == [(1, 0, False), (1, 2, True)]


async def test_a_range_that_ends_ahead_shows_how_it_is_now(connection: asyncpg.Connection) -> None:
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    await add_logs(connection, past(now) + ahead(1, now, 10 * MINUTE))
    found = await connection.fetch(
        "SELECT source_id, app_status FROM app_status_intervals_between($1, $2) WHERE ongoing",
        now - hour,
        now + hour,
    )
    assert [tuple(row) for row in found] == [(1, 2)]


async def test_the_metric_tells_of_the_past(
    connection: asyncpg.Connection, settings: Settings
) -> None:
    now = datetime.now(UTC)
    await add_logs(connection, [*past(now), *(r for n in (1, 2, 3, 4) for r in ahead(n, now))])
    async with opened_database(settings) as database:
        newest = (await observe(database, settings.catalogue)).newest
    assert [row.source_id for row in newest] == [1, 2]
    times = [(now - seconds(3)).timestamp(), (now - 10 * MINUTE).timestamp()]
    assert [row.timestamp for row in newest] == pytest.approx(times, abs=1e-3)


async def test_logs_show_the_past(connection: asyncpg.Connection, settings: Settings) -> None:
    now = datetime.now(UTC)
    await add_logs(connection, [*past(now), *(r for n in (1, 4) for r in ahead(n, now))])
    async with connect(settings) as reader:
        shown = await LISTING.newest(reader, 10)
        assert [log.values[4] for log in shown] == ["NETWORK_ERROR", "OK", "OK", "DB_ERROR"]
        assert await LISTING.since(reader, shown[-1].created_at) == shown


async def test_a_row_is_followed_when_its_time_has_come(
    connection: asyncpg.Connection, settings: Settings
) -> None:
    now = datetime.now(UTC)
    await add_logs(connection, [*past(now), (4, now + MINUTE, 99, seconds(1))])
    async with connect(settings) as reader:
        since = (await LISTING.newest(reader, 1))[0].created_at
        assert len(await LISTING.since(reader, since)) == 1
        await connection.execute(
            "UPDATE app_logs SET created_at = $1 WHERE source_id = 4", datetime.now(UTC)
        )
        assert [log.values[4] for log in await LISTING.since(reader, since)] == [
            *("UNKNOWN_ERROR", "NETWORK_ERROR"),
        ]


async def test_the_page_shows_the_past(connection: asyncpg.Connection, settings: Settings) -> None:
    now = datetime.now(UTC)
    await add_logs(
        connection, [*scrapes(2, [0], start=now - 10 * MINUTE), *ahead(1, now), *ahead(2, now)]
    )
    async with connect(settings) as reader:
        arrived = await arrivals.arrivals(reader, settings.catalogue)
        assert arrived.newest is not None
        assert datetime.fromisoformat(arrived.newest) == now - 10 * MINUTE
        cells = await NewestRows(LISTING.table).cells(reader, [1, 2, 3, 4])
        assert {source: row[0].value for source, row in cells.items()} == {2: 0}
        known = await states.read_states(reader, LISTING.table, {})
        shown = [source.state for source in known]
        assert shown == [State.NONE, State.SILENT, State.NONE, State.NONE]
        page = await logs.Logs(LISTING.table).page(
            reader, logs.Filter("-infinity", "now"), logs.NEWEST, 10
        )
        assert [(log.source_id, log.cells[0].value) for log in page.logs] == [(2, 0)]
        # A query for the future returns its rows.
        asked = logs.Filter("-infinity", "infinity", source=1)
        assert len((await logs.Logs(LISTING.table).page(reader, asked, logs.NEWEST, 10)).logs) == 2


async def test_doctor_sees_silence_behind_rows_to_come(
    connection: asyncpg.Connection, settings: Settings
) -> None:
    now = datetime.now(UTC)
    await add_logs(connection, scrapes(2, [0], start=now - 3 * 60 * MINUTE) + ahead(1, now))
    found = [finding async for topic, finding in diagnosis.diagnose(settings) if topic == "rows"]
    assert [finding.level for finding in found] == [Level.WARNING, Level.WARNING]
    assert found[0].found == "the newest row of app_logs is 3h old"
    assert found[1].found.startswith("rows of app_logs that lie in the future: 2, the newest by ")


@pytest.mark.parametrize(
    ("query", "arguments", "most"),
    [
        # Includes one row of each chunk of the last week.
        pytest.param("SELECT * FROM app_status_now", (), 3 * (SOURCES + 4), id="now"),
        pytest.param("SELECT * FROM app_logs_now", (), 3 * (SOURCES + 4), id="table"),
        pytest.param(
            newest_rows(LISTING.table), (MAX_SOURCES, GONE), 3 * (SOURCES + 4), id="metric"
        ),
        pytest.param(LISTING.newest_statement, (10,), 60, id="logs"),
        pytest.param(LISTING.since_statement, (NOW - MINUTE,), 100, id="following"),
        pytest.param(arrivals.newest_of(built_in()), (), 10, id="arrivals"),
    ],
)
async def test_what_is_to_come_is_not_read(
    connection: asyncpg.Connection, query: str, arguments: tuple[object, ...], most: int
) -> None:
    """However many future rows there are, of one source or of all."""
    await connection.execute(
        """
        INSERT INTO app_logs (source_id, created_at, app_status, ocr_value)
        SELECT 1 + i % 4, now() + INTERVAL '1 h' + i * INTERVAL '1 s', 99, now()
        FROM generate_series(1, $1::int) AS i ORDER BY 2
        """,
        ROWS // 4,
    )
    await add_many(connection, SOURCES)
    await connection.execute("SET plan_cache_mode = force_custom_plan")
    scans = await scans_of_logs(connection, query, *arguments)
    assert scans
    assert "Seq Scan" not in {scan["Node Type"] for scan in scans}
    assert rows_read(scans) <= most * await count_shards(connection)


async def test_a_database_of_before_is_mended(
    empty_database_url: str, make_settings: MakeSettings
) -> None:
    """Whichever form of the view it has; privileges on the view are kept."""
    settings = make_settings(database_url=empty_database_url)
    await upgrade_to_revision_of_before(settings)
    connection = await asyncpg.connect(empty_database_url)
    await stop_refreshing(connection)
    await add_sources(connection, 4)
    await connection.execute(
        """
        CREATE VIEW of_my_own AS SELECT source_id, age FROM app_status_now;
        GRANT SELECT ON app_status_now, app_status_intervals TO pg_monitor;
        """
    )
    now = datetime.now(UTC)
    await add_logs(connection, [*past(now), *(r for n in (1, 2, 3, 4) for r in ahead(n, now))])
    await refresh(connection)
    assert {status for *_, status in await connection.fetch(NEWEST)} == {99}
    await migrate(settings)
    newest = [(source, status) for source, _, status in await connection.fetch(NEWEST)]
    assert newest == [(1, 2), (2, 0), (3, 1)]
    assert await connection.fetchval("SELECT count(*) FROM of_my_own WHERE age >= '0'") == 3
    for query in (VIEW, BETWEEN):
        found = await connection.fetch(ONGOING.format(query))
        assert [tuple(row) for row in found if row["ongoing"]] == [(1, 2, True)]
    for view in ("app_status_now", "app_status_intervals"):
        right = f"SELECT has_table_privilege('pg_monitor', '{view}', 'SELECT')"
        assert await connection.fetchval(right)
    if await connection.fetchval(HAS_SUMMARY):
        definition = await connection.fetchval("SELECT pg_get_viewdef('app_status_now')")
        assert "last_created_at" in definition
    await connection.close()


async def upgrade_to_revision_of_before(settings: Settings) -> None:
    """Migrate as the old `migrate` did, with its form of the view for TimescaleDB."""
    async with schema_transaction(settings) as connection:
        await upgrade(connection, "0004")
        await set_up_policies(connection, settings)
        await use_summary_of_before(connection)


async def use_summary_of_before(connection: asyncpg.Connection) -> None:
    await summary.set_up_summary(connection)
    if await connection.fetchval(HAS_SUMMARY):
        form = summary.FIND_NEWEST_IN_SUMMARY.replace("AND l.created_at <= now()", "")
        stored = await connection.fetchval(summary.NAME_STORED)
        await connection.execute(form.format(stored=stored))
