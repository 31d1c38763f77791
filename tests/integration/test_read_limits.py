"""Read requests that are refused, hostile, too large, or whose answer is never read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import asyncpg
import psutil
import pytest
import snappy

from receiver.config.catalogue import built_in
from receiver.errors import ReceiverError
from receiver.http.paths import READ
from receiver.process.app import STORE
from receiver.protocol.generated import remote_read_pb2 as messages
from receiver.protocol.queries import Query
from receiver.storage.reading.pool import ReadPool
from receiver.storage.reading.series import Place, StoredSeries
from receiver.storage.reading.series_statement import select_samples
from tests.conftest import MakeSettings
from tests.messages import NOW
from tests.plans import explain
from tests.reading import HEADERS, STREAMED, named, query, read, request
from tests.receivers import Running, encode, receiving
from tests.tables import camera
from tests.waiting import until

MANY = 200_000
INSERT = """
INSERT INTO app_logs (created_at, app_status, ocr_value, source_id)
SELECT to_timestamp(1700000000) + place * INTERVAL '1 s', place % 3, now(), id
FROM sources, generate_series(1, $1::int) AS place
"""


@asynccontextmanager
async def reading(
    database_url: str, make_settings: MakeSettings, **settings: object
) -> AsyncIterator[Running]:
    """Run a receiver that has stored one row."""
    async with receiving(make_settings(database_url=database_url, **settings)) as receiver:
        await receiver.send(*camera(NOW, 0))
        yield receiver


@pytest.fixture
async def receiver(database_url: str, make_settings: MakeSettings) -> AsyncIterator[Running]:
    async with reading(database_url, make_settings) as running:
        yield running


async def still_works(receiver: Running) -> bool:
    """Return whether rows can be written and read."""
    status, _ = await receiver.post(encode(camera(NOW, 0)))
    answer = await read(receiver, request(named("app_status")))
    return (status, answer.status) == (204, 200)


async def add_many(connection: asyncpg.Connection, count: int = MANY) -> None:
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(INSERT, count)


# --- what is refused ------------------------------------------------------------------------------


def with_types(*types: int) -> bytes:
    message = messages.ReadRequest(queries=[named("app_status")], accepted_response_types=types)  # type: ignore[arg-type]
    return bytes(snappy.compress(message.SerializeToString()))


def with_matcher(**values: object) -> bytes:
    matcher = messages.LabelMatcher(**values)  # type: ignore[arg-type]
    message = messages.ReadRequest(queries=[messages.Query(matchers=[matcher])])
    return bytes(snappy.compress(message.SerializeToString()))


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "snappy"),
        (b"no snappy", 400, "snappy"),
        (bytes(snappy.compress(b"\xff" * 100)), 400, "prometheus.ReadRequest"),
        (bytes(snappy.compress(bytes(2**20 + 1))), 413, "1048576 for read requests"),
        (request(query(("job", "=~", "("))), 400, "matcher of 'job': must be a regular expression"),
        (request(query(("job", "!~", "a**"))), 400, "matcher of 'job'"),
        (request(query(("job", "=~", "(?=x)"))), 400, "matcher of 'job'"),
        (request(query(("job", "=~", "(x{500}){500}"))), 400, "matcher of 'job'"),
        (with_matcher(type=4, name="job", value="x"), 400, "unknown type 4"),
        (with_types(7), 400, "accepted_response_types [7]"),
        (request(*[named("up")] * 10_000), 413, "10000 queries, the limit is 100"),
        (request(query(*[("job", "=~", ".*")] * 201)), 413, "201 matchers, the limit is 200"),
    ],
)
async def test_refused(receiver: Running, body: bytes, status: int, said: str) -> None:
    answer = await read(receiver, body)
    assert (answer.status, said in answer.body.decode()) == (status, True), answer.body
    assert answer.body.count(b"\n") == 1
    assert await still_works(receiver)


async def test_the_first_type_that_there_is_counts(receiver: Running) -> None:
    for types, streamed in (((7, 1, 0), True), ((0, 1), False), ((9, 0), False), ((1,), True)):
        answer = await read(receiver, with_types(*types))
        assert (answer.headers["Content-Type"] == STREAMED) is streamed


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Type": "application/json"},
        {"Content_Type": "application/x-protobuf;proto=prometheus.WriteRequest"},
        {"Content_Encoding": "gzip"},
    ],
)
async def test_other_media_are_refused(receiver: Running, headers: dict[str, str]) -> None:
    assert (await read(receiver, request(named("app_status")), **headers)).status == 415


async def test_a_receiver_that_has_only_refused_reads_ends(
    database_url: str, make_settings: MakeSettings
) -> None:
    async with receiving(make_settings(database_url=database_url)) as receiver:
        assert (await read(receiver, b"nothing")).status == 400


async def test_only_post_reads(receiver: Running) -> None:
    assert (await receiver.get(READ))[0] == 405


# --- limits, each by its name ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value", "streamed"),
    [
        ("max_remote_read_series", 1, False),
        ("max_remote_read_series", 1, True),
        ("max_remote_read_samples", 3, False),
        ("max_remote_read_samples", 3, True),
        ("max_remote_read_size", "1KiB", False),
        ("max_remote_read_frame", "1KiB", True),
        ("remote_read_timeout", "1ms", False),
        ("remote_read_timeout", "1ms", True),
    ],
)
async def test_a_limit_is_named(
    database_url: str,
    make_settings: MakeSettings,
    connection: asyncpg.Connection,
    setting: str,
    value: object,
    streamed: bool,
) -> None:
    async with reading(database_url, make_settings, **{setting: value}) as receiver:
        await add_many(connection, 5_000)
        answer = await read(receiver, request(query(("job", "=", "camera")), streamed=streamed))
        assert answer.status == 422
        assert f"(RECEIVER_{setting.upper()})" in answer.body.decode()


async def test_a_limit_that_is_reached_is_not_exceeded(
    database_url: str, make_settings: MakeSettings
) -> None:
    limits = {"max_remote_read_series": 2, "max_remote_read_samples": 2}
    async with reading(database_url, make_settings, **limits) as receiver:
        assert (await read(receiver, request(query(("job", "=", "camera"))))).status == 200


async def test_an_answer_that_becomes_too_large_breaks_off(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    async with reading(database_url, make_settings, max_remote_read_samples=2 * MANY) as receiver:
        await add_many(connection)
        # The first series has been sent, so the status can no longer report the error.
        with pytest.raises(aiohttp.ClientPayloadError):
            await read(receiver, request(query(("job", "=", "camera")), streamed=True))
        _, text = await receiver.get("/metrics")
        assert "receiver_read_answers_broken_off_total 1.0" in text
        assert (await read(receiver, request(named("up")))).status == 200


# --- hostile requests -----------------------------------------------------------------------------

BOMBS = (
    "(.*x){1,900}z",
    "((a?){1,30}){1,30}b",
    "(x{1,30}y?){1,30}(x{1,30}y?){1,30}z",
    "(.*)*" * 50,
)


@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_regular_expression_keeps_nobody_from_writing(
    receiver: Running, connection: asyncpg.Connection, bomb: str
) -> None:
    await connection.execute(
        """
        INSERT INTO sources (labels, digest)
        SELECT jsonb_build_object('text', repeat('xa', 200) || number), number::text::bytea
        FROM generate_series(1, 3000) AS number
        """
    )
    body = request(*[query(("text", operator, bomb)) for operator in ("=~", "!~")] * 5)
    attack = asyncio.create_task(read(receiver, body))
    for _ in range(5):
        assert (await receiver.post(encode(camera(NOW, 0))))[0] == 204
    # If evaluated in one piece, it would be done before the first write is answered.
    assert not attack.done()
    attack.cancel()
    assert await still_works(receiver)


async def test_regular_expressions_that_take_long_to_compile_keep_nobody_waiting(
    database_url: str, make_settings: MakeSettings
) -> None:
    matchers = [("text", "=~", rf"(?i)[\pL\pN]{{1,200}}{number}") for number in range(200)]
    async with reading(database_url, make_settings, remote_read_timeout="10s") as receiver:
        attack = asyncio.create_task(read(receiver, request(query(*matchers))))
        assert (await receiver.post(encode(camera(NOW, 0))))[0] == 204
        assert not attack.done()
        assert await still_works(receiver)
        answer = await attack
        # All of them take much longer.
        assert answer.status == 422
        assert "(RECEIVER_REMOTE_READ_TIMEOUT)" in answer.body.decode()


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_range_of_300_years(receiver: Running, streamed: bool) -> None:
    wanted = query(("__name__", "=~", ".+"), start=-4_733_510_400_000, end=4_733_510_400_000)
    answer = await read(receiver, request(*[wanted] * 100, streamed=streamed))
    assert all(len(result) == 2 for result in answer.results(100))


async def test_who_does_not_read_is_served_no_more(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    limits = {"max_remote_reads": 1, "remote_read_timeout": "10s"}
    async with reading(database_url, make_settings, **limits) as receiver:
        # More rows than the buffers of a connection hold.
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(
            """
            INSERT INTO app_logs (created_at, app_status, ocr_value, source_id)
            SELECT to_timestamp(1700000000) + place * INTERVAL '1 s', 0,
                to_timestamp(random() * 1e9), id
            FROM sources, generate_series(1, 700000) AS place
            """
        )
        before = psutil.Process().memory_info().rss
        with socket.socket() as idle:
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            idle.connect(receiver.address)
            body = request(named("ocr_value"), streamed=True)
            lines = [f"POST {READ} HTTP/1.1", "Host: receiver", f"Content-Length: {len(body)}"]
            lines += [f"{name}: {value}" for name, value in HEADERS.items()]
            idle.sendall("\r\n".join([*lines, "", ""]).encode() + body)

            async def broken_off() -> bool:
                assert (await receiver.post(encode(camera(NOW, 0))))[0] == 204
                _, text = await receiver.get("/metrics")
                return "receiver_read_answers_broken_off_total 1.0" in text

            await until(broken_off, seconds=60)
        assert psutil.Process().memory_info().rss - before < 64 * 2**20
        assert (await read(receiver, request(query(("job", "=", "nobody"))))).status == 200


async def test_reads_wait_for_their_turn(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    async with reading(database_url, make_settings, max_remote_reads=2) as receiver:
        await add_many(connection, 20_000)
        body = request(named("app_status"), streamed=True)
        answers = await asyncio.gather(*(read(receiver, body) for _ in range(12)))
        assert [len(answer.results()[0][0][1]) for answer in answers] == [20_001] * 12
        sessions = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'receiver remote read'"
        )
        assert sessions == 2


# --- the database ---------------------------------------------------------------------------------


async def test_readers_can_change_nothing(database_url: str, make_settings: MakeSettings) -> None:
    pool = ReadPool(make_settings(database_url=database_url))
    with pytest.raises(ReceiverError, match="read-only"):
        async with pool.snapshot() as connection:
            await connection.execute("INSERT INTO sources (labels, digest) VALUES ('{}', '')")
    async with pool.snapshot() as connection:
        assert await connection.fetchval("SHOW statement_timeout") == "125s"
    await pool.close()


async def test_without_a_database_the_answer_is_503(make_settings: MakeSettings) -> None:
    settings = make_settings(database_url="postgresql://nobody@127.0.0.1:1/nothing")
    async with receiving(settings, wait=False) as receiver:
        for streamed in (False, True):
            answer = await read(receiver, request(named("app_status"), streamed=streamed))
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "5"


async def test_a_lost_connection_is_replaced(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    body = request(named("app_status"))
    assert (await read(receiver, body)).status == 200
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'receiver remote read'"
    )

    async def answered() -> bool:
        answer = await read(receiver, body)
        assert answer.status in {200, 503}
        return answer.status == 200

    await until(answered)


async def test_samples_are_read_by_the_primary_key(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    # The statistics are those of a nearly empty table.
    await add_many(connection)
    pool = ReadPool(receiver.app[STORE]._settings)
    series = [
        StoredSeries((), (Place(table, table.columns[0], number),))
        for table in built_in().tables
        for number in range(1, 50)
    ]
    statement = select_samples(series, Query(NOW, NOW + 10_000, ()))
    async with pool.snapshot() as reader:
        found = await explain(reader, statement)
    await pool.close()
    kinds = {node["Node Type"] for node in found}
    assert "Index Scan" in kinds
    # A Custom Scan reads the chunks of a hypertable.
    others = {"Nested Loop", "Function Scan", "Subquery Scan", "Result", "Custom Scan"}
    assert kinds <= {"Index Scan", *others}
    names = {node["Index Name"] for node in found if "Index Name" in node}
    assert {name.endswith("app_logs_pkey") for name in names} == {True}
