"""Batches written to a real database."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from receiver.rows.model import Row, Source
from receiver.rows.reasons import Fate, Reason
from receiver.storage.connection.database import Database
from receiver.storage.writing.settling import find_waiting, settle_waiting
from receiver.storage.writing.sources import Sources
from receiver.storage.writing.statements import statements_of
from receiver.storage.writing.writer import Writer
from tests.conftest import MakeSettings
from tests.rows import (
    CATALOGUE,
    LOGS,
    NOW,
    contents,
    count,
    not_a_number,
    ocr_alone,
    row,
    source,
    status_alone,
    to_postgres_time,
)

Query = Callable[..., Any]


@pytest.fixture
def writer(database: Database) -> Writer:
    return Writer(database, CATALOGUE)


async def test_a_row_answers_the_users_query(
    writer: Writer, connection: asyncpg.Connection
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
    writer: Writer, connection: asyncpg.Connection
) -> None:
    who = source()
    rejected = not_a_number(who)
    batch = contents(row(who), row(who, NOW + 1), status_alone(who, NOW + 2), rejected)
    for _ in range(10):
        await writer.write(batch)
    assert await count(connection, "app_logs") == 2
    assert await count(connection, "pending_rows") == 1
    assert await count(connection, "rejected_samples") == 1


async def test_new_rows_of_a_repeated_batch_are_stored(
    writer: Writer, connection: asyncpg.Connection
) -> None:
    who = source()
    await writer.write(contents(row(who)))
    await writer.write(contents(row(who), row(who), row(who, NOW + 5)))
    assert await count(connection, "app_logs") == 2


@pytest.mark.parametrize("status_first", [True, False])
async def test_halves_of_two_batches_become_a_row(
    writer: Writer, connection: asyncpg.Connection, *, status_first: bool
) -> None:
    who = source()
    halves = [status_alone(who, status=1), ocr_alone(who)]
    for half in halves if status_first else reversed(halves):
        await writer.write(contents(half))
    (found,) = await connection.fetch("SELECT * FROM app_logs")
    assert (found["app_status"], found["ocr_value"].timestamp() * 1000) == (1, NOW)
    assert await count(connection, "pending_rows") == 0


@pytest.mark.parametrize("repeated", [status_alone, ocr_alone])
async def test_a_half_of_a_stored_row_does_not_wait(
    writer: Writer, connection: asyncpg.Connection, repeated: Callable[[Source], Row]
) -> None:
    who = source()
    await writer.write(contents(row(who)))
    await writer.write(contents(repeated(who)))
    assert await count(connection, "pending_rows") == 0
    assert await count(connection, "rejected_samples") == 0


@pytest.mark.parametrize(
    ("first", "second", "metric", "value"),
    [
        (row, lambda who: row(who, status=1), "app_status", 1.0),
        (row, lambda who: status_alone(who, status=1), "app_status", 1.0),
        (row, lambda who: ocr_alone(who, later=1), "ocr_value", NOW / 1000 + 1),
        (status_alone, lambda who: status_alone(who, status=1), "app_status", 1.0),
        (ocr_alone, lambda who: ocr_alone(who, later=1), "ocr_value", NOW / 1000 + 1),
    ],
)
async def test_a_contradiction_is_rejected_and_the_first_value_stays(
    writer: Writer,
    connection: asyncpg.Connection,
    first: Callable[[Source], Row],
    second: Callable[[Source], Row],
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
        "SELECT app_status::text AS status FROM app_logs "
        "UNION ALL SELECT samples ->> 'app_status' FROM pending_rows"
    )
    assert len(stored) == 1
    assert stored[0]["status"] in {"0", "0.0", None}


async def test_concurrent_twins_meet_exactly_once(
    database: Database, connection: asyncpg.Connection
) -> None:
    """Fails if the upsert is replaced by a SELECT followed by an INSERT."""
    replicas = [Writer(database, CATALOGUE) for _ in range(2)]
    sources = [source(str(number)) for number in range(20)]
    await Sources(database).resolve(sources)
    rounds = 30
    for moment in range(rounds):
        timestamp = NOW + moment
        await asyncio.gather(
            replicas[0].write(contents(*(status_alone(who, timestamp) for who in sources))),
            replicas[1].write(contents(*(ocr_alone(who, timestamp) for who in sources))),
        )
    assert await count(connection, "app_logs") == rounds * len(sources)
    assert await count(connection, "pending_rows") == 0


async def test_shuffled_keys_of_many_writers_do_not_deadlock(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    """The server counts its deadlocks; retries would hide them from the outcome."""
    generator = random.Random(1)
    sources = [source(str(number)) for number in range(50)]
    entries: list[Row] = []
    for who, moment in itertools.product(sources, range(4)):
        timestamp = NOW + moment
        entries += [row(who, timestamp), status_alone(who, timestamp), ocr_alone(who, timestamp)]
    databases = [Database(make_settings(database_url=database_url)) for _ in range(4)]
    for database in databases:
        await database.open()
    await Sources(databases[0]).resolve(sources)

    async def replay(database: Database) -> None:
        writer = Writer(database, CATALOGUE)
        for _ in range(5):
            chosen = generator.sample(entries, len(entries) // 2)
            keys: set[tuple[int, Source]] = set()
            halves = []
            for entry in chosen:
                # At most one incomplete row per key, as in a real batch.
                if None not in entry[2] or entry[:2] not in keys:
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
    writer: Writer, connection: asyncpg.Connection
) -> None:
    who = source()
    await writer.write(contents(row(who, status=7), row(who, NOW + 1, status=-3)))
    names = await connection.fetch("SELECT name FROM error_codes WHERE code IN (7, -3)")
    assert {name for (name,) in names} == {"UNREGISTERED_7", "UNREGISTERED_-3"}


async def test_a_code_that_the_user_renumbers_or_deletes_is_noticed(
    writer: Writer, connection: asyncpg.Connection
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
    writer: Writer, connection: asyncpg.Connection
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
    replicas = [[Source(LOGS, labels) for labels in label_sets] for _ in range(4)]
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
    sources = [Source(LOGS, (("path", value),)) for value in values]
    await Sources(database).resolve(sources)
    assert len({who.id for who in sources}) == len(values)
    stored = await connection.fetchval(
        "SELECT labels ->> 'path' FROM sources WHERE id = $1", sources[-1].id
    )
    assert stored == values[-1]


async def test_what_the_database_refuses_is_rejected_alone(
    writer: Writer, connection: asyncpg.Connection
) -> None:
    await connection.execute("ALTER TABLE app_logs ADD CHECK (app_status <> 13)")
    await connection.execute(
        "ALTER TABLE pending_rows ADD CHECK (samples ->> 'app_status' <> '13.0')"
    )
    who = source()
    rows = [row(who, NOW + number, status=13 if number == 37 else 0) for number in range(100)]
    await writer.write(contents(*rows, status_alone(who, NOW + 200, status=13)))
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
    writer: Writer,
    database: Database,
    connection: asyncpg.Connection,
    make_settings: MakeSettings,
) -> None:
    who = source()
    await writer.write(contents(status_alone(who, status=99), ocr_alone(who, NOW + 1, later=1)))
    settings = make_settings(pair_timeout="2h")
    assert not await settle_waiting(database, CATALOGUE, settings.pair_timeout)
    await connection.execute("UPDATE pending_rows SET arrived_at = now() - interval '121 min'")
    assert await settle_waiting(database, CATALOGUE, settings.pair_timeout) == {
        ("app_logs", Reason.UNPAIRED): 2
    }
    aside = await connection.fetch(
        "SELECT metric, timestamp_ms, value, reason FROM rejected_samples ORDER BY 2"
    )
    assert [tuple(sample) for sample in aside] == [
        ("app_status", NOW, 99.0, "unpaired"),
        ("ocr_value", NOW + 1, NOW / 1000 + 1, "unpaired"),
    ]
    assert await count(connection, "pending_rows") == 0


async def test_a_half_whose_row_came_by_another_way_stops_waiting(
    writer: Writer,
    database: Database,
    connection: asyncpg.Connection,
    make_settings: MakeSettings,
) -> None:
    """The transactions of the row and of the incomplete row did not see each other."""
    who = source()
    await writer.write(contents(status_alone(who)))
    await writer.write(contents(row(who)))
    fates = await settle_waiting(database, CATALOGUE, make_settings().pair_timeout)
    assert fates == {("app_logs", Fate.DUPLICATE): 1}
    assert await count(connection, "rejected_samples") == 0


async def test_only_the_chunks_of_the_batch_are_looked_at(
    writer: Writer, database: Database, connection: asyncpg.Connection
) -> None:
    query = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')"
    if not await connection.fetchval(query):
        pytest.skip("this server has no TimescaleDB; RECEIVER_TEST_DATABASE_URL can name one")
    who = source()
    day = 86_400_000
    await writer.write(contents(*(row(who, NOW + day * number) for number in range(30))))
    when = to_postgres_time(NOW)
    key = [when], [who.id]
    span = when, when
    async with database.transaction() as used:
        for statement, arguments in (
            (statements_of(LOGS).find, (*key, *span, [who.id])),
            (statements_of(LOGS).fill, (*key, [0], [0], *span)),
            (find_waiting(LOGS), (timedelta(minutes=30), 10, *span, ["app_status"])),
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
    writer: Writer, connection: asyncpg.Connection, constraint: str
) -> None:
    await connection.execute(constraint)
    first, second = source("a"), source("b")
    await writer.write(contents(row(first), row(second, status=1), row(first, NOW + 1)))
    await writer.write(contents(row(first, NOW + 2)))
    stored = await connection.fetch("SELECT app_status FROM app_logs")
    assert [status for (status,) in stored] == [0, 0, 0]
    reasons = await connection.fetch("SELECT reason FROM rejected_samples")
    assert [reason for (reason,) in reasons] == ["refused_by_database"] * 2


async def test_settling_looks_once_for_each_row(writer: Writer, database: Database) -> None:
    who = source()
    times = [NOW + number for number in range(300)]
    await writer.write(contents(*(row(who, time) for time in times)))
    keys = list(map(to_postgres_time, times))
    async with database.transaction() as used:
        plan = await used.fetchval(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {statements_of(LOGS).find}",
            *(keys, [who.id] * len(keys), keys[0], keys[-1], [who.id]),
        )
    loops = [int(float(number)) for number in re.findall(r'"Actual Loops": ([\d.]+)', plan)]
    assert max(loops) <= len(keys)
