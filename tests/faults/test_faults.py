"""No acknowledged sample is lost or duplicated, whatever is killed, slow, full or sent twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable

import pytest
import pytest_asyncio

from tests.faults.harness import (
    ALL_FAULTS,
    RECEIVER_FAULTS,
    SERVER_FAULTS,
    SESSION_FAULTS,
    Fault,
    NotHereError,
    World,
    disk_full,
    receiver_killed,
    world,
)
from tests.faults.processes import Server

# Receivers take a second to start, so all tests share the same ones.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def everything(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    async with world(server, tmp_path_factory.mktemp("replicas"), count=4) as everything:
        yield everything


@pytest.mark.parametrize("fault", ALL_FAULTS, ids=lambda fault: fault.__name__)
async def test_nothing_is_lost_or_doubled_when(fault: Fault, everything: World) -> None:
    stage = await everything.part(2, seed=1, job=fault.__name__)
    impossible = ""
    async with stage.sender.sending():
        await stage.sender.more()
        try:
            await fault(stage)
        except NotHereError as error:
            impossible = str(error)
    if impossible:
        pytest.skip(impossible)
    verdict = await stage.verdict()
    assert verdict.good, verdict


@pytest.mark.parametrize("count", [1, 4])
async def test_any_number_of_replicas_may_be_killed(count: int, everything: World) -> None:
    stage = await everything.part(count, seed=2, job=f"{count} replicas")
    async with stage.sender.sending():
        await stage.sender.more()
        await receiver_killed(stage)
    verdict = await stage.verdict()
    assert verdict.good, verdict


async def test_faults_of_every_kind_may_come_at_once(everything: World) -> None:
    stage = await everything.part(2, seed=3, job="at once")

    async def harm(faults: Iterable[Fault], seed: int) -> None:
        chance = random.Random(seed)
        for fault in chance.sample([one for one in faults if one is not disk_full], 2):
            await fault(stage._replace(chance=chance))

    async with stage.sender.sending():
        await stage.sender.more()
        await asyncio.gather(
            harm(RECEIVER_FAULTS, 4), harm(SERVER_FAULTS, 5), harm(SESSION_FAULTS, 6)
        )
    verdict = await stage.verdict()
    assert verdict.good, verdict
