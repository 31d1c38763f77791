"""User-defined constraints, triggers, rules and policies refuse rows; all others are stored."""

from __future__ import annotations

import asyncio
import json
import re

import asyncpg
import pytest

from receiver.errors import DatabaseUnavailableError, StatementRefusedError
from receiver.rows.model import Rejected, Series
from receiver.rows.reasons import Fate, Fates, Reason
from receiver.rows.tables import Column, Values
from receiver.storage.connection.database import Database
from receiver.storage.writing import registry
from receiver.storage.writing.checks import find_refused
from receiver.storage.writing.each import run_for_each
from receiver.storage.writing.settling import settle_waiting
from receiver.storage.writing.sources import STATEMENTS
from receiver.storage.writing.writer import Options, Writer
from tests.conftest import MakeSettings
from tests.databases import opened_database
from tests.roles import as_role, plain_role, run_script
from tests.rows import (
    CATALOGUE,
    NOW,
    OCR,
    STATUS,
    contents,
    count,
    not_a_number,
    ocr_alone,
    row,
    source,
    status_alone,
)

DISCARD = """
CREATE FUNCTION discard() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER discard BEFORE INSERT ON {table} FOR EACH ROW WHEN ({condition})
EXECUTE FUNCTION discard()
"""

RAISE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
'BEGIN IF {condition} THEN {action}; END IF; RETURN NEW; END';
CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()
"""

POLICY = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY all_seen ON {table} FOR SELECT USING (true);
CREATE POLICY certain ON {table} FOR INSERT WITH CHECK ({condition})
"""


@pytest.fixture
async def fates() -> Fates:
    return Fates()


@pytest.fixture
def writer(database: Database, fates: Fates) -> Writer:
    return Writer(database, CATALOGUE, count=fates.update)


async def reasons(connection: asyncpg.Connection) -> dict[str, int]:
    query = "SELECT reason, count(*) FROM rejected_samples GROUP BY 1"
    return dict(await connection.fetch(query))


COME_AND_GO = """
CREATE TABLE once AS SELECT true AS yes;
CREATE FUNCTION come_and_go() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_trigger_depth() > 1 OR NOT EXISTS (SELECT FROM once) THEN
        RETURN NULL;
    ELSIF TG_WHEN = 'BEFORE' THEN
        INSERT INTO error_codes (code, name) VALUES (7, 'gone');
    ELSE
        DELETE FROM error_codes WHERE code = 7;
        DELETE FROM once;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER come BEFORE INSERT ON error_codes FOR EACH STATEMENT EXECUTE FUNCTION come_and_go();
CREATE TRIGGER go AFTER INSERT ON error_codes FOR EACH STATEMENT EXECUTE FUNCTION come_and_go()
"""


async def test_a_code_that_is_deleted_while_it_is_registered_is_registered_again(
    writer: Writer, connection: asyncpg.Connection
) -> None:
    """Another receiver adds the code before the statement, and somebody then deletes it."""
    await connection.execute(COME_AND_GO)
    await writer.write(contents(row(source("a"), status=7.0)))
    assert await connection.fetchval("SELECT app_status FROM app_logs") == 7
    assert not await count(connection, "once")
    assert not await count(connection, "rejected_samples")


LABEL_SETS = [
    [digest.to_bytes(), json.dumps({"instance": name})]
    for digest, name in enumerate(("good", "bad", ""))
]
"""The first columns of `sources`."""

BAD = "NEW.labels ->> 'instance' LIKE 'bad%'"


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE sources ADD CHECK (labels ->> 'instance' NOT LIKE 'bad%')",
        "CREATE UNIQUE INDEX ON sources ((left(labels ->> 'instance', 3))) "
        "WHERE labels ->> 'instance' LIKE 'bad%';\n"
        "INSERT INTO sources (labels, digest) VALUES ('{\"instance\": \"bad\"}', 'x')",
        "ALTER TABLE sources ADD site TEXT NOT NULL GENERATED ALWAYS AS "
        "(CASE WHEN labels ->> 'instance' LIKE 'bad%' THEN NULL ELSE 'a' END) STORED",
        DISCARD.format(table="sources", condition=BAD),
        RAISE.format(table="sources", condition=BAD.replace("'", "''"), action="RAISE ''no''"),
        RAISE.format(
            table="sources", condition=BAD.replace("'", "''"), action="PERFORM * FROM nowhere"
        ),
        f"CREATE RULE discard AS ON INSERT TO sources WHERE {BAD} DO INSTEAD NOTHING",
    ],
    ids=["check", "unique", "not null", "discarded", "raised", "broken trigger", "rule"],
)
async def test_a_label_set_that_sources_does_not_take_harms_no_other(
    writer: Writer, connection: asyncpg.Connection, fates: Fates, change: str
) -> None:
    known = source("known")
    await writer.write(contents(row(known)))
    await run_script(connection, change)
    good = [row(source(f"good{number}"), NOW + number) for number in range(20)]
    bad = [row(source(f"bad{number}"), NOW + number, status=7) for number in range(3)]
    half = status_alone(source("bad half"), status=-0.0)
    for _ in range(3):
        await writer.write(contents(*good[:10], *bad, half, *good[10:], row(known, NOW + 1)))
    assert await count(connection, "app_logs") == 22
    assert await count(connection, "pending_rows") == 0
    rejected = await connection.fetch(
        "SELECT source_labels, metric, timestamp_ms, value::text, reason FROM rejected_samples "
        "WHERE source_id IS NULL ORDER BY source_labels ->> 'instance', metric"
    )
    assert [(json.loads(labels)["instance"], *rest) for labels, *rest in rejected] == [
        ("bad half", "app_status", NOW, "-0", "refused_by_database"),
        *(
            (f"bad{number}", metric, NOW + number, value, "refused_by_database")
            for number in range(3)
            for metric, value in (("app_status", "7"), ("ocr_value", "1700000000"))
        ),
    ]
    assert fates["app_logs", Reason.REFUSED] == 7
    assert fates["app_logs", Fate.STORED] == 44


async def test_a_label_set_that_is_taken_later_has_rows_then(
    writer: Writer, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "ALTER TABLE sources ADD CONSTRAINT named CHECK (labels ->> 'instance' <> 'bad')"
    )
    bad = source("bad")
    await writer.write(contents(row(bad)))
    detail = await connection.fetchval("SELECT min(detail) FROM rejected_samples")
    # On Citus, the name has a shard number.
    assert re.search(r'"named(_[0-9]+)?"', detail)
    await connection.execute("ALTER TABLE sources DROP CONSTRAINT named")
    await writer.write(contents(row(bad, NOW + 1)))
    assert await count(connection, "app_logs") == 1


@pytest.mark.parametrize("pause", [0, 10**6], ids=["retried", "in the pause"])
async def test_label_sets_are_refused_again_though_too_many_are_remembered(
    writer: Writer, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, pause: int
) -> None:
    """Remembering more of them forgets those that were refused before."""
    monkeypatch.setattr(registry, "MAX_REFUSED", 3)
    monkeypatch.setattr(registry, "LONG", 0)
    monkeypatch.setattr(registry, "REST", pause)
    await connection.execute("ALTER TABLE sources ADD CHECK (labels ->> 'instance' = 'good')")
    for turn, numbers in enumerate((range(3), range(5), range(2, 7))):
        bad = [row(source(f"bad{number}"), NOW + turn) for number in numbers]
        await writer.write(contents(row(source("good"), NOW + turn), *bad))
    assert await count(connection, "app_logs") == 3
    assert await reasons(connection) == {"refused_by_database": 2 * 13}


@pytest.mark.parametrize(
    ("check", "found"),
    [("labels ->> 'instance' <> 'bad'", {1}), ("1 / length(labels ->> 'instance') < 2", set())],
    ids=["read", "not decided"],
)
async def test_one_statement_finds_the_label_sets_that_a_check_refuses(
    database: Database, connection: asyncpg.Connection, check: str, found: set[int]
) -> None:
    await connection.execute(f"ALTER TABLE sources ADD CHECK ({check})")
    async with database.transaction() as session:
        refused = await find_refused(session, STATEMENTS.entries, LABEL_SETS)
        assert await session.fetchval("SELECT 1") == 1
    assert refused.keys() == found


async def test_a_session_that_ends_while_checks_are_read_is_not_used_again(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "ALTER TABLE sources ADD CHECK "
        "(pg_terminate_backend(pg_backend_pid() + 0 * length(labels ->> 'instance')))"
    )
    session = await asyncpg.connect(database_url)
    await session.execute("BEGIN")
    with pytest.raises(DatabaseUnavailableError, match="administrator command"):
        await find_refused(session, STATEMENTS.entries, LABEL_SETS)
    session.terminate()


async def test_thousands_of_refused_label_sets_take_few_transactions(
    writer: Writer, connection: asyncpg.Connection
) -> None:
    await connection.execute("ALTER TABLE sources ADD CHECK (labels ->> 'instance' = 'good')")
    batch = contents(row(source("good")), *(row(source(str(number))) for number in range(3000)))
    name = await connection.fetchval("SELECT current_database()")
    query = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1"
    before = await connection.fetchval(query, name)
    await writer.write(batch)
    assert await connection.fetchval(query, name) - before < 50
    assert await count(connection, "app_logs") == 1
    assert await reasons(connection) == {"refused_by_database": 6000}


async def test_each_of_many_refused_is_found_in_hardly_more_runs(
    database: Database, connection: asyncpg.Connection
) -> None:
    """Two runs per refused row would take twice as long, while neighbours wait."""
    await connection.execute("CREATE SEQUENCE runs")
    # A sequence also counts runs that are rolled back.
    count_and_divide = "SELECT nextval('runs'), 1 / (entry ->> 0)::int FROM unnest($1) AS entry"
    async with database.transaction() as session:
        failures = await run_for_each(session, "app_logs", count_and_divide, [[0]] * 1200)
    assert failures.keys() == set(range(1200))
    assert await connection.fetchval("SELECT nextval('runs')") < 1.3 * 1200


async def test_what_is_refused_is_found_by_its_place(database: Database) -> None:
    refused = {0, 7, 8, 499, 500, 1198, 1199}
    entries = [[int(place not in refused)] for place in range(1200)]
    divide = "SELECT 1 / (entry ->> 0)::int FROM unnest($1) AS entry"
    async with database.transaction() as session:
        assert (await run_for_each(session, "app_logs", divide, entries)).keys() == refused


async def test_hundreds_of_rows_that_a_check_refuses_are_rejected_in_time(
    writer: Writer, connection: asyncpg.Connection
) -> None:
    """Found one by one, they would take Citus longer than the commit timeout."""
    await run_script(
        connection,
        "ALTER TABLE app_logs ADD CONSTRAINT named CHECK (app_status <> 13);\n"
        "ALTER TABLE app_logs ADD CONSTRAINT later CHECK (ocr_value > '2000-01-01')",
    )
    who = [source(str(number)) for number in range(20)]
    rows = [row(who[n % 20], NOW + n, status=13 if n % 2 else 0) for n in range(800)]
    await writer.write(contents(*rows))
    assert await count(connection, "app_logs") == 400
    details = await connection.fetch("SELECT detail FROM rejected_samples")
    # TimescaleDB names the chunk.
    said = re.compile(r'new row for relation "[^"]+" violates check constraint "named"')
    assert len(details) == 800
    assert all(said.fullmatch(detail) for (detail,) in details)


async def test_what_is_stored_is_not_tried_again_beside_a_refused_row(
    writer: Writer, connection: asyncpg.Connection
) -> None:
    """Each retry would fail, and the sender resends everything if one takes too long."""
    await connection.execute(
        """
        CREATE SEQUENCE rows;
        CREATE SEQUENCE samples;
        ALTER TABLE app_logs ADD CHECK (nextval('rows') > 0 AND app_status <> 13);
        ALTER TABLE rejected_samples ADD CHECK (nextval('samples') > 0)
        """
    )
    batch = contents(*(row(source(), NOW + n, status=13 if n < 2 else 0) for n in range(100)))
    query = "SELECT nextval('rows'), nextval('samples')"
    await writer.write(batch)
    rows, samples = await connection.fetchrow(query)
    await writer.write(batch)
    assert await connection.fetchrow(query) < (rows + 20, 0)
    assert await connection.fetchval("SELECT nextval('samples')") == samples + 2
    assert await count(connection, "app_logs") == 98
    assert await count(connection, "rejected_samples") == 4


async def test_sources_of_which_something_was_refused_are_suspect(
    writer: Writer, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "ALTER TABLE pending_rows ADD CHECK (samples ->> 'app_status' <> '13.0')"
    )
    good, bad = source("good"), source("bad")
    await writer.write(contents(status_alone(good), status_alone(bad, status=13)))
    assert writer.are_suspect([(Series(OCR, good), NOW, 1.0)]) is False
    samples = [(Series(OCR, who), NOW, 1.0) for who in (good, bad)]
    assert writer.are_suspect(samples) is True


CODE_13 = "app_status = 13"


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE app_logs ADD CHECK (app_status <> 13)",
        "ALTER TABLE app_logs ADD CONSTRAINT finite CHECK (1 / (app_status - 13) < 2)",
        "ALTER TABLE app_logs ADD site TEXT; ALTER TABLE app_logs ADD CHECK (app_status <> 13)",
        "CREATE TABLE lines (id INT PRIMARY KEY); INSERT INTO lines VALUES (0);"
        "ALTER TABLE app_logs ADD FOREIGN KEY (app_status) REFERENCES lines "
        "DEFERRABLE INITIALLY DEFERRED",
        DISCARD.format(table="app_logs", condition="NEW.app_status = 13"),
        RAISE.format(table="app_logs", condition="NEW.app_status = 13", action="RAISE ''no''"),
        RAISE.format(
            table="app_logs", condition="NEW.app_status = 13", action="PERFORM * FROM nowhere"
        ),
        "ALTER TABLE error_codes ADD CHECK (code <> 13)",
        DISCARD.format(table="error_codes", condition="NEW.code = 13"),
        "CREATE RULE discard AS ON INSERT TO error_codes WHERE NEW.code = 13 DO INSTEAD NOTHING",
    ],
    ids=[
        "check",
        "failing check",
        "column",
        "deferred",
        "discarded",
        "raised",
        "broken trigger",
        "code",
        "discarded code",
        "rule for codes",
    ],
)
@pytest.mark.parametrize("halves", [False, True], ids=["rows", "halves"])
async def test_a_row_that_is_refused_harms_no_other(
    writer: Writer, connection: asyncpg.Connection, change: str, *, halves: bool
) -> None:
    who, other = source("a"), source("b")
    await writer.write(contents(row(who), row(other)))
    await connection.execute(change)
    for _ in range(3):
        rows = [
            row(who, NOW + number, status=13 if number in {7, 40} else 0) for number in range(1, 60)
        ]
        entries = [*rows, row(other, NOW + 1), ocr_alone(other, NOW + 2)]
        if halves:
            # Both samples of a refused row, in different transactions.
            await writer.write(contents(status_alone(who, NOW + 90, status=13)))
            entries.append(ocr_alone(who, NOW + 90))
        await writer.write(contents(*entries))
    assert await count(connection, "app_logs") == 60
    assert await count(connection, "pending_rows") == 1
    found = await connection.fetch(
        "SELECT DISTINCT timestamp_ms - $1, metric FROM rejected_samples ORDER BY 1, 2", NOW
    )
    refused = [7, 40, *([90] if halves else [])]
    assert [tuple(sample) for sample in found] == [
        (moment, metric) for moment in refused for metric in ("app_status", "ocr_value")
    ]
    assert await count(connection, "rejected_samples") == len(found)


async def test_a_source_whose_rows_were_refused_is_judged_beside_others(
    writer: Writer, connection: asyncpg.Connection
) -> None:
    change = RAISE.format(
        table="app_logs", condition="NEW.app_status = 13", action="PERFORM * FROM nowhere"
    )
    await connection.execute(change)
    who, other = source("a"), source("b")
    for moment in range(3):
        await writer.write(contents(row(who, NOW + moment, status=13), row(other, NOW + moment)))
    assert await count(connection, "app_logs") == 3
    assert await reasons(connection) == {"refused_by_database": 6}


async def test_batches_with_refused_rows_of_one_source_do_not_disturb_each_other(
    writer: Writer, connection: asyncpg.Connection
) -> None:
    """Each looks up the source again, as somebody may have deleted it, while others write."""
    await connection.execute("ALTER TABLE app_logs ADD CHECK (app_status <> 13)")
    who = source()
    batches = [
        contents(row(who, NOW + number, status=number % 2 * 13), not_a_number(who, NOW - number))
        for number in range(1, 31)
    ]
    await asyncio.gather(*map(writer.write, batches))
    assert await count(connection, "app_logs") == 15
    assert await reasons(connection) == {"refused_by_database": 30, "not_a_number": 30}
    assert await count(connection, "rejected_samples WHERE source_id IS NULL") == 0


@pytest.mark.parametrize(
    ("table", "condition"),
    [
        ("app_logs", "app_status <> 13"),
        ("error_codes", "code <> 13"),
        ("sources", "labels ->> 'instance' <> 'bad'"),
    ],
)
async def test_a_policy_judges_each_row(
    database_url: str,
    make_settings: MakeSettings,
    connection: asyncpg.Connection,
    table: str,
    condition: str,
) -> None:
    try:
        await run_script(connection, POLICY.format(table=table, condition=condition))
    except asyncpg.FeatureNotSupportedError as error:
        pytest.skip(f"TimescaleDB takes no policy where it compresses: {error}")
    async with plain_role(database_url) as role:
        await connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        settings = make_settings(database_url=as_role(database_url, role))
        async with opened_database(settings) as database:
            writer = Writer(database, CATALOGUE)
            bad = row(source("bad"), status=13)
            for _ in range(2):
                await writer.write(contents(row(source()), row(source(), NOW + 1)))
                await writer.write(contents(bad, row(source("b"))))
                await writer.write(contents(bad))
    assert await count(connection, "app_logs") == 3
    assert await count(connection, "rejected_samples") == 2


async def test_a_row_that_a_trigger_moves_is_stored_once(
    writer: Writer, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        """
        CREATE FUNCTION move() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.created_at := date_trunc('second', NEW.created_at); RETURN NEW; END $$;
        CREATE TRIGGER move BEFORE INSERT ON app_logs FOR EACH ROW EXECUTE FUNCTION move()
        """
    )
    batch = contents(row(source(), NOW + 7))
    for _ in range(3):
        await writer.write(batch)
    assert await count(connection, "app_logs") == 1
    assert await count(connection, "rejected_samples") == 0


DISCARD_UPDATE = DISCARD.replace("BEFORE INSERT", "BEFORE UPDATE")


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE pending_rows ADD CHECK (samples ->> 'app_status' <> '13.0')",
        DISCARD.format(table="pending_rows", condition="NEW.samples ->> 'app_status' = '13.0'"),
        DISCARD_UPDATE.format(
            table="pending_rows", condition="NEW.samples ->> 'app_status' = '13.0'"
        ),
        "CREATE RULE discard AS ON INSERT TO pending_rows "
        "WHERE NEW.samples ->> 'app_status' = '13.0' DO INSTEAD NOTHING",
        RAISE.format(
            table="pending_rows",
            condition="NEW.samples ->> ''app_status'' = ''13.0''",
            action="RAISE ''no''",
        ),
    ],
    ids=["check", "discarded", "update discarded", "rule", "raised"],
)
@pytest.mark.parametrize("first", [STATUS, OCR])
async def test_pending_rows_that_are_refused_harm_no_other(
    writer: Writer,
    connection: asyncpg.Connection,
    database: Database,
    make_settings: MakeSettings,
    fates: Fates,
    change: str,
    first: Column,
) -> None:
    await connection.execute(change)
    who = source()
    batches = [
        contents(*(status_alone(who, NOW + number, status=number) for number in range(20))),
        contents(*(ocr_alone(who, NOW + number) for number in range(20))),
    ]
    for batch in batches if first is STATUS else reversed(batches):
        await writer.write(batch)
    await settle_waiting(database, CATALOGUE, make_settings().pair_timeout)
    assert await count(connection, "app_logs") == 19
    assert await count(connection, "pending_rows") == 0
    assert await reasons(connection) == {"refused_by_database": 1, "other_sample_rejected": 1}
    assert not fates["app_logs", Fate.DUPLICATE]


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE rejected_samples ADD CHECK (metric <> 'app_status')",
        RAISE.format(
            table="rejected_samples",
            condition="NEW.metric = ''app_status''",
            action="RAISE ''no''",
        ),
        DISCARD.format(table="rejected_samples", condition="NEW.metric = 'app_status'"),
        "ALTER TABLE rejected_samples ADD CHECK (metric = 'ocr_value' OR value <> 1);\n"
        + DISCARD.format(table="rejected_samples", condition="NEW.metric = 'app_status'"),
    ],
    ids=["check", "raised", "discarded", "discarded beside a check"],
)
async def test_a_rejected_sample_that_is_refused_harms_no_other(
    writer: Writer,
    connection: asyncpg.Connection,
    caplog: pytest.LogCaptureFixture,
    fates: Fates,
    change: str,
) -> None:
    await run_script(connection, change)
    who = source()
    nan = not_a_number(who)
    kept = Rejected(who, OCR, NOW, float("inf"), Reason.INFINITE)
    for _ in range(2):
        await writer.write(contents(nan, kept, row(who, NOW + 1), status_alone(who, NOW + 2)))
    assert await count(connection, "app_logs") == 1
    assert await count(connection, "pending_rows") == 1
    assert await reasons(connection) == {"infinite": 1}
    assert fates["app_logs", Fate.DISCARDED] == 2
    assert fates["app_logs", Reason.INFINITE] == 1
    assert "app_status=nan" in caplog.text


async def test_maintenance_settles_beside_a_rejected_sample_that_is_refused(
    writer: Writer,
    database: Database,
    connection: asyncpg.Connection,
    make_settings: MakeSettings,
) -> None:
    await connection.execute("ALTER TABLE rejected_samples ADD CHECK (metric <> 'app_status')")
    who = source()
    await writer.write(contents(status_alone(who), ocr_alone(who, NOW + 1)))
    await connection.execute("UPDATE pending_rows SET arrived_at = now() - interval '1 day'")
    fates = await settle_waiting(database, CATALOGUE, make_settings().pair_timeout)
    assert fates == {("app_logs", Reason.UNPAIRED): 1, ("app_logs", Fate.DISCARDED): 1}
    assert await count(connection, "pending_rows") == 0


async def test_what_refuses_every_row_is_the_databases_fault(
    writer: Writer, connection: asyncpg.Connection
) -> None:
    """A sender must keep samples that cannot be stored because a table was changed."""
    who = source()
    await writer.write(contents(row(who)))
    await connection.execute("ALTER TABLE app_logs RENAME COLUMN ocr_value TO ocr_time")
    for batch in (contents(row(who, NOW + 1)), contents(row(who, NOW + 1), row(who, NOW + 2))):
        with pytest.raises(StatementRefusedError):
            await writer.write(batch)
    assert await count(connection, "rejected_samples") == 0


async def test_new_label_sets_beyond_the_limit_are_rejected(
    database: Database, connection: asyncpg.Connection
) -> None:
    writer = Writer(database, CATALOGUE, options=Options(new_sources=5))
    first = [row(source(str(number))) for number in range(4)]
    await writer.write(contents(*first))
    more = [row(source(f"more{number}")) for number in range(10)]
    for _ in range(2):
        await writer.write(contents(*more, *(row(one[1], NOW + 1) for one in first)))
    assert await count(connection, "sources") == 5
    assert await count(connection, "app_logs") == 9
    assert await reasons(connection) == {"too_many_new_sources": 18}
    detail = await connection.fetchval("SELECT min(detail) FROM rejected_samples")
    assert detail == "more than 5 in an hour (RECEIVER_MAX_NEW_SOURCES)"


async def test_new_codes_beyond_the_limit_are_rejected_with_their_other_samples(
    database: Database, connection: asyncpg.Connection
) -> None:
    writer = Writer(database, CATALOGUE, options=Options(new_codes=5))
    who = source()
    rows = [row(who, NOW + number, status=100 + number) for number in range(8)]
    half = status_alone(who, NOW + 100, status=200)
    for _ in range(2):
        await writer.write(contents(*rows, row(who, NOW + 50), half))
    await writer.write(contents(ocr_alone(who, NOW + 100)))
    assert await count(connection, "error_codes") == 4 + 5
    assert await count(connection, "app_logs") == 6
    assert await count(connection, "pending_rows") == 0
    assert await reasons(connection) == {"too_many_new_codes": 4, "other_sample_rejected": 4}


@pytest.mark.parametrize("first", [STATUS, OCR])
async def test_the_other_sample_of_a_rejected_one_does_not_wait(
    writer: Writer, connection: asyncpg.Connection, first: Column
) -> None:
    who = source()
    nan = not_a_number(who)
    broken = contents(nan)._replace(broken=[(NOW, who)])
    other = contents(ocr_alone(who))
    for batch in [broken, other] if first is STATUS else [other, broken]:
        await writer.write(batch)
    await writer.write(other)
    await writer.write(broken)
    assert await count(connection, "pending_rows") == 0
    found = await connection.fetch("SELECT metric, reason FROM rejected_samples ORDER BY 1")
    assert [tuple(sample) for sample in found] == [
        ("app_status", "not_a_number"),
        ("ocr_value", "other_sample_rejected"),
    ]


async def test_maintenance_rejects_what_a_transaction_did_not_see(
    writer: Writer,
    database: Database,
    connection: asyncpg.Connection,
    make_settings: MakeSettings,
) -> None:
    who = source()
    await writer.write(contents(ocr_alone(who)))
    nan = not_a_number(who)
    await writer.write(contents(nan))
    fates = await settle_waiting(database, CATALOGUE, make_settings().pair_timeout)
    assert fates == {("app_logs", Reason.WITH_OTHER): 1}
    assert await count(connection, "pending_rows") == 0


async def test_the_first_of_two_values_stays(
    writer: Writer, connection: asyncpg.Connection
) -> None:
    who = source()
    await writer.write(contents(row(who, status=5)))
    values: Values = [-0.0, NOW / 1000 + 1e-6]
    await writer.write(contents((NOW, who, values)))
    assert await connection.fetchval("SELECT app_status FROM app_logs") == 5
    found = await connection.fetch(
        "SELECT metric, value::text, reason FROM rejected_samples ORDER BY 1"
    )
    assert [tuple(sample) for sample in found] == [
        ("app_status", "-0", "conflict"),
        ("ocr_value", "1700000000.000001", "conflict"),
    ]


async def test_a_zero_keeps_its_sign_while_it_waits(
    writer: Writer,
    database: Database,
    connection: asyncpg.Connection,
    make_settings: MakeSettings,
) -> None:
    await writer.write(contents(status_alone(source(), status=-0.0)))
    await connection.execute("UPDATE pending_rows SET arrived_at = now() - interval '1 day'")
    await settle_waiting(database, CATALOGUE, make_settings().pair_timeout)
    assert await connection.fetchval("SELECT value::text FROM rejected_samples") == "-0"
