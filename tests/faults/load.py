"""Senders that retry as Prometheus does and misbehave in every other way, and the expected rows."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

import asyncpg

from tests.faults.processes import Replica
from tests.faults.wire import Link, post_bytes
from tests.receivers import Point, encode
from tests.waiting import until

NOW = 1_700_000_000_000
SCRAPE_INTERVAL = 5_000
HOUR = 3_600_000
REGISTERED = (0, 0, 0, 1, 2, 99)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# As in Prometheus, except for its cap of 5 s and its handling of Retry-After, to save time.
FIRST_BACKOFF = 0.03
LAST_BACKOFF = 1.0
ATTEMPT_TIMEOUT = 10.0
MOST_WAITING = 300  # requests; then nothing new is scraped
DRAIN_TIMEOUT = 60.0

ROWS = """
SELECT s.labels ->> 'instance' AS instance, l.created_at, l.app_status, l.ocr_value,
    e.code IS NOT NULL AS joined
FROM app_logs l JOIN sources s ON s.id = l.source_id
LEFT JOIN error_codes e ON e.code = l.app_status
WHERE s.labels ->> 'job' = $1
"""
COUNT = """
SELECT count(*) FROM {table} t JOIN sources s ON s.id = t.source_id WHERE s.labels ->> 'job' = $1
"""


class Pair(NamedTuple):
    """One row, as it should be."""

    instance: str
    timestamp: int
    """Milliseconds since the Unix epoch."""
    status: int
    ocr: int
    """Microseconds since the Unix epoch."""

    def points(self, job: str) -> tuple[Point, Point]:
        """Return the two samples of the pair."""
        source = {"instance": self.instance, "job": job}
        return (
            ({"__name__": "app_status", **source}, self.timestamp, float(self.status)),
            ({"__name__": "ocr_value", **source}, self.timestamp, self.ocr / 1_000_000),
        )


class Verdict(NamedTuple):
    """The content of the database, compared with the truth."""

    pairs: int
    rows: int
    lost: int
    doubled: int
    foreign: int
    """Rows that no sender sent."""
    without_code: int
    pending: int
    rejected: int

    @property
    def good(self) -> bool:
        return self.pairs == self.rows and not any(self[2:])


async def connect(url: str) -> asyncpg.Connection:
    """Connect as soon as a connection is available: a fault may have taken all."""
    connections: list[asyncpg.Connection] = []

    async def connected() -> bool:
        with suppress(asyncpg.TooManyConnectionsError):
            connections.append(await asyncpg.connect(url))
        return bool(connections)

    await until(connected)
    return connections[0]


class Truth:
    """Every pair that was sent; once everything is acknowledged, exactly the expected rows.

    Args:
        job: A label that distinguishes these pairs from others in the same database.
    """

    def __init__(self, job: str) -> None:
        self.job = job
        self.pairs: set[Pair] = set()

    async def compare(self, url: str) -> Verdict:
        """Compare with the database, once no incomplete row is left there."""
        connection = await connect(url)
        try:

            async def count(table: str) -> int:
                return int(await connection.fetchval(COUNT.format(table=table), self.job))

            async def nothing_waits() -> bool:
                return await count("pending_rows") == 0

            with suppress(TimeoutError):  # the verdict will tell
                await until(nothing_waits, seconds=10)
            rows = await connection.fetch(ROWS, self.job)
            found = [
                Pair(
                    row["instance"],
                    since_epoch(row["created_at"]) // 1000,
                    row["app_status"],
                    since_epoch(row["ocr_value"]),
                )
                for row in rows
            ]
            keys = {pair[:2] for pair in found}
            return Verdict(
                pairs=len(self.pairs),
                rows=await count("app_logs"),
                lost=len(self.pairs.difference(found)),
                doubled=len(found) - len(keys),
                foreign=len(set(found) - self.pairs),
                without_code=sum(not row["joined"] for row in rows),
                pending=await count("pending_rows"),
                rejected=await count("rejected_samples"),
            )
        finally:
            await connection.close()


def since_epoch(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


class Scraper:
    """Applications whose clocks jump, and scrapes divided into requests in every way."""

    def __init__(self, truth: Truth, chance: random.Random, targets: int) -> None:
        self._truth = truth
        self._chance = chance
        self._instances = [f"app-{number}" for number in range(targets)]
        self._clock = NOW
        self._used: set[int] = set()
        self._scrapes = 0
        self._late: list[tuple[int, list[Point]]] = []

    def scrape(self) -> list[list[Point]]:
        """Return the requests of the next scrape, and delayed requests of earlier ones."""
        self._scrapes += 1
        timestamp = self._tick()
        if self._chance.random() < 0.05:
            changed = self._chance.randrange(len(self._instances))
            self._instances[changed] = f"app-{self._chance.randrange(1_000_000)}"
        pairs = [self._pair(instance, timestamp) for instance in self._instances]
        self._truth.pairs.update(pairs)
        requests = self._cut(pairs)
        if self._chance.random() < 0.3:
            lapse = self._chance.choice((1, 5, 20, 60, 10_000))
            self._late.append((self._scrapes + lapse, requests.pop()))
        return requests + self.held_back(self._scrapes)

    def held_back(self, now: float = float("inf")) -> list[list[Point]]:
        """Return the requests that were delayed until `now`."""
        due = [points for scrape, points in self._late if scrape <= now]
        self._late = [entry for entry in self._late if entry[0] > now]
        return due

    def _tick(self) -> int:
        if self._chance.random() < 0.05:
            self._clock += self._chance.randrange(-6 * HOUR, 6 * HOUR)
        self._clock += SCRAPE_INTERVAL
        while self._clock in self._used:
            self._clock += 1
        self._used.add(self._clock)
        return self._clock

    def _pair(self, instance: str, timestamp: int) -> Pair:
        status = self._chance.choice((*REGISTERED, self._chance.randrange(-50, 5_000)))
        ocr = (timestamp - self._chance.randrange(10 * HOUR)) * 1_000
        return Pair(instance, timestamp, status, ocr // 125_000 * 125_000)

    def _cut(self, pairs: Iterable[Pair]) -> list[list[Point]]:
        both = [pair.points(self._truth.job) for pair in pairs]
        statuses = [status for status, _ in both]
        ocr_values = [ocr for _, ocr in both]
        way = self._chance.random()
        if way < 0.6:
            return [statuses, ocr_values]
        if way < 0.8:
            return [statuses + ocr_values]
        points = statuses + ocr_values
        self._chance.shuffle(points)
        shards = self._chance.randrange(2, 5)
        return [points[shard::shards] for shard in range(shards)]


class Sender:
    """Sends the scrapes of some applications to replicas, until everything is acknowledged.

    Args:
        replicas: The receivers; each attempt goes to a random one.
        seed: Seed of all random choices.
        job: Value of the label `job` of all series.
        targets: Number of applications in a scrape.
        pace: Seconds between two scrapes.
        connections: Number of concurrent requests.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        seed: int,
        *,
        job: str = "faults",
        targets: int = 10,
        pace: float = 0.02,
        connections: int = 6,
    ) -> None:
        self.truth = Truth(job)
        self.counts: Counter[str] = Counter()
        self._replicas = replicas
        self._chance = random.Random(seed)
        self._scraper = Scraper(self.truth, self._chance, targets)
        self._pace = pace
        self._connections = connections
        # Requests in about the order of their creation, which differs from the order of sending.
        self._waiting: asyncio.PriorityQueue[tuple[float, int, bytes]] = asyncio.PriorityQueue()
        self._made = 0
        self._stopping = asyncio.Event()

    @property
    def acknowledged(self) -> int:
        return self.counts["acknowledged"]

    @property
    def refused(self) -> int:
        return self.counts["503"]

    async def more(self, requests: int = 30) -> None:
        """Return when this many more requests have been acknowledged."""
        wanted = self.acknowledged + requests
        await until(lambda: self.acknowledged >= wanted, seconds=DRAIN_TIMEOUT)

    async def until_refused(self, times: int = 1) -> None:
        """Return when this many more requests have been answered with 503."""
        wanted = self.refused + times
        await until(lambda: self.refused >= wanted)

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[Self]:
        """Send in the background; at the end, return when everything is acknowledged."""
        async with asyncio.TaskGroup() as tasks:
            scraping = tasks.create_task(self._scrape())
            workers = [tasks.create_task(self._work()) for _ in range(self._connections)]
            yield self
            self._stopping.set()
            async with asyncio.timeout(DRAIN_TIMEOUT):
                await scraping
                await self._waiting.join()
            for worker in workers:
                worker.cancel()

    async def _scrape(self) -> None:
        while not self._stopping.is_set():
            if self._waiting.qsize() < MOST_WAITING:
                for points in self._scraper.scrape():
                    self._enqueue(encode(points))
            await asyncio.sleep(self._pace)
        for points in self._scraper.held_back():
            self._enqueue(encode(points))

    def _enqueue(self, body: bytes) -> None:
        # Two adjacent copies, so that two workers send the request at the same time.
        for _ in range(2 if self._chance.random() < 0.1 else 1):
            self._made += 1
            self._waiting.put_nowait((self._made + self._chance.uniform(0, 20), self._made, body))

    async def _work(self) -> None:
        links = [Link(replica.port) for replica in self._replicas]
        try:
            while True:
                *_, body = await self._waiting.get()
                await self._deliver(links, body)
                if self._chance.random() < 0.1:
                    self.counts["sent again after the acknowledgement"] += 1
                    self._enqueue(body)
                self._waiting.task_done()
        finally:
            for link in links:
                link.cut()

    async def _deliver(self, links: Sequence[Link], body: bytes) -> None:
        backoff = FIRST_BACKOFF
        while not await self._attempt(self._chance.choice(links), body):
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, LAST_BACKOFF)

    async def _attempt(self, link: Link, body: bytes) -> bool:
        """Send a request, or a part of it, once; return whether it was acknowledged."""
        self.counts["sent"] += 1
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT):
                if self._chance.random() < 0.08:
                    await self._hang_up(link, body)
                    return False
                answer = await link.post(body)
        except TimeoutError:
            link.cut()
            self.counts["no answer in time"] += 1
            return False
        except (OSError, asyncio.IncompleteReadError):
            link.cut()
            self.counts["connection lost"] += 1
            return False
        if 200 <= answer.status < 300:
            self.counts["acknowledged"] += 1
            return True
        # A 4xx would make Prometheus drop the samples, and a 500 means an unexpected error.
        assert answer.status == 503, answer
        assert int(answer.headers["retry-after"]) > 0
        self.counts["503"] += 1
        return False

    async def _hang_up(self, link: Link, body: bytes) -> None:
        request = post_bytes(body)
        if self._chance.random() < 0.5:
            self.counts["cut within the request"] += 1
            await link.send(request[: self._chance.randrange(1, len(request))])
        else:
            self.counts["cut before the answer"] += 1
            await link.send(request)
        # At any moment between the arrival of the request and its commit.
        await asyncio.sleep(self._chance.choice((0, 0.001, 0.003, 0.01)))
        link.cut(reset=self._chance.random() < 0.5)
