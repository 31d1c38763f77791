"""A body that is expensive to read delays no other request: its neighbours are answered 204."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests import costly
from tests.conftest import MakeSettings
from tests.messages import NOW, compress
from tests.receivers import Running, encode, receiving

SIZE = 5 * 2**20
"""More than the size of one part in which messages are read."""
NEWER = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
GOOD = encode(
    ({"__name__": name, "instance": "good"}, NOW, 1.0) for name in ("app_status", "ocr_value")
)


@pytest.fixture
async def receiver(database_url: str, make_settings: MakeSettings) -> AsyncIterator[Running]:
    async with receiving(make_settings(database_url=database_url)) as running:
        yield running


async def check(receiver: Running, name: str, message: bytes, content_type: str) -> None:
    """Send a message; until it is answered, send valid ones and request the health check."""
    body = compress(message)
    sending = asyncio.create_task(receiver.post(body, Content_Type=content_type))
    while not sending.done():
        assert await receiver.get("/-/healthy") == (200, "The receiver is healthy.\n")
        assert (await receiver.post(GOOD))[0] == 204
    status, text = await sending
    assert status in {204, 400, 413}, (name, text)
    assert len(text) < 2000


async def test_honest_requests_are_stored_while_costly_ones_are_read(receiver: Running) -> None:
    for name, build in costly.V1.items():
        await check(receiver, name, build(SIZE), "application/x-protobuf")
    for name, build in costly.V2.items():
        await check(receiver, name, build(SIZE), NEWER)


async def test_large_bodies_are_decoded_one_at_a_time(receiver: Running) -> None:
    """Together they take as much memory as one; all are answered."""
    bodies = [compress(costly.V1["empty samples"](SIZE)) for _ in range(6)]
    answers = await asyncio.gather(*map(receiver.post, bodies))
    assert {status for status, _ in answers} == {413}
