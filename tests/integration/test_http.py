"""How the receiver behaves as an HTTP/1.1 server (RFC 9110, RFC 9112), byte by byte over TCP.

No database is needed: requests without kept series are answered without one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple, Self

import pytest

from receiver.http.paths import WRITE as WRITE_PATH
from receiver.http.peer import HEAD_END, MAX_HEAD, MAX_HELD
from tests.conftest import MakeSettings
from tests.messages import NOW, compressed, series
from tests.receivers import Running, receiving
from tests.waiting import until

LIMIT: Final = 64 * 1024
GIB: Final = 2**30

GOOD = compressed(series({"__name__": "up"}, (1.0, NOW)))
UNNAMED = compressed(series({"job": "x"}, (1.0, NOW)))
PROTOBUF = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}


@pytest.fixture
async def receiver(make_settings: MakeSettings) -> AsyncIterator[Running]:
    settings = make_settings(
        database_url="postgresql://nobody@127.0.0.1:1/nothing",
        max_body_size=LIMIT,
        read_timeout="20s",
    )
    async with receiving(settings, wait=False) as running:
        yield running


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    """Header values by lower-case names."""
    body: bytes


class Connection:
    """A TCP connection to the receiver."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, content: bytes) -> Self:
        self._writer.write(content)
        await self._writer.drain()
        return self

    async def answer(self, *, body: bool = True) -> Answer:
        """Read one response, including interim ones; `body` says whether it may have a body."""
        async with asyncio.timeout(5):
            head = await self._reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("ascii").split("\r\n")[:-2]
            version, status, _ = first.split(" ", 2)
            assert version in {"HTTP/1.1", "HTTP/1.0"}
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines)
            }
            length = int(headers.get("content-length", 0)) if body else 0
            return Answer(int(status), headers, await self._reader.readexactly(length))

    async def ended(self) -> bool:
        """Return whether the receiver closes the connection without another byte."""
        async with asyncio.timeout(5):
            return await self._reader.read() == b""


@asynccontextmanager
async def connected(receiver: Running) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection(*receiver.address)
    try:
        yield Connection(reader, writer)
    finally:
        # Bytes that the receiver has not read may make it reset the connection.
        writer.transport.abort()


def head(headers: Mapping[str, str | int], method: str = "POST", path: str = WRITE_PATH) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: receiver"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def request(body: bytes, **headers: str) -> bytes:
    """Build a complete write request; header names are given with underscores."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return head({**PROTOBUF, "Content-Length": len(body), **given}) + body


def chunked(*chunks: bytes) -> bytes:
    """Build a write request with a chunked body."""
    encoded = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head({**PROTOBUF, "Transfer-Encoding": "chunked"}) + encoded + b"0\r\n\r\n"


async def exchange(receiver: Running, content: bytes, *, body: bool = True) -> Answer:
    async with connected(receiver) as connection:
        await connection.send(content)
        return await connection.answer(body=body)


async def still_writes(receiver: Running) -> bool:
    return (await exchange(receiver, request(GOOD))).status == 204


# --- methods and paths ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_only_post_writes(receiver: Running, method: str) -> None:
    content = head({"Content-Length": 0}, method)
    answer = await exchange(receiver, content, body=method != "HEAD")
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_other_pages_are_only_read(receiver: Running, method: str, path: str) -> None:
    answer = await exchange(receiver, head({"Content-Length": 0}, method, path))
    assert answer.status == 405
    assert {name.strip() for name in answer.headers["allow"].split(",")} == {"GET", "HEAD"}


@pytest.mark.parametrize(
    ("path", "status"), [("/metrics", 200), ("/-/healthy", 200), ("/-/ready", 503), ("/other", 404)]
)
async def test_head_is_get_without_its_body(receiver: Running, path: str, status: int) -> None:
    async with connected(receiver) as connection:
        for method in ("HEAD", "GET", "HEAD"):
            await connection.send(head({}, method, path))
            answer = await connection.answer(body=method == "GET")
            assert answer.status == status
            assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1",
        "/api/v1/writes",
        f"{WRITE_PATH}/",
        f"{WRITE_PATH}/x",
        "/API/V1/WRITE",
        f"/{WRITE_PATH}",
        "/api/v1/../v1/write",
    ],
)
async def test_there_is_nothing_elsewhere(receiver: Running, path: str) -> None:
    body = request(GOOD).replace(WRITE_PATH.encode(), path.encode(), 1)
    assert (await exchange(receiver, body)).status == 404


async def test_a_query_changes_nothing(receiver: Running) -> None:
    content = request(GOOD).replace(WRITE_PATH.encode(), f"{WRITE_PATH}?tenant=a".encode(), 1)
    assert (await exchange(receiver, content)).status == 204


@pytest.mark.parametrize("second", [", gzip", "\r\nContent-Encoding: gzip"])
async def test_a_second_encoding_is_refused(receiver: Running, second: str) -> None:
    answer = await exchange(receiver, request(GOOD, Content_Encoding=f"snappy{second}"))
    assert answer.status == 415
    assert b"'snappy, gzip' is not supported" in answer.body


async def test_a_body_whose_chunks_are_compressed_is_refused(receiver: Running) -> None:
    answer = await exchange(receiver, chunked(GOOD).replace(b"chunked", b"gzip, chunked", 1))
    assert answer.status == 400
    assert b"'gzip, chunked' is not supported" in answer.body
    assert await still_writes(receiver)


async def test_the_name_of_chunks_has_no_case(receiver: Running) -> None:
    answer = await exchange(receiver, chunked(GOOD).replace(b"chunked", b"Chunked", 1))
    assert answer.status == 204


# --- one connection, many requests ----------------------------------------------------------------

MANY: list[tuple[bytes, int]] = [
    (request(GOOD), 204),
    (request(GOOD, Content_Type="application/json"), 415),
    (request(GOOD), 204),
    (request(GOOD, Content_Encoding="zstd"), 415),
    (request(b"not snappy"), 400),
    (request(UNNAMED), 400),
    (chunked(GOOD[:5], GOOD[5:]), 204),
    (chunked(b"not snappy"), 400),
    (request(b""), 400),
    (head({}, "GET", "/-/healthy"), 200),
    (head({}, "GET", "/-/ready"), 503),
    (head({"Content-Length": 3}, "PUT") + b"abc", 405),
    (head({"Content-Length": 3}, path="/other") + b"abc", 404),
    (request(GOOD), 204),
]


async def test_a_connection_outlives_refusals(receiver: Running) -> None:
    async with connected(receiver) as connection:
        for content, status in MANY:
            await connection.send(content)
            answer = await connection.answer()
            assert answer.status == status
            assert answer.headers.get("connection", "keep-alive").lower() == "keep-alive"


async def test_pipelined_requests_are_answered_in_order(receiver: Running) -> None:
    pipelined = [one for one in MANY if b"chunked" not in one[0]]
    async with connected(receiver) as connection:
        await connection.send(b"".join(content for content, _ in pipelined))
        for _, status in pipelined:
            assert (await connection.answer()).status == status


async def test_what_follows_a_chunked_request_too_early_is_not_answered(receiver: Running) -> None:
    async with connected(receiver) as connection:
        await connection.send(chunked(GOOD) + request(GOOD))
        assert (await connection.answer()).status == 204
        assert await connection.ended()


async def test_pipelined_requests_beyond_a_limit_are_not_answered(receiver: Running) -> None:
    async with connected(receiver) as connection:
        await connection.send(request(GOOD) + request(bytes(MAX_HELD)))
        assert (await connection.answer()).status == 204
        assert await connection.ended()


async def test_a_length_of_many_digits_is_refused(receiver: Running) -> None:
    answer = await exchange(receiver, head({**PROTOBUF, "Content-Length": "9" * 5000}))
    assert answer.status == 400
    assert await still_writes(receiver)


async def test_pipelined_headers_are_limited(receiver: Running) -> None:
    many = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 4000) for number in range(12))
    async with connected(receiver) as connection:
        await connection.send(head({}, "GET", "/-/healthy") + b"GET / HTTP/1.1\r\n" + many)
        assert [(await connection.answer()).status for _ in range(2)] == [200, 431]
        assert await connection.ended()


async def test_a_connect_request_is_the_last_if_it_has_a_length(receiver: Running) -> None:
    """CONNECT has no body, so that its length must not hide other requests from the limits."""
    async with connected(receiver) as connection:
        await connection.send(head({"Content-Length": GIB}, "CONNECT", "receiver:80"))
        assert (await connection.answer()).status == 403
        assert await connection.ended()


async def test_a_length_may_begin_with_zeros(receiver: Running) -> None:
    content = request(GOOD, Content_Length=f"{len(GOOD):050}")
    async with connected(receiver) as connection:
        for _ in range(2):
            await connection.send(content)
            assert (await connection.answer()).status == 204


async def test_a_connection_outlives_an_unknown_expectation(receiver: Running) -> None:
    async with connected(receiver) as connection:
        await connection.send(head({"Expect": "nothing"}, "GET", "/-/healthy"))
        assert (await connection.answer()).status == 417
        await connection.send(request(GOOD))
        assert (await connection.answer()).status == 204


async def test_a_request_may_come_byte_by_byte(receiver: Running) -> None:
    async with connected(receiver) as connection:
        for content in (request(GOOD), chunked(GOOD)):
            for byte in content:
                await connection.send(bytes([byte]))
            assert (await connection.answer()).status == 204


async def test_a_connection_is_closed_when_the_sender_asks_for_it(receiver: Running) -> None:
    async with connected(receiver) as connection:
        await connection.send(request(GOOD, Connection="close"))
        answer = await connection.answer()
        assert (answer.status, answer.headers["connection"]) == (204, "close")
        assert await connection.ended()


async def test_an_old_client_is_served(receiver: Running) -> None:
    async with connected(receiver) as connection:
        await connection.send(request(GOOD).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        assert (await connection.answer()).status == 204
        assert await connection.ended()


# --- Expect: 100-continue (RFC 9110, section 10.1.1) ----------------------------------------------


def expecting(length: int, **headers: str) -> bytes:
    """Build the head of a request whose sender waits for 100 Continue before the body."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return head({**PROTOBUF, "Content-Length": length, "Expect": "100-continue", **given})


@pytest.mark.parametrize("expect", ["100-continue", "100-Continue"])
async def test_a_sender_is_told_to_continue(receiver: Running, expect: str) -> None:
    async with connected(receiver) as connection:
        for _ in range(2):
            await connection.send(expecting(len(GOOD), Expect=expect))
            assert (await connection.answer()).status == 100
            await connection.send(GOOD)
            assert (await connection.answer()).status == 204


async def test_a_sender_of_chunks_is_told_to_continue(receiver: Running) -> None:
    async with connected(receiver) as connection:
        begin, end, rest = chunked(GOOD).partition(b"\r\n\r\n")
        await connection.send(begin + b"\r\nExpect: 100-continue" + end)
        assert (await connection.answer()).status == 100
        await connection.send(rest)
        assert (await connection.answer()).status == 204


async def test_a_faulty_body_is_refused_after_it_was_asked_for(receiver: Running) -> None:
    async with connected(receiver) as connection:
        await connection.send(expecting(len(UNNAMED)))
        assert (await connection.answer()).status == 100
        await connection.send(UNNAMED)
        answer = await connection.answer()
        assert (answer.status, b"__name__" in answer.body) == (400, True)


@pytest.mark.parametrize(
    ("length", "headers", "status"),
    [
        pytest.param(LIMIT + 1, {}, 413, id="too large"),
        pytest.param(GIB, {}, 413, id="far too large"),
        pytest.param(len(GOOD), {"Content_Type": "text/plain"}, 415, id="type"),
        pytest.param(len(GOOD), {"Content_Encoding": "gzip"}, 415, id="encoding"),
    ],
)
async def test_a_body_is_not_asked_for_in_vain(
    receiver: Running, length: int, headers: dict[str, str], status: int
) -> None:
    assert (await exchange(receiver, expecting(length, **headers))).status == status
    assert await still_writes(receiver)


async def test_a_client_of_http_1_0_waits_for_nothing(receiver: Running) -> None:
    content = (expecting(len(GOOD)) + GOOD).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    assert (await exchange(receiver, content)).status == 204


async def test_after_a_refusal_the_body_may_come_or_not(receiver: Running) -> None:
    """Either the connection stays in sync, or the answer says that it will be closed."""
    async with connected(receiver) as connection:
        await connection.send(expecting(len(GOOD), Content_Type="text/plain"))
        answer = await connection.answer()
        assert answer.status == 415
        if answer.headers.get("connection", "").lower() != "close":
            await connection.send(GOOD + request(GOOD))
            assert (await connection.answer()).status == 204


# --- the length of a body -------------------------------------------------------------------------


async def test_a_body_of_unknown_length_is_refused(receiver: Running) -> None:
    assert (await exchange(receiver, head(PROTOBUF))).status == 411
    assert await still_writes(receiver)


async def test_an_empty_body_is_not_one_of_unknown_length(receiver: Running) -> None:
    answer = await exchange(receiver, head({**PROTOBUF, "Content-Length": 0}))
    assert (answer.status, b"snappy" in answer.body) == (400, True)


@pytest.mark.parametrize(
    ("length", "sent"),
    [(GIB, 0), (GIB, 3), (2**63 - 1, 3), (LIMIT + 1, LIMIT)],
    ids=["nothing sent", "a little sent", "the largest number", "nearly all sent"],
)
async def test_too_large_a_body_is_refused_before_it_has_come(
    receiver: Running, length: int, sent: int
) -> None:
    content = head({**PROTOBUF, "Content-Length": length}) + bytes(sent)
    async with asyncio.timeout(2):
        answer = await exchange(receiver, content)
    assert answer.status == 413
    assert b"RECEIVER_MAX_BODY_SIZE" in answer.body
    assert await still_writes(receiver)


async def test_chunks_are_refused_as_soon_as_they_are_too_many(receiver: Running) -> None:
    async with connected(receiver) as connection:
        await connection.send(head({**PROTOBUF, "Transfer-Encoding": "chunked"}))
        await connection.send(b"%x\r\n%s\r\n" % (LIMIT + 1, bytes(LIMIT + 1)))
        async with asyncio.timeout(2):
            answer = await connection.answer()
        assert (answer.status, b"RECEIVER_MAX_BODY_SIZE" in answer.body) == (413, True)


async def test_a_body_as_large_as_the_limit_is_read(receiver: Running) -> None:
    assert (await exchange(receiver, request(bytes(LIMIT)))).status == 400


@pytest.mark.parametrize("sizes", [[1] * len(GOOD), [len(GOOD)], [3, len(GOOD) - 3]])
async def test_chunks_of_any_size_make_a_body(receiver: Running, sizes: list[int]) -> None:
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    parts = [GOOD[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    assert (await exchange(receiver, chunked(*parts))).status == 204


async def test_a_chunk_may_have_extensions_and_a_body_trailers(receiver: Running) -> None:
    content = head({**PROTOBUF, "Transfer-Encoding": "chunked"})
    content += b"%X;name=value\r\n%s\r\n0\r\nX-Checksum: 1\r\n\r\n" % (len(GOOD), GOOD)
    assert (await exchange(receiver, content)).status == 204


async def test_a_body_in_tiny_chunks_is_hung_up_on(receiver: Running) -> None:
    async with connected(receiver) as connection:
        with suppress(ConnectionError):
            await connection.send(chunked(*[b"a"] * 30_000))
            await connection.ended()
    assert await still_writes(receiver)
    _, text = await receiver.get("/metrics")
    assert 'receiver_connections_closed_total{cause="chunks"} 1.0' in text


# --- the size of the headers ----------------------------------------------------------------------


def headers_of(size: int) -> bytes:
    """Build a valid request whose request line and headers take `size` bytes."""
    lines = {f"X-{number}": "a" * 7000 for number in range(size // 8000)}
    missing = size - len(request(GOOD, **lines, X_Rest="")) + len(GOOD) + 4
    return request(GOOD, **lines, X_Rest="a" * missing)


@pytest.mark.parametrize("parts", [1, 2, 7, 1000])
async def test_large_headers_are_read_up_to_a_limit(receiver: Running, parts: int) -> None:
    content = headers_of(MAX_HEAD)
    async with connected(receiver) as connection:
        for _ in range(2):
            step = -(-len(content) // parts)
            for start in range(0, len(content), step):
                await connection.send(content[start : start + step])
            assert (await connection.answer()).status == 204


@pytest.mark.parametrize("first", [b"", request(GOOD), request(b"", Content_Type="text/plain")])
async def test_larger_headers_are_refused_while_they_come(receiver: Running, first: bytes) -> None:
    async with connected(receiver) as connection:
        if first:
            await (await connection.send(first)).answer()
        await connection.send(headers_of(MAX_HEAD + 1).partition(HEAD_END)[0] + b"a" * 10)
        answer = await connection.answer()
        assert (answer.status, answer.headers["connection"]) == (431, "close")
    assert await still_writes(receiver)


# --- truncated requests, and bytes that are not HTTP ----------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(request(GOOD)[:-1], id="body"),
        pytest.param(request(GOOD)[: -len(GOOD)], id="before the body"),
        pytest.param(request(GOOD)[:40], id="head"),
        pytest.param(chunked(GOOD)[:-5], id="before the last chunk"),
        pytest.param(chunked(GOOD)[:-15], id="within a chunk"),
        pytest.param(expecting(len(GOOD)), id="while it is expected"),
    ],
)
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_request_that_breaks_off_harms_nobody(
    receiver: Running, caplog: pytest.LogCaptureFixture, content: bytes, how: str
) -> None:
    _, writer = await asyncio.open_connection(*receiver.address)
    writer.write(content)
    await writer.drain()
    assert await still_writes(receiver)
    if how == "close":
        writer.close()
        await writer.wait_closed()
    else:
        writer.transport.abort()
    assert await still_writes(receiver)
    await until(lambda: nothing_under_way(receiver))
    _, text = await receiver.get("/metrics")
    assert 'code="5' not in text
    assert not [record for record in caplog.records if record.exc_info]


async def nothing_under_way(receiver: Running) -> bool:
    _, text = await receiver.get("/metrics")
    return "receiver_requests_in_flight 0.0" in text


CHUNKED = {**PROTOBUF, "Transfer-Encoding": "chunked"}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(head(CHUNKED) + b"zz\r\nabc\r\n0\r\n\r\n", id="size is no number"),
        pytest.param(head(CHUNKED) + b"-3\r\nabc\r\n0\r\n\r\n", id="size is negative"),
        pytest.param(head(CHUNKED) + b"\r\nabc\r\n0\r\n\r\n", id="size is missing"),
        pytest.param(head(CHUNKED) + b"f" * 17 + b"\r\nabc", id="size is beyond 64 bits"),
        pytest.param(head(CHUNKED) + b"3\r\nabcdef\r\n0\r\n\r\n", id="chunk is longer"),
        pytest.param(head({**CHUNKED, "Content-Length": 3}) + b"0\r\n\r\n", id="two lengths"),
        pytest.param(head({**PROTOBUF, "Content-Length": "x"}), id="length is no number"),
        pytest.param(head({**PROTOBUF, "Content-Length": "-1"}), id="length is negative"),
        pytest.param(head({**PROTOBUF, "Content-Length": "+1"}), id="length has a sign"),
        pytest.param(head({**PROTOBUF, "Content-Length": "9" * 30}), id="length is endless"),
        pytest.param(
            head({**PROTOBUF, "Content-Length": 3}).replace(b"\r\n\r\n", b"\r\nContent-Length: 4")
            + b"\r\n\r\nabcd",
            id="two different lengths",
        ),
        pytest.param(
            head({**PROTOBUF, "Transfer-Encoding": "gzip"}) + b"abc", id="unknown transfer coding"
        ),
        pytest.param(b"not http at all\r\n\r\n", id="no http"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", id="tls"),
        pytest.param(b"POST /api/v1/write HTTP/1.1\r\nno colon\r\n\r\n", id="no header"),
        pytest.param(b"POST /api/v1/write HTTP/9.9\r\n\r\n", id="unknown version"),
        pytest.param(head({"X-NUL": "a\0b"}), id="NUL in a header"),
    ],
)
async def test_a_malformed_request_is_a_bad_request(receiver: Running, content: bytes) -> None:
    async with connected(receiver) as connection:
        await connection.send(content)
        assert (await connection.answer()).status == 400
    assert await still_writes(receiver)


async def test_a_malformed_chunk_after_good_ones_is_a_bad_request(receiver: Running) -> None:
    async with connected(receiver) as connection:
        await connection.send(head(CHUNKED) + b"3\r\nabc\r\n")
        await connection.send(b"zz\r\nabc\r\n0\r\n\r\n")
        assert (await connection.answer()).status == 400
    assert await still_writes(receiver)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(head({**PROTOBUF, "X-Long": "x" * 100_000}), id="one long header"),
        pytest.param(
            head({**PROTOBUF, **{f"X-{number}": "x" * 100 for number in range(5000)}}),
            id="many headers",
        ),
        pytest.param(head(PROTOBUF, path="/" + "x" * 100_000), id="long path"),
    ],
)
async def test_too_large_a_head_is_refused(receiver: Running, content: bytes) -> None:
    async with connected(receiver) as connection:
        await connection.send(content)
        assert (await connection.answer()).status in {400, 414, 431}
    assert await still_writes(receiver)


async def test_refusals_say_what_they_are_in_plain_text(receiver: Running) -> None:
    for content, status in MANY:
        answer = await exchange(receiver, content)
        if status == 204:
            assert answer.body == b""
            assert "content-type" not in answer.headers
        else:
            assert answer.headers["content-type"].startswith("text/plain")
            assert answer.body.strip()
