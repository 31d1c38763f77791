"""What batches leave in a real database."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from receiver.rows.batch import to_postgres_time
from receiver.rows.model import Fate, Half, Metric, Reason, Rejected, Row, Source
from receiver.storage import queries
from receiver.storage.connection.database import Database
from receiver.storage.writing.pending import settle_waiting
from receiver.storage.writing.records import Contents
from receiver.storage.writing.sources import Sources
from receiver.storage.writing.writer import LogWriter
from tests.conftest import MakeSettings

NOW = 1_700_000_000_000
OCR = to_postgres_time(NOW)
NAMES = {Metric.STATUS: "app_status", Metric.OCR: "ocr_value"}

Query = Callable[..., Any]


@pytest.fixture
async def database(database_url: str, make_settings: MakeSettings) -> AsyncIterator[Database]:
    database = Database(make_settings(database_url=database_url))
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def writer(database: Database) -> LogWriter:
    return LogWriter(database, NAMES)


def source(name: str = "a") -> Source:
    return Source((("instance", name), ("job", "factory")))


def row(who: Source, timestamp: int = NOW, status: int = 0) -> Row:
    return timestamp, who, float(status), OCR, NOW / 1000


def status_half(who: Source, timestamp: int = NOW, status: int = 0) -> Half:
    return timestamp, who, float(status), None, None


def ocr_half(who: Source, timestamp: int = NOW, later: int = 0) -> Half:
    return timestamp, who, None, OCR + later * 1_000_000, NOW / 1000 + later


def contents(*entries: Row | Half | Rejected) -> Contents:
    sorted_out = Contents([], [], [])
    for entry in entries:
        if isinstance(entry, Rejected):
            sorted_out.rejected.append(entry)
        elif None in entry:
            sorted_out.halves.append(entry)
        else:
            sorted_out.rows.append(entry)  # type: ignore[arg-type]  # no None in it
    return sorted_out


async def count(connection: asyncpg.Connection, table: str) -> int:
    return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))


async def test_a_row_answers_the_users_query(
    writer: LogWriter, connection: asyncpg.Connection
) -> None:
    await writer.write(contents(row(source(), status=2)))
    (found,) = await connection.fetch(
        "SELECT l.id, l.created_at, l.ocr_value, e.name AS error_name, e.description "
        "FROM app_logs l JOIN error_codes e ON l.app_status = e.code "
        "ORDER BY l.created_at DESC LIMIT 10;"
    )
    assert found["created_at"].timestamp() * 1000 == NOW
    assert found["ocr_value"].timestamp() * 1000 == NOW
    assert (found["error_name"], found["description"]) == ("NETWORK_ERROR", "네트워크 장애")


async def test_ten_times_the_same_leaves_one_of_each(
    writer: LogWriter, connection: asyncpg.Connection
) -> None:
    who = source()
    rejected = Rejected(who, Metric.STATUS, NOW, float("nan"), Reason.NOT_A_NUMBER)
    batch = contents(row(who), row(who, NOW + 1), status_half(who, NOW + 2), rejected)
    for _ in range(10):
        await writer.write(batch)
    assert await count(connection, "app_logs") == 2
    assert await count(connection, "pending_halves") == 1
    assert await count(connection, "rejected_samples") == 1


async def test_new_rows_of_a_repeated_batch_are_stored(
    writer: LogWriter, connection: asyncpg.Connection
) -> None:
    who = source()
    await writer.write(contents(row(who)))
    await writer.write(contents(row(who), row(who), row(who, NOW + 5)))
    assert await count(connection, "app_logs") == 2


@pytest.mark.parametrize("status_first", [True, False])
async def test_halves_of_two_batches_become_a_row(
    writer: LogWriter, connection: asyncpg.Connection, *, status_first: bool
) -> None:
    who = source()
    halves = [status_half(who, status=1), ocr_half(who)]
    for half in halves if status_first else reversed(halves):
        await writer.write(contents(half))
    (found,) = await connection.fetch("SELECT * FROM app_logs")
    assert (found["app_status"], found["ocr_value"].timestamp() * 1000) == (1, NOW)
    assert await count(connection, "pending_halves") == 0


@pytest.mark.parametrize("repeated", [status_half, ocr_half])
async def test_a_half_of_a_stored_row_does_not_wait(
    writer: LogWriter, connection: asyncpg.Connection, repeated: Callable[[Source], Half]
) -> None:
    who = source()
    await writer.write(contents(row(who)))
    await writer.write(contents(repeated(who)))
    assert await count(connection, "pending_halves") == 0
    assert await count(connection, "rejected_samples") == 0


@pytest.mark.parametrize(
    ("first", "second", "metric", "value"),
    [
        (row, lambda who: row(who, status=1), "app_status", 1.0),
        (row, lambda who: status_half(who, status=1), "app_status", 1.0),
        (row, lambda who: ocr_half(who, later=1), "ocr_value", NOW / 1000 + 1),
        (status_half, lambda who: status_half(who, status=1), "app_status", 1.0),
        (ocr_half, lambda who: ocr_half(who, later=1), "ocr_value", NOW / 1000 + 1),
    ],
)
async def test_a_contradiction_is_rejected_and_the_first_value_stays(
    writer: LogWriter,
    connection: asyncpg.Connection,
    first: Callable[[Source], Half],
    second: Callable[[Source], Half],
    metric: str,
    value: float,
) -> None:
    who = source()
    await writer.write(contents(first(who)))
    await writer.write(contents(second(who)))
    (aside,) = await connection.fetch("SELECT * FROM rejected_samples")
    assert aside["reason"] == "conflict"
    assert (aside["metric"], aside["timestamp_ms"], aside["value"]) == (metric, NOW, value)
    stored = await connection.fetch(
        "SELECT app_status, ocr_value FROM app_logs "
        "UNION ALL SELECT app_status, ocr_value FROM pending_halves"
    )
    assert len(stored) == 1
    assert stored[0]["app_status"] in {0, None}


async def test_concurrent_twins_meet_exactly_once(
    database: Database, connection: asyncpg.Connection
) -> None:
    """Fails if the upsert is replaced by a look and then an insert."""
    replicas = [LogWriter(database, NAMES) for _ in range(2)]
    sources = [source(str(number)) for number in range(20)]
    await Sources(database).resolve(sources)
    rounds = 30
    for moment in range(rounds):
        timestamp = NOW + moment
        await asyncio.gather(
            replicas[0].write(contents(*(status_half(who, timestamp) for who in sources))),
            replicas[1].write(contents(*(ocr_half(who, timestamp) for who in sources))),
        )
    assert await count(connection, "app_logs") == rounds * len(sources)
    assert await count(connection, "pending_halves") == 0


async def test_shuffled_keys_of_many_writers_do_not_deadlock(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    """The server counts its deadlocks; retries would hide them from the outcome."""
    generator = random.Random(1)
    sources = [source(str(number)) for number in range(50)]
    entries: list[Row | Half] = []
    for who, moment in itertools.product(sources, range(4)):
        timestamp = NOW + moment
        entries += [row(who, timestamp), status_half(who, timestamp), ocr_half(who, timestamp)]
    databases = [Database(make_settings(database_url=database_url)) for _ in range(4)]
    for database in databases:
        await database.open()
    await Sources(databases[0]).resolve(sources)

    async def replay(database: Database) -> None:
        writer = LogWriter(database, NAMES)
        for _ in range(5):
            chosen = generator.sample(entries, len(entries) // 2)
            keys: set[tuple[int, Source]] = set()
            halves = []
            for entry in chosen:
                # One half a key, as a batch makes sure of.
                if None not in entry or entry[:2] not in keys:
                    halves.append(entry)
                    keys.add(entry[:2])
            await writer.write(contents(*halves))

    await asyncio.gather(*map(replay, databases))
    for database in databases:
        await database.close()
    name = await connection.fetchval("SELECT current_database()")
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = $1"
    assert await connection.fetchval(deadlocks, name) == 0
    assert await count(connection, "rejected_samples") == 0


async def test_an_unknown_code_is_registered_with_its_row(
    writer: LogWriter, connection: asyncpg.Connection
) -> None:
    who = source()
    await writer.write(contents(row(who, status=7), row(who, NOW + 1, status=-3)))
    names = await connection.fetch("SELECT name FROM error_codes WHERE code IN (7, -3)")
    assert {name for (name,) in names} == {"UNREGISTERED_7", "UNREGISTERED_-3"}


async def test_a_code_that_the_user_renumbers_or_deletes_is_noticed(
    writer: LogWriter, connection: asyncpg.Connection
) -> None:
    who = source()
    await writer.write(contents(row(who, status=7), row(who, NOW + 1, status=8)))
    await connection.execute("UPDATE error_codes SET code = 70, name = 'SEVENTY' WHERE code = 7")
    await connection.execute("DELETE FROM app_logs WHERE app_status = 8")
    await connection.execute("DELETE FROM error_codes WHERE code = 8")
    await writer.write(contents(row(who, NOW + 2, status=7), row(who, NOW + 3, status=8)))
    statuses = await connection.fetch("SELECT app_status FROM app_logs ORDER BY created_at")
    assert [status for (status,) in statuses] == [70, 7, 8]


async def test_a_source_that_the_user_deletes_comes_back(
    writer: LogWriter, connection: asyncpg.Connection
) -> None:
    who = source()
    await writer.write(contents(row(who)))
    await connection.execute("DELETE FROM app_logs")
    await connection.execute("DELETE FROM sources")
    await writer.write(contents(row(who)))
    assert await count(connection, "app_logs") == 1


async def test_replicas_that_meet_a_source_together_share_its_row(
    database: Database, connection: asyncpg.Connection
) -> None:
    label_sets = [tuple({"instance": str(number)}.items()) for number in range(100)]
    replicas = [[Source(labels) for labels in label_sets] for _ in range(4)]
    for sources in replicas:
        random.Random(id(sources)).shuffle(sources)
    await asyncio.gather(*(Sources(database).resolve(sources) for sources in replicas))
    assert await count(connection, "sources") == 100
    by_labels = [{who.labels: who.id for who in sources} for sources in replicas]
    assert all(ids == by_labels[0] for ids in by_labels)


async def test_labels_that_postgresql_cannot_hold_stay_apart(
    database: Database, connection: asyncpg.Connection
) -> None:
    values = ["a\0b", "a␀b", "a␀0b", "a␀␀0b", "\0", "x" * 100_000, "📷 한국어"]
    sources = [Source((("path", value),)) for value in values]
    await Sources(database).resolve(sources)
    assert len({who.id for who in sources}) == len(values)
    stored = await connection.fetchval(
        "SELECT labels ->> 'path' FROM sources WHERE id = $1", sources[-1].id
    )
    assert stored == values[-1]


async def test_what_the_database_refuses_is_rejected_alone(
    writer: LogWriter, connection: asyncpg.Connection
) -> None:
    await connection.execute("ALTER TABLE app_logs ADD CHECK (app_status <> 13)")
    await connection.execute("ALTER TABLE pending_halves ADD CHECK (app_status <> 13)")
    who = source()
    rows = [row(who, NOW + number, status=13 if number == 37 else 0) for number in range(100)]
    await writer.write(contents(*rows, status_half(who, NOW + 200, status=13)))
    assert await count(connection, "app_logs") == 99
    aside = await connection.fetch(
        "SELECT metric, timestamp_ms, value, reason FROM rejected_samples ORDER BY 2, 1"
    )
    assert [tuple(sample) for sample in aside] == [
        ("app_status", NOW + 37, 13.0, "refused_by_database"),
        ("ocr_value", NOW + 37, NOW / 1000, "refused_by_database"),
        ("app_status", NOW + 200, 13.0, "refused_by_database"),
    ]


async def test_a_half_whose_other_sample_does_not_come_is_rejected(
    writer: LogWriter,
    database: Database,
    connection: asyncpg.Connection,
    make_settings: MakeSettings,
) -> None:
    who = source()
    await writer.write(contents(status_half(who, status=99), ocr_half(who, NOW + 1, later=1)))
    settings = make_settings(pair_timeout="2h")
    assert not await settle_waiting(database, settings.pair_timeout, NAMES)
    await connection.execute("UPDATE pending_halves SET arrived_at = now() - interval '121 min'")
    assert await settle_waiting(database, settings.pair_timeout, NAMES) == {Reason.UNPAIRED: 2}
    aside = await connection.fetch(
        "SELECT metric, timestamp_ms, value, reason FROM rejected_samples ORDER BY 2"
    )
    assert [tuple(sample) for sample in aside] == [
        ("app_status", NOW, 99.0, "unpaired"),
        ("ocr_value", NOW + 1, NOW / 1000 + 1, "unpaired"),
    ]
    assert await count(connection, "pending_halves") == 0


async def test_a_half_whose_row_came_by_another_way_stops_waiting(
    writer: LogWriter,
    database: Database,
    connection: asyncpg.Connection,
    make_settings: MakeSettings,
) -> None:
    """The row's transaction and the half's did not see each other."""
    who = source()
    await writer.write(contents(status_half(who)))
    await writer.write(contents(row(who)))
    fates = await settle_waiting(database, make_settings().pair_timeout, NAMES)
    assert fates == {Fate.DUPLICATE: 1}
    assert await count(connection, "rejected_samples") == 0


async def test_only_the_chunks_of_the_batch_are_looked_at(
    writer: LogWriter, database: Database, connection: asyncpg.Connection
) -> None:
    query = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')"
    if not await connection.fetchval(query):
        pytest.skip("this server has no TimescaleDB; RECEIVER_TEST_DATABASE_URL can name one")
    who = source()
    day = 86_400_000
    await writer.write(contents(*(row(who, NOW + day * number) for number in range(30))))
    names = tuple(NAMES.values())
    when = to_postgres_time(NOW)
    span = when, when
    found = [when], [who.id]
    half_hour = timedelta(minutes=30)
    async with database.transaction() as used:
        for statement, arguments in (
            (queries.SETTLE_AT_ONCE, (*names, *span, *found, [who.id])),
            (queries.SETTLE_WAITING, (*names, *span, half_hour, 10)),
            (queries.FIND_CONFLICTS, (*found, [0], [OCR], *span, [who.id])),
        ):
            plan = await used.fetch(f"EXPLAIN {statement}", *arguments)
            chunks = set(re.findall(r"_hyper_\d+_\d+_chunk\b", str(plan)))
            assert len(chunks) == 1


@pytest.mark.parametrize(
    "constraint",
    [
        "CREATE UNIQUE INDEX ON app_logs (created_at, ocr_value)",
        "CREATE TABLE lines (id INT PRIMARY KEY); INSERT INTO lines VALUES (0);"
        "ALTER TABLE app_logs ADD FOREIGN KEY (app_status) REFERENCES lines",
    ],
    ids=["unique", "foreign key"],
)
async def test_constraints_that_the_user_adds_refuse_only_what_breaks_them(
    writer: LogWriter, connection: asyncpg.Connection, constraint: str
) -> None:
    await connection.execute(constraint)
    first, second = source("a"), source("b")
    await writer.write(contents(row(first), row(second, status=1), row(first, NOW + 1)))
    await writer.write(contents(row(first, NOW + 2)))
    stored = await connection.fetch("SELECT app_status FROM app_logs")
    assert [status for (status,) in stored] == [0, 0, 0]
    reasons = await connection.fetch("SELECT reason FROM rejected_samples")
    assert [reason for (reason,) in reasons] == ["refused_by_database"] * 2


async def test_settling_looks_once_for_each_half(
    writer: LogWriter, database: Database, connection: asyncpg.Connection
) -> None:
    who = source()
    times = [NOW + number for number in range(300)]
    await writer.write(contents(*(row(who, time) for time in times)))
    await connection.execute(
        "INSERT INTO pending_halves (created_at, source_id, app_status) "
        "SELECT created_at, source_id, 0 FROM app_logs"
    )
    keys = list(map(to_postgres_time, times))
    async with database.transaction() as used:
        plan = await used.fetchval(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {queries.SETTLE_AT_ONCE}",
            *(*NAMES.values(), keys[0], keys[-1], keys, [who.id] * len(keys), [who.id]),
        )
    loops = [int(float(number)) for number in re.findall(r'"Actual Loops": ([\d.]+)', plan)]
    assert max(loops) <= len(keys)
