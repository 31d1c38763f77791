"""Group commit: which requests commit together, batching delays, and reports of failures."""

from __future__ import annotations

import asyncio
import gc
import math
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import DatabaseUnavailableError, ReceiverError, ShuttingDownError
from receiver.rows.batch import Batch, Outcomes
from receiver.rows.columns import DOUBLE
from receiver.rows.model import Row, Sample, Series, Source, each_row
from receiver.rows.tables import Column, Table
from receiver.storage.writing import group_commit as group_commit_module
from receiver.storage.writing.gathering import PARTS, PASSES, SLOW_COST, Gathering
from receiver.storage.writing.group_commit import Batching, GroupCommit
from receiver.storage.writing.parting import MAX_CHUNKS, MAX_REFUSED, MAX_SAMPLES
from receiver.storage.writing.records import Contents
from tests.blocks import in_arrays
from tests.messages import NOW, STALE
from tests.rows import LOGS, OCR, STATUS
from tests.waiting import until

SOURCE = Source(LOGS, (("instance", "a"),))
FOREVER = timedelta(hours=1)
NO_TIME = timedelta()
# Far longer than any step takes here, far shorter than any delay that a test must not wait for.
SOON = 5.0


def status(number: int = 0, value: float = 1.0) -> Sample:
    return Series(STATUS, SOURCE), NOW + number, value


def ocr(number: int = 0) -> Sample:
    return Series(OCR, SOURCE), NOW + number, NOW / 1000


def pair(number: int = 0) -> list[Sample]:
    return [status(number), ocr(number)]


def complete(contents: Contents) -> list[Row]:
    return list(each_row(contents.rows))


def incomplete(contents: Contents) -> list[Row]:
    return list(each_row(contents.incomplete))


class Writes:
    """Replaces the database: each write ends when the gate is open, with the next outcome."""

    def __init__(self) -> None:
        self.contents: list[Contents] = []
        self.running = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.outcomes: Iterator[BaseException | None] = iter(())

    async def __call__(self, contents: Contents) -> None:
        self.contents.append(contents)
        outcome = next(self.outcomes, None)
        self.running += 1
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        if outcome is not None:
            raise outcome

    def numbers(self) -> list[list[int]]:
        """Return the numbers of the pairs of each write."""
        return [[row[0] - NOW for row in complete(contents)] for contents in self.contents]


class Traffic:
    """The simulated number of arriving requests."""

    def __init__(self) -> None:
        self.arriving = 0

    def __call__(self) -> int:
        return self.arriving


Opens = Callable[..., AbstractAsyncContextManager[GroupCommit]]


@pytest.fixture
async def writes() -> Writes:
    return Writes()


@pytest.fixture
def traffic() -> Traffic:
    return Traffic()


@pytest.fixture
def opened(writes: Writes, traffic: Traffic) -> Opens:
    @asynccontextmanager
    async def opened(delay: timedelta = FOREVER, writers: int = 1) -> AsyncIterator[GroupCommit]:
        batching = Batching(delay, writers)
        async with GroupCommit(writes, traffic, Batch, batching) as group_commit:
            yield group_commit

    return opened


async def settle() -> None:
    """Run all tasks that can run."""
    for _ in range(20):
        await asyncio.sleep(0)


async def outcome(task: asyncio.Task[Outcomes]) -> Outcomes:
    async with asyncio.timeout(SOON):
        return await task


@pytest.mark.parametrize("step", ["close", "rows", "pass_on"])
async def test_an_error_in_a_batch_is_answered_and_the_next_one_is_written(
    step: str, opened: Opens, writes: Writes, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("broken")

    traffic.arriving = 1
    async with opened(delay=timedelta(milliseconds=1)) as group_commit, asyncio.timeout(SOON):
        with monkeypatch.context() as patch:
            patch.setattr(Gathering if step == "pass_on" else Batch, step, fails)
            with pytest.raises(ReceiverError, match=r"internal error: .*broken"):
                await group_commit.store([status()])
        assert not writes.contents
        await group_commit.store(pair(1))
    assert writes.numbers() == [[1]]


# --- alone ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("writers", [1, 2, 5])
@pytest.mark.parametrize(
    "samples",
    [pair(), [status()], [ocr()], [status(value=0.5)], [*pair(), status(1), ocr(2)]],
    ids=["pair", "status", "ocr", "rejected", "everything"],
)
async def test_a_lone_request_commits_at_once(
    samples: list[Sample], writers: int, opened: Opens, writes: Writes
) -> None:
    async with opened(writers=writers) as group_commit, asyncio.timeout(SOON):
        outcomes = await group_commit.store(samples)
    assert outcomes.accepted + outcomes.rejected == len(samples)
    (contents,) = writes.contents
    assert 2 * len(complete(contents)) + len(incomplete(contents)) + len(contents.rejected) == len(
        samples
    )


async def test_a_lone_request_waits_for_no_timer(opened: Opens, writes: Writes) -> None:
    async with opened() as group_commit:
        task = asyncio.create_task(group_commit.store([status()]))
        await settle()
        assert task.done()
        assert len(writes.contents) == 1


async def test_one_request_after_another(opened: Opens, writes: Writes) -> None:
    async with opened() as group_commit, asyncio.timeout(SOON):
        for number in range(20):
            assert await group_commit.store(pair(number)) == Outcomes(accepted=2)
    assert writes.numbers() == [[number] for number in range(20)]


@pytest.mark.parametrize("samples", [[], [status(value=STALE)]])
async def test_nothing_to_write_is_not_written(
    samples: list[Sample], opened: Opens, writes: Writes
) -> None:
    async with opened() as group_commit, asyncio.timeout(SOON):
        outcomes = await group_commit.store(samples)
    assert outcomes == Outcomes(stale={"app_logs": 1} if samples else {})
    assert not writes.contents


async def test_a_request_is_answered_after_its_commit_only(opened: Opens, writes: Writes) -> None:
    writes.gate.clear()
    async with opened() as group_commit:
        task = asyncio.create_task(group_commit.store(pair()))
        await settle()
        assert writes.running == 1
        assert not task.done()
        writes.gate.set()
        assert await outcome(task) == Outcomes(accepted=2)


# --- together -------------------------------------------------------------------------------------


async def test_requests_that_arrive_during_a_write_share_the_next(
    opened: Opens, writes: Writes
) -> None:
    writes.gate.clear()
    async with opened() as group_commit:
        tasks = [asyncio.create_task(group_commit.store(pair(0)))]
        await settle()
        for number in (1, 2, 3):
            tasks.append(asyncio.create_task(group_commit.store(pair(number))))
            await settle()
        assert writes.numbers() == [[0]]
        writes.gate.set()
        for task in tasks:
            assert await outcome(task) == Outcomes(accepted=2)
    assert writes.numbers() == [[0], [1, 2, 3]]


async def test_each_request_learns_its_own_outcomes(opened: Opens, writes: Writes) -> None:
    writes.gate.clear()
    async with opened() as group_commit:
        first = asyncio.create_task(group_commit.store(pair(0)))
        await settle()
        second = asyncio.create_task(group_commit.store([status(1, value=0.5)]))
        third = asyncio.create_task(group_commit.store([*pair(2), status(3, value=STALE)]))
        await settle()
        writes.gate.set()
        assert await outcome(first) == Outcomes(accepted=2)
        assert await outcome(second) == Outcomes(rejected=1)
        assert await outcome(third) == Outcomes(accepted=2, stale={"app_logs": 1})
    assert len(writes.contents) == 2


async def test_as_many_writes_at_once_as_there_are_writers(opened: Opens, writes: Writes) -> None:
    writes.gate.clear()
    async with opened(writers=2) as group_commit:
        tasks = []
        for number in range(5):
            tasks.append(asyncio.create_task(group_commit.store(pair(number))))
            await settle()
        assert writes.running == 2
        writes.gate.set()
        for task in tasks:
            await outcome(task)
    assert writes.numbers() == [[0], [1], [2, 3, 4]]


async def test_a_batch_beside_others_grows_until_it_has_as_many_requests(
    opened: Opens, writes: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit_module, "LONGEST_GROWTH", FOREVER.total_seconds())
    writes.gate.clear()
    async with opened(writers=4) as group_commit:
        tasks = []
        for number in range(8):
            tasks.append(asyncio.create_task(group_commit.store(pair(number))))
            await settle()
        assert writes.numbers() == [[0], [1], [2, 3], [4, 5, 6, 7]]
        writes.gate.set()
        for task in tasks:
            await outcome(task)


async def test_a_lone_request_does_not_wait_for_a_large_one(
    opened: Opens, writes: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit_module, "LONGEST_GROWTH", FOREVER.total_seconds())
    writes.gate.clear()
    async with opened(writers=2) as group_commit:
        large = asyncio.create_task(group_commit.store([*pair(0), *pair(1)]))
        await settle()
        small = asyncio.create_task(group_commit.store(pair(2)))
        await settle()
        assert writes.numbers() == [[0, 1], [2]]
        writes.gate.set()
        await outcome(large)
        await outcome(small)


async def test_a_batch_of_few_requests_waits_only_a_moment_for_more(
    opened: Opens, writes: Writes
) -> None:
    writes.gate.clear()
    async with opened(writers=3) as group_commit:
        tasks = [asyncio.create_task(group_commit.store(pair(0)))]
        await settle()
        tasks.append(asyncio.create_task(group_commit.store(pair(1))))
        await settle()
        tasks.append(asyncio.create_task(group_commit.store(pair(2))))
        await until(lambda: writes.running == 3)
        writes.gate.set()
        for task in tasks:
            await outcome(task)
    assert writes.numbers() == [[0], [1], [2]]


async def test_many_requests_are_few_writes_and_none_is_lost(opened: Opens, writes: Writes) -> None:
    async with opened(writers=2) as group_commit, asyncio.timeout(SOON):
        results = await asyncio.gather(*(group_commit.store(pair(n)) for n in range(500)))
    assert all(result == Outcomes(accepted=2) for result in results)
    written = [number for numbers in writes.numbers() for number in numbers]
    assert sorted(written) == list(range(500))
    assert len(writes.contents) < 10


# --- incomplete rows ------------------------------------------------------------------------------


@pytest.mark.parametrize("writers", [1, 2, 5])
async def test_a_lone_sample_waits_for_the_other_one_that_may_be_arriving(
    writers: int, opened: Opens, writes: Writes, traffic: Traffic
) -> None:
    traffic.arriving = 1
    async with opened(writers=writers) as group_commit:
        first = asyncio.create_task(group_commit.store([status()]))
        await settle()
        assert not writes.contents
        second = asyncio.create_task(group_commit.store([ocr()]))
        assert await outcome(first) == await outcome(second) == Outcomes(accepted=1)
    (contents,) = writes.contents
    assert len(complete(contents)) == 1
    assert not contents.incomplete


async def test_a_lone_sample_waits_no_longer_than_requests_are_arriving(
    opened: Opens, writes: Writes, traffic: Traffic
) -> None:
    traffic.arriving = 2
    async with opened() as group_commit:
        first = asyncio.create_task(group_commit.store([status()]))
        await settle()
        traffic.arriving = 0
        second = asyncio.create_task(group_commit.store([ocr(1)]))
        await outcome(first)
        await outcome(second)
    (contents,) = writes.contents
    assert (len(complete(contents)), len(incomplete(contents))) == (0, 2)


async def test_a_lone_sample_is_passed_on_so_that_others_are_answered(
    opened: Opens, writes: Writes, traffic: Traffic
) -> None:
    writes.gate.clear()
    traffic.arriving = 1
    async with opened() as group_commit:
        lone = asyncio.create_task(group_commit.store([status()]))
        again = asyncio.create_task(group_commit.store([status()]))
        await settle()
        traffic.arriving = 0
        complete = asyncio.create_task(group_commit.store(pair(1)))
        await settle()
        writes.gate.set()
        assert await outcome(complete) == Outcomes(accepted=2)
        assert not lone.done()
        assert not again.done()
        other = asyncio.create_task(group_commit.store([ocr()]))
        for task in (lone, again, other):
            assert await outcome(task) == Outcomes(accepted=1)
    assert writes.numbers() == [[1], [0]]
    assert not any(contents.incomplete for contents in writes.contents)
    assert [contents.repeated for contents in writes.contents] == [{"app_logs": 1}, {}]


async def test_a_lone_sample_is_not_passed_on_for_ever(opened: Opens, writes: Writes) -> None:
    writes.gate.clear()
    async with opened(delay=timedelta(milliseconds=1)) as group_commit:
        others = [asyncio.create_task(group_commit.store(pair(1)))]
        await settle()
        lone = asyncio.create_task(group_commit.store([status()]))
        number = 1
        while not lone.done():
            number += 1
            others.append(asyncio.create_task(group_commit.store(pair(number))))
            await settle()
            writes.gate.set()
            await asyncio.wait(others)
        assert await outcome(lone) == Outcomes(accepted=1)
    assert sum(len(incomplete(contents)) for contents in writes.contents) == 1
    assert len(writes.contents) <= PASSES + 3


async def test_a_sample_that_comes_again_and_again_is_not_waited_for_for_ever(
    opened: Opens, writes: Writes
) -> None:
    """One that may be passed on takes along one that may not, and leaves an empty batch behind."""
    writes.gate.clear()
    async with opened(delay=timedelta(milliseconds=1)) as group_commit:
        others = [asyncio.create_task(group_commit.store(pair(1)))]
        await settle()
        lone = [asyncio.create_task(group_commit.store([status()]))]
        writes.gate.set()
        for number in range(2, PASSES + 6):
            others.append(asyncio.create_task(group_commit.store(pair(number))))
            lone.append(asyncio.create_task(group_commit.store([status()])))
            await settle()
            await asyncio.wait(others)
        for task in lone:
            assert await outcome(task) == Outcomes(accepted=1)


async def test_a_lone_sample_that_was_passed_on_learns_that_its_own_commit_failed(
    opened: Opens, writes: Writes, traffic: Traffic
) -> None:
    traffic.arriving = 1
    writes.outcomes = iter([None, DatabaseUnavailableError("gone")])
    async with opened(delay=timedelta(milliseconds=1)) as group_commit:
        lone = asyncio.create_task(group_commit.store([status()]))
        complete = asyncio.create_task(group_commit.store(pair(1)))
        assert await outcome(complete) == Outcomes(accepted=2)
        with pytest.raises(DatabaseUnavailableError):
            await outcome(lone)


async def test_nothing_is_passed_on_where_no_sample_waits(opened: Opens, writes: Writes) -> None:
    writes.gate.clear()
    async with opened(delay=NO_TIME) as group_commit:
        first = asyncio.create_task(group_commit.store(pair(1)))
        await settle()
        others = [asyncio.create_task(group_commit.store(one)) for one in ([status()], pair(2))]
        await settle()
        writes.gate.set()
        for task in (first, *others):
            await outcome(task)
    assert [(len(complete(one)), len(incomplete(one))) for one in writes.contents] == [
        (1, 0),
        (1, 1),
    ]


WIDE = Table(
    "wide",
    [
        Column("pressure", "press_pressure_bar", DOUBLE),
        Column("temperature", "press_temperature", DOUBLE),
        Column("strokes", "press_strokes_total", DOUBLE, required=False),
    ],
)
SINGLE = Table("single", [Column("level", "level", DOUBLE)])
ALL_SOURCES = {table.name: Source(table, ()) for table in (LOGS, WIDE, SINGLE)}
KEYS = st.tuples(
    st.sampled_from(
        [(name, slot) for name, one in ALL_SOURCES.items() for slot in range(one.table.width)]
    ),
    st.integers(0, 2),
)
SlotKey = tuple[tuple[str, int], int]
"""Table and slot, number of the row."""


def sample_of(key: SlotKey) -> Sample:
    (name, slot), number = key
    source = ALL_SOURCES[name]
    return Series(source.table.columns[slot], source), NOW + number, NOW / 1000


def keys_of(contents: Contents) -> list[SlotKey]:
    return [
        ((source.table.name, column.slot), timestamp - NOW)
        for timestamp, source, values in complete(contents.one_by_one()) + incomplete(contents)
        for column, _ in source.table.samples(values)
    ]


@pytest.mark.usefixtures("few_are_many")
@given(
    st.lists(
        st.tuples(st.lists(KEYS, min_size=1, max_size=6), st.booleans(), st.booleans()),
        max_size=25,
    ),
    st.lists(st.booleans(), max_size=25),
    st.integers(1, 3),
)
async def test_no_request_is_answered_before_all_of_it_is_committed(
    requests: list[tuple[list[SlotKey], bool, bool]], failures: list[bool], writers: int
) -> None:
    committed: set[SlotKey] = set()
    failing = iter(failures)

    async def write(contents: Contents) -> None:
        await asyncio.sleep(0)
        found = keys_of(contents)
        assert len(found) == len(set(found))
        if next(failing, False):
            raise DatabaseUnavailableError("gone")
        committed.update(found)

    async def send(group_commit: GroupCommit, keys: list[SlotKey], *, arrays: bool) -> None:
        with suppress(DatabaseUnavailableError):
            await group_commit.store(in_arrays(list(map(sample_of, keys)), [arrays] * len(keys)))
            assert committed >= set(keys)

    async with (
        asyncio.timeout(SOON),
        GroupCommit(
            write, lambda: 1, Batch, Batching(timedelta(milliseconds=1), writers)
        ) as group_commit,
        asyncio.TaskGroup() as group,
    ):
        for keys, pause, arrays in requests:
            group.create_task(send(group_commit, keys, arrays=arrays))
            if pause:
                await asyncio.sleep(0)


async def test_a_row_of_several_samples_waits_for_the_last_of_them(
    opened: Opens, writes: Writes, traffic: Traffic
) -> None:
    traffic.arriving = 1
    async with opened() as group_commit:
        tasks = []
        for slot in (2, 0, 1):
            assert not writes.contents
            one = sample_of((("wide", slot), 0))
            tasks.append(asyncio.create_task(group_commit.store([one])))
            await settle()
        for task in tasks:
            assert await outcome(task) == Outcomes(accepted=1)
    (contents,) = writes.contents
    assert contents.rows == {WIDE: {NOW: {ALL_SOURCES["wide"]: [NOW / 1000] * 3}}}
    assert not contents.incomplete


async def test_a_row_of_one_column_waits_for_nothing(
    opened: Opens, writes: Writes, traffic: Traffic
) -> None:
    traffic.arriving = 100
    async with opened() as group_commit:
        await outcome(asyncio.create_task(group_commit.store([sample_of((("single", 0), 0))])))
    assert writes.contents[0].rows == {SINGLE: {NOW: {ALL_SOURCES["single"]: [NOW / 1000]}}}


@pytest.mark.parametrize("samples", [pair(), [status(value=0.5)]], ids=["pair", "rejected"])
async def test_what_is_complete_waits_for_nothing(
    samples: list[Sample], opened: Opens, writes: Writes, traffic: Traffic
) -> None:
    traffic.arriving = 100
    async with opened() as group_commit:
        await outcome(asyncio.create_task(group_commit.store(samples)))
    assert len(writes.contents) == 1


async def test_a_lone_sample_waits_and_then_commits_alone(
    opened: Opens, writes: Writes, traffic: Traffic
) -> None:
    traffic.arriving = 1
    start = time.monotonic()
    async with opened(delay=timedelta(milliseconds=50)) as group_commit:
        await outcome(asyncio.create_task(group_commit.store([status()])))
    assert 0.04 <= time.monotonic() - start < SOON
    (contents,) = writes.contents
    assert (len(complete(contents)), len(incomplete(contents))) == (0, 1)


async def test_a_batching_delay_of_zero(opened: Opens, writes: Writes, traffic: Traffic) -> None:
    traffic.arriving = 1
    async with opened(delay=NO_TIME) as group_commit:
        await outcome(asyncio.create_task(group_commit.store([status()])))
    assert len(writes.contents) == 1


async def test_new_lone_samples_do_not_make_the_first_one_wait_longer(
    opened: Opens, traffic: Traffic
) -> None:
    traffic.arriving = 100
    async with opened(delay=timedelta(milliseconds=100)) as group_commit:
        first = asyncio.create_task(group_commit.store([status()]))
        others: list[asyncio.Task[Outcomes]] = []
        async with asyncio.timeout(SOON):
            while not first.done():
                others.append(asyncio.create_task(group_commit.store([status(len(others) + 1)])))
                await asyncio.sleep(0.01)
        await asyncio.gather(first, *others)


async def test_a_lone_sample_waits_for_what_comes_after_the_commit_beside_it(
    opened: Opens, writes: Writes
) -> None:
    """A sender that is answered sends its next request, which may contain the other sample."""
    writes.gate.clear()
    async with opened(writers=2) as group_commit:
        running = asyncio.create_task(group_commit.store(pair(0)))
        await settle()
        first = asyncio.create_task(group_commit.store([status(1)]))
        await settle()
        assert writes.numbers() == [[0]]
        writes.gate.set()
        await outcome(running)
        await settle()
        assert not first.done()
        second = asyncio.create_task(group_commit.store([ocr(1)]))
        assert await outcome(first) == await outcome(second) == Outcomes(accepted=1)
    assert writes.numbers() == [[0], [1]]
    assert not writes.contents[1].incomplete


async def test_a_lone_sample_waits_while_a_batch_is_committed_however_short_the_delay(
    opened: Opens, writes: Writes
) -> None:
    writes.gate.clear()
    async with opened(writers=2, delay=NO_TIME) as group_commit:
        running = asyncio.create_task(group_commit.store(pair(0)))
        await settle()
        lone = asyncio.create_task(group_commit.store([status(1)]))
        await settle()
        assert len(writes.contents) == 1
        writes.gate.set()
        await outcome(running)
        await outcome(lone)


async def test_a_lone_sample_does_not_wait_for_a_commit_that_hangs(
    opened: Opens, writes: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.storage.writing.group_commit.LONGEST_WAIT", 0.02)
    writes.gate.clear()
    async with opened(writers=2, delay=NO_TIME) as group_commit:
        running = asyncio.create_task(group_commit.store(pair(0)))
        await settle()
        lone = asyncio.create_task(group_commit.store([status(1)]))
        await until(lambda: len(writes.contents) == 2)
        writes.gate.set()
        await outcome(running)
        await outcome(lone)


async def test_lone_samples_that_come_one_by_one_do_not_wait(opened: Opens, writes: Writes) -> None:
    async with opened(writers=2) as group_commit:
        for lone in (status(), ocr(), status(1), ocr(1)):
            await outcome(asyncio.create_task(group_commit.store([lone])))
    assert len(writes.contents) == 4


# --- failures -------------------------------------------------------------------------------------


async def test_a_failure_reaches_the_requests_of_its_batch_and_no_other(
    opened: Opens, writes: Writes
) -> None:
    failure = DatabaseUnavailableError("gone")
    writes.outcomes = iter([None, failure, None])
    writes.gate.clear()
    async with opened() as group_commit:
        batches: list[list[asyncio.Task[Outcomes]]] = []
        for numbers in ([0], [1, 2, 3], [4, 5]):
            batches.append(
                [asyncio.create_task(group_commit.store(pair(number))) for number in numbers]
            )
            await settle()
            if len(batches) == 2:
                writes.gate.set()
                await settle()
        for task in batches[0] + batches[2]:
            assert await outcome(task) == Outcomes(accepted=2)
        for task in batches[1]:
            with pytest.raises(DatabaseUnavailableError) as refusal:
                await outcome(task)
            assert str(refusal.value) == "gone"
    assert writes.numbers() == [[0], [1, 2, 3], [4, 5]]


async def test_an_unknown_failure_is_never_the_senders_fault(
    opened: Opens, writes: Writes, caplog: pytest.LogCaptureFixture
) -> None:
    writes.outcomes = iter([LookupError("a fault of ours")])
    async with opened() as group_commit:
        with pytest.raises(ReceiverError, match="internal error") as refusal:
            await outcome(asyncio.create_task(group_commit.store(pair())))
        assert refusal.value.status == 500
        assert "a fault of ours" in caplog.text
        assert await outcome(asyncio.create_task(group_commit.store(pair()))) == Outcomes(
            accepted=2
        )


async def test_the_writer_goes_on_after_failures(opened: Opens, writes: Writes) -> None:
    writes.outcomes = iter([DatabaseUnavailableError()] * 5)
    async with opened() as group_commit:
        for _ in range(5):
            with pytest.raises(DatabaseUnavailableError):
                await outcome(asyncio.create_task(group_commit.store(pair())))
        await outcome(asyncio.create_task(group_commit.store(pair())))
    assert len(writes.contents) == 6


async def test_a_failed_batch_is_not_written_again(opened: Opens, writes: Writes) -> None:
    writes.outcomes = iter([DatabaseUnavailableError()])
    async with opened() as group_commit:
        with pytest.raises(DatabaseUnavailableError):
            await outcome(asyncio.create_task(group_commit.store(pair(0))))
        await outcome(asyncio.create_task(group_commit.store(pair(1))))
    assert writes.numbers() == [[0], [1]]


# --- senders that hang up -------------------------------------------------------------------------


@pytest.mark.parametrize("waiting", [False, True], ids=["during the write", "before the write"])
async def test_who_hangs_up_does_not_take_the_others_along(
    waiting: bool, opened: Opens, writes: Writes
) -> None:
    writes.gate.clear()
    async with opened() as group_commit:
        if waiting:
            first = asyncio.create_task(group_commit.store(pair(0)))
            await settle()
        gone = asyncio.create_task(group_commit.store(pair(1)))
        stays = asyncio.create_task(group_commit.store(pair(2)))
        await settle()
        assert writes.numbers() == ([[0]] if waiting else [[1, 2]])
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outcome(gone)
        writes.gate.set()
        assert await outcome(stays) == Outcomes(accepted=2)
        if waiting:
            await outcome(first)
    assert writes.numbers()[-1] == [1, 2]


async def test_a_failure_that_nobody_waits_for_is_no_surprise(
    opened: Opens, writes: Writes
) -> None:
    unexpected: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unexpected.append(context))
    writes.outcomes = iter([DatabaseUnavailableError()])
    writes.gate.clear()
    async with opened() as group_commit:
        gone = asyncio.create_task(group_commit.store(pair()))
        await settle()
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone
        writes.gate.set()
        await settle()
        await outcome(asyncio.create_task(group_commit.store(pair())))
    del gone
    gc.collect()
    assert not unexpected


# --- shutdown -------------------------------------------------------------------------------------


async def test_closing_ends_a_running_write_and_says_so(opened: Opens, writes: Writes) -> None:
    writes.gate.clear()
    async with opened(writers=2) as group_commit:
        tasks = []
        for number in range(2):
            tasks.append(asyncio.create_task(group_commit.store(pair(number))))
            await settle()
        assert writes.running == 2
    assert writes.running == 0
    for task in tasks:
        with pytest.raises(ShuttingDownError) as refusal:
            await outcome(task)
        assert refusal.value.status == 503


@pytest.mark.parametrize("writers", [1, 3])
async def test_closing_when_idle(opened: Opens, writes: Writes, writers: int) -> None:
    async with opened(writers=writers):
        await settle()
    async with opened(writers=writers):
        pass
    assert not writes.contents


async def test_closing_answers_those_that_wait(opened: Opens, writes: Writes) -> None:
    writes.gate.clear()
    async with opened() as group_commit:
        tasks = []
        for number in range(2):
            tasks.append(asyncio.create_task(group_commit.store(pair(number))))
            await settle()
    for task in tasks:
        with pytest.raises(ShuttingDownError):
            await outcome(task)
    with pytest.raises(ShuttingDownError):
        await group_commit.store(pair(2))


# --- large requests -------------------------------------------------------------------------------

DAY = 86_400_000


async def test_others_commit_between_the_parts_of_a_large_request(
    opened: Opens, writes: Writes
) -> None:
    days = [one for number in range(200) for one in pair(number * DAY)]
    writes.gate.clear()
    async with opened() as group_commit:
        large = asyncio.create_task(group_commit.store(days))
        await settle()
        other = asyncio.create_task(group_commit.store(pair(1)))
        await settle()
        writes.gate.set()
        await outcome(other)
        assert not large.done()
        assert await outcome(large) == Outcomes(accepted=400)
    stored = [row[0] for contents in writes.contents for row in complete(contents)]
    assert len(stored) == len(set(stored)) == 201
    for contents in writes.contents:
        assert len({row[0] // DAY for row in complete(contents)}) <= MAX_CHUNKS + 1


async def test_samples_that_may_be_refused_commit_in_small_parts(
    writes: Writes, traffic: Traffic
) -> None:
    """Each sample may have to be stored on its own, while the rest of its batch waits."""
    many = [one for number in range(3 * MAX_REFUSED // 2) for one in pair(number)]
    batching = Batching(NO_TIME, 1)
    async with GroupCommit(
        writes, traffic, Batch, batching, lambda samples: samples is many
    ) as group_commit:
        assert await group_commit.store(many) == Outcomes(accepted=len(many))
    assert len(writes.contents) == 3
    assert {2 * len(complete(contents)) for contents in writes.contents} == {MAX_REFUSED}


async def test_a_request_commits_in_small_parts_once_most_of_its_samples_are_rejected(
    opened: Opens, writes: Writes
) -> None:
    many = [status(number, math.nan) for number in range(MAX_SAMPLES + 2 * MAX_REFUSED)]
    async with opened() as group_commit:
        assert await group_commit.store(many) == Outcomes(rejected=len(many))
    sizes = [len(contents.rejected) for contents in writes.contents]
    assert sizes == [MAX_SAMPLES, MAX_REFUSED, MAX_REFUSED]


async def test_a_batch_has_few_rejected_samples_however_many_requests_it_has(
    opened: Opens, writes: Writes
) -> None:
    size = MAX_REFUSED + 1
    writes.gate.clear()
    async with opened() as group_commit:
        tasks = [
            asyncio.create_task(
                group_commit.store([status(number, math.nan) for number in range(size)])
            )
            for _ in range(3 * PARTS)
        ]
        await settle()
        writes.gate.set()
        for task in tasks:
            await outcome(task)
    most = PARTS * MAX_SAMPLES // SLOW_COST + size
    assert size < max(len(contents.rejected) for contents in writes.contents) <= most


async def test_a_batch_spans_few_chunks_however_many_requests_it_has(
    opened: Opens, writes: Writes
) -> None:
    writes.gate.clear()
    async with opened() as group_commit:
        tasks = [
            asyncio.create_task(group_commit.store(pair(number * DAY))) for number in range(300)
        ]
        await settle()
        assert group_commit.requests == 300
        writes.gate.set()
        for task in tasks:
            assert await outcome(task) == Outcomes(accepted=2)
    assert sum(map(len, writes.numbers())) == 300
    assert max(map(len, writes.numbers())) <= PARTS * MAX_CHUNKS


async def test_a_request_that_takes_too_long_is_to_be_sent_again(
    writes: Writes, traffic: Traffic
) -> None:
    days = [one for number in range(100) for one in pair(number * DAY)]
    batching = Batching(NO_TIME, 1, time_limit=NO_TIME)
    async with GroupCommit(writes, traffic, Batch, batching) as group_commit:
        with pytest.raises(DatabaseUnavailableError, match="RECEIVER_COMMIT_TIMEOUT"):
            await group_commit.store(days)
    assert 1 <= len(writes.contents) < 4


async def test_closing_answers_those_that_found_no_room(opened: Opens, writes: Writes) -> None:
    writes.gate.clear()
    async with opened() as group_commit:
        tasks = [
            asyncio.create_task(group_commit.store(pair(number * DAY))) for number in range(300)
        ]
        await settle()
    for task in tasks:
        with pytest.raises(ShuttingDownError):
            await outcome(task)


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True], ids=["stored", "failed"])
@pytest.mark.parametrize("columns", [[STATUS, OCR], [STATUS]], ids=["complete", "incomplete"])
async def test_finished_requests_leave_nothing_for_the_garbage_collector(
    opened: Opens, writes: Writes, traffic: Traffic, *, fails: bool, columns: list[Column]
) -> None:
    traffic.arriving = 1
    writes.outcomes = (DatabaseUnavailableError("gone") if fails else None for _ in range(100))
    sources = [Source(LOGS, (("instance", str(number)),)) for number in range(50)]
    alive = [weakref.ref(source) for source in sources]
    gc.collect()
    gc.disable()
    try:
        async with opened(delay=timedelta(milliseconds=1), writers=2) as group_commit:
            while sources:
                some = [sources.pop(), sources.pop()]
                samples = [
                    [(Series(column, source), NOW, 1.0) for column in columns] for source in some
                ]
                del some
                answers = await asyncio.gather(
                    *map(group_commit.store, samples), return_exceptions=True
                )
                assert all(isinstance(one, ReceiverError) == fails for one in answers)
                writes.contents.clear()
                del answers, samples
            await settle()
            assert sum(source() is not None for source in alive) == 0
    finally:
        gc.enable()
