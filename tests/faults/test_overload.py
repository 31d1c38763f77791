"""Floods, slow clients and bombs: refused at once, with bounded memory and no lasting effect."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.faults.processes import Database, Replica, memory, replica, replicas
from tests.faults.requests import request, stored, stuck
from tests.faults.wire import Answer, Link, post, post_bytes
from tests.waiting import until

MB = 2**20
IDLE_CONNECTIONS = 2_000
# A receiver with all libraries takes about 70 MB; the memory that a test adds must stand out from
# allocator noise, which is a few MB.
SLACK = 16 * MB
# aiohttp's buffers in both directions, and the parts of a body that are not read yet.
CONNECTION_BUFFER = 256 * 1024
# A transport, a protocol and a parser.
IDLE_CONNECTION = 16 * 1024


async def is_served(one: Replica) -> bool:
    return (await post(one.port, request(1_000_000))).status == 204


async def flood(one: Replica, bodies: list[bytes]) -> tuple[list[Answer], float]:
    """Send requests while none can be stored; return the answers, and the time they took."""
    began = time.monotonic()
    answers = await asyncio.gather(*(post(one.port, body) for body in bodies))
    return answers, time.monotonic() - began


def assert_refused(answers: list[Answer], setting: str) -> None:
    for answer in answers:
        assert answer.status == 503, answer
        assert int(answer.headers["retry-after"]) > 0
        assert setting in answer.text


async def reached(one: Replica, requests: int) -> bool:
    return await one.in_flight() == requests


async def test_requests_above_the_limit_are_refused_at_once(
    database: Database, tmp_path: Path
) -> None:
    settings = {"max_in_flight_requests": 5, "commit_timeout": "60s"}
    async with replica(tmp_path, database.url, **settings) as one, asyncio.TaskGroup() as tasks:
        assert await is_served(one)
        async with stuck(database):
            admitted = [tasks.create_task(post(one.port, request(n))) for n in range(5)]
            await until(lambda: reached(one, 5))
            before = memory(one.pid)
            body = request(7, pairs=10_000)
            for _ in range(5):
                answers, seconds = await flood(one, [body] * 40)
                assert_refused(answers, "RECEIVER_MAX_IN_FLIGHT_REQUESTS")
                assert seconds < 10, "the lock never ends, so any answer came at once"
            # If kept, 200 bodies of 1 MB. Of a refused body, only as much is read as the buffers
            # of its connection hold.
            assert memory(one.pid, "VmHWM") - before < SLACK + 40 * CONNECTION_BUFFER
        for task in admitted:
            assert (await task).status == 204
        assert await is_served(one)
    assert await stored(database.url) == 7


async def test_memory_is_bounded_by_the_size_in_flight(database: Database, tmp_path: Path) -> None:
    limit = 4 * MB
    settings = {"max_in_flight_size": limit, "commit_timeout": "60s"}
    async with replica(tmp_path, database.url, **settings) as one:
        assert await is_served(one)
        before = memory(one.pid)
        bodies = [request(number, pairs=2_000) for number in range(60)]
        async with stuck(database), asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(post(one.port, body)) for body in bodies]
            await until(lambda: only_admitted_wait(one, waiting))
            refused = [task.result() for task in waiting if task.done()]
            admitted = [task for task in waiting if not task.done()]
            assert_refused(refused, "RECEIVER_MAX_IN_FLIGHT_SIZE")
            for task in admitted:
                task.cancel()
        assert 0 < len(admitted) <= limit // (4_000 * 120)  # of two series each, decompressed
        # As Python objects, a message takes up to ten times its size; without the limit, 60
        # messages of 0.6 MB would take ten times as much.
        assert memory(one.pid, "VmHWM") - before < SLACK + 10 * limit
        assert await is_served(one)


async def only_admitted_wait(one: Replica, waiting: list[asyncio.Task[Answer]]) -> bool:
    in_flight = sum(not task.done() for task in waiting)
    return in_flight < len(waiting) and await one.in_flight() == in_flight


async def test_a_client_that_trickles_its_header_is_hung_up_on(
    database: Database, tmp_path: Path
) -> None:
    async with (
        replica(tmp_path, database.url, idle_timeout="1s") as one,
        Link(one.port) as silent,
        Link(one.port) as trickling,
        asyncio.timeout(10),
    ):
        trickle = asyncio.create_task(send_slowly(trickling, post_bytes(request(1))))
        assert await silent.closed() == b""
        await trickling.closed()
        await trickle
        assert await is_served(one)


async def test_a_client_that_trickles_its_body_gets_503(database: Database, tmp_path: Path) -> None:
    async with (
        replica(tmp_path, database.url, read_timeout="1s") as one,
        Link(one.port) as link,
        asyncio.timeout(10),
    ):
        body = request(1)
        whole = post_bytes(body)
        await link.send(whole[: -len(body)])
        trickle = asyncio.create_task(send_slowly(link, body))
        answer = await link.answer()
        assert (answer.status, "RECEIVER_READ_TIMEOUT" in answer.text) == (503, True)
        link.cut()
        await trickle
        assert await is_served(one)


async def send_slowly(link: Link, data: bytes) -> None:
    """Send byte by byte, until all is sent or the other side closes the connection."""
    with suppress(ConnectionError, AssertionError):
        for byte in data:
            await link.send(bytes([byte]))
            await asyncio.sleep(0.1)


@pytest.fixture
def many_files() -> Iterator[None]:
    """Raise the limit of open files, so that the test can open many connections."""
    wanted = IDLE_CONNECTIONS + 500
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"a process may open {hard} files at most here, the test needs {wanted}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
async def test_idle_connections_are_in_nobodys_way(database: Database, tmp_path: Path) -> None:
    async with replica(tmp_path, database.url) as one, AsyncExitStack() as stack:
        assert await is_served(one)
        before = memory(one.pid)
        links = [Link(one.port) for _ in range(IDLE_CONNECTIONS)]
        for some in batched(links, 100):
            await asyncio.gather(*map(stack.enter_async_context, some))
        for link in links[::20]:
            assert (await link.get("/-/healthy")).status == 200
        for number in range(50):
            assert (await post(one.port, request(number))).status == 204
        assert memory(one.pid) - before < SLACK + IDLE_CONNECTIONS * IDLE_CONNECTION


@pytest.mark.parametrize(("senders", "missing"), [(8, 1), (1_000, 16 * MB - 1)])
@pytest.mark.usefixtures("many_files")
async def test_bodies_that_do_not_end_take_nobodys_place(
    database: Database, tmp_path: Path, senders: int, missing: int
) -> None:
    """A few announce the maximum size and stop before the end, or many stop at the beginning."""
    settings = {"max_in_flight_requests": 100}
    async with replica(tmp_path, database.url, **settings) as one, AsyncExitStack() as stack:
        assert await is_served(one)
        before = memory(one.pid)
        whole = post_bytes(bytes(16 * MB))
        links = [await stack.enter_async_context(Link(one.port)) for _ in range(senders)]
        async with asyncio.TaskGroup() as tasks:
            for link in links:
                tasks.create_task(send_all(link, whole[:-missing]))
        for number in range(50):
            async with asyncio.timeout(5):
                assert (await post(one.port, request(number))).status == 204
        # The bodies that are still arriving, one of them twice while its buffer grows, and the part
        # that was read of an evicted one.
        largest = 64 * MB + 2 * 16 * MB + senders * CONNECTION_BUFFER // 8
        assert memory(one.pid, "VmHWM") - before < SLACK + largest
        assert await one.counted("receiver_arriving_bytes") <= 64 * MB


async def send_all(link: Link, data: bytes) -> None:
    """Send, although the other side may have closed the connection."""
    with suppress(ConnectionError):
        await link.send(data)


async def test_the_body_that_holds_most_gives_way_with_503(
    database: Database, tmp_path: Path
) -> None:
    settings = {"max_arriving_size": MB}
    async with (
        replica(tmp_path, database.url, **settings) as one,
        Link(one.port) as large,
        Link(one.port) as other,
        asyncio.timeout(10),
    ):
        await large.send(post_bytes(bytes(700_000), 800_000))
        await until(lambda: has_come(one, 700_000))
        await other.send(post_bytes(bytes(400_000), 500_000))
        answer = await large.answer()
        assert_refused([answer], "RECEIVER_MAX_ARRIVING_SIZE")
        await until(lambda: has_come(one, 400_000))
        assert await is_served(one)


async def has_come(one: Replica, size: int) -> bool:
    return await one.counted("receiver_arriving_bytes") == size


async def test_whoever_connects_gets_in_at_the_limit(database: Database, tmp_path: Path) -> None:
    limit = 20
    settings = {"max_connections": limit}
    async with replica(tmp_path, database.url, **settings) as one, AsyncExitStack() as stack:
        held = [await stack.enter_async_context(Link(one.port)) for _ in range(3 * limit)]
        for number in range(5):
            assert (await post(one.port, request(number))).status == 204
        assert await one.counted("receiver_connections") <= limit
        closed = 'receiver_connections_closed_total{cause="room"}'
        assert await one.counted(closed) >= 2 * limit
        # The first connections were idle longest.
        for link in held[: 2 * limit]:
            assert await link.closed() == b""
        assert (await held[-1].get("/-/healthy")).status == 200


async def test_connections_with_requests_in_flight_are_not_closed_for_others(
    database: Database, tmp_path: Path
) -> None:
    limit = 10
    settings = {"max_connections": limit, "commit_timeout": "60s"}
    async with replica(tmp_path, database.url, **settings) as one, asyncio.TaskGroup() as tasks:
        assert await is_served(one)
        async with stuck(database):
            sent: list[asyncio.Task[Answer]] = []
            # Sequentially, since a connection whose request is incomplete may be closed.
            for number in range(1, limit):
                sent.append(tasks.create_task(post(one.port, request(number))))
                await until(partial(is_in_flight, one, number))
            others = range(limit, 2 * limit + 1)
            sent += [tasks.create_task(post_again(one.port, request(number))) for number in others]
            await until(lambda: "further ones wait (RECEIVER_MAX_CONNECTIONS)" in one.log)
        for task in sent:
            assert (await task).status == 204
        assert "repeated" not in one.log
    assert await stored(database.url) == 2 * limit + 1


async def post_again(port: int, body: bytes) -> Answer:
    """Send a request until it is answered, as one whose body is incomplete may be disconnected."""
    async with asyncio.timeout(60):
        while True:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                return await post(port, body)


async def is_in_flight(one: Replica, number: int) -> bool:
    return await one.counted("receiver_requests_in_flight") == number


async def test_it_says_when_it_may_open_too_few_files(database: Database, tmp_path: Path) -> None:
    async with replicas(tmp_path, database.url) as (one,), AsyncExitStack() as stack:
        one.open_files = 100
        await one.start()
        assert one.log.count("`ulimit -n` allows 100 open files, RECEIVER_MAX_CONNECTIONS=") == 1
        for _ in range(200):
            await stack.enter_async_context(Link(one.port))
        assert await is_served(one)
        assert "cannot accept" not in one.log
        assert "Traceback" not in one.log
        one.open_files = 30
        await one.terminate()
        await one.launch()
        assert await one.ended() == 1
        assert one.log.splitlines()[-1].startswith("receiver: `ulimit -n` allows 30 open files")


async def test_a_client_that_does_not_read_is_hung_up_on(
    database: Database, tmp_path: Path
) -> None:
    settings = {"idle_timeout": "1s", "read_timeout": "1s"}
    async with (
        replica(tmp_path, database.url, **settings) as one,
        Link(one.port) as link,
        asyncio.timeout(20),
    ):
        asking = asyncio.create_task(ask_without_reading(link))

        async def hung_up() -> bool:
            return await one.counted('receiver_connections_closed_total{cause="unread"}') == 1

        await until(hung_up)
        await asking
        assert await is_served(one)


async def ask_without_reading(link: Link) -> None:
    with suppress(ConnectionError):
        while True:
            await link.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
            # Faster than it is answered, it would be closed for that.
            await asyncio.sleep(0.02)


def batched(links: list[Link], size: int) -> list[list[Link]]:
    return [links[first : first + size] for first in range(0, len(links), size)]


async def test_a_bomb_costs_no_memory(database: Database, tmp_path: Path) -> None:
    """The first bytes announce the decompressed size, and the rest is missing."""
    async with replica(tmp_path, database.url) as one:
        assert await is_served(one)
        before = memory(one.pid)
        for claimed, status in ((2**32 - 1, 413), (65 * MB, 413), (63 * MB, 400)):
            for _ in range(10):
                answer = await post(one.port, varint(claimed) + b"\0a")
                assert answer.status == status, answer
        assert memory(one.pid, "VmHWM") - before < SLACK
        assert await is_served(one)


def varint(number: int) -> bytes:
    parts = []
    while number >= 128:
        parts.append(number % 128 + 128)
        number //= 128
    return bytes([*parts, number])
