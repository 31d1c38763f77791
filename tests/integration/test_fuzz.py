"""Any body is either stored or answered with a 4xx: never a 5xx, and the receiver keeps running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from receiver.protocol.generated.remote_write_v1_pb2 import WriteRequest
from receiver.protocol.generated.remote_write_v2_pb2 import Request
from tests import strategies
from tests.conftest import MakeSettings
from tests.fuzz.fuzz_decoders import build_decoders, seeds, take_apart
from tests.fuzz.fuzz_decoders import read as read_input
from tests.messages import NOW, compress, framed2, write_request2
from tests.receivers import HEADERS, Running, encode, receiving

TYPES = (
    "application/x-protobuf",
    "application/x-protobuf;proto=io.prometheus.write.v2.Request",
)
PAIR = (
    {"__name__": "app_status", "instance": "good"},
    {"__name__": "ocr_value", "instance": "good"},
)
GOOD = (
    encode((labels, NOW, 1.0) for labels in PAIR),
    compress(write_request2(*((labels, 1.0, NOW) for labels in PAIR))),
)

TABLES = """
tables:
  everything:
    columns:
      status: {metric: app_status, type: double, special: true}
  pairs:
    ignoring: [a]
    labels: {instance: text}
    columns:
      app_status: {metric: app_status, type: code, codes: states}
      ocr_value: {metric: ocr_value, type: timestamp, required: false}
  numbered:
    labels: {instance: bigint}
    columns:
      status: {metric: app_status, type: double}
  some:
    match: {instance: "a|good|"}
    columns:
      up: {metric: up, type: boolean}
      status: {metric: app_status, type: bigint, required: false}
"""

# One receiver and one database for all examples, so that examples may affect later ones.
bounded = hypothesis_settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(params=["", TABLES], ids=["the pair", "shared metrics"])
async def receiver(
    request: pytest.FixtureRequest,
    empty_database_url: str,
    make_settings: MakeSettings,
    tmp_path: Path,
) -> AsyncIterator[Running]:
    file = tmp_path / "tables.yaml"
    file.write_text(request.param, encoding="utf-8")
    settings = make_settings(
        database_url=empty_database_url,
        tables_file=file if request.param else None,
        max_body_size="64KiB",
        max_message_size="1MiB",
        series_cache_size="1MiB",
    )
    async with receiving(settings) as running:
        yield running


async def post(receiver: Running, body: bytes, content_type: str) -> int:
    headers = {**HEADERS, "Content-Type": content_type}
    async with receiver.session.post(receiver.url(), data=body, headers=headers) as response:
        assert response.status < 500, await response.text()
        assert response.status == 204 or await response.text()
        return response.status


async def check(receiver: Running, body: bytes) -> None:
    """Send the body as either message type, and then valid requests."""
    await asyncio.gather(*(post(receiver, body, content_type) for content_type in TYPES))
    assert await asyncio.gather(*map(partial(post, receiver), GOOD, TYPES)) == [204, 204]


older = strategies.requests().map(WriteRequest.SerializeToString)
newer = strategies.requests2().map(Request.SerializeToString)
messages: SearchStrategy[bytes] = st.one_of(
    older,
    newer,
    strategies.damaged(older),
    strategies.damaged(newer),
    strategies.faulty_requests2().map(Request.SerializeToString),
    strategies.unusual_requests,
    strategies.unusual_requests2,
)


@bounded
@given(messages)
@example(write_request2(({"__name__": "app_status", "a\0": "\0"}, 1.0, NOW)))
@example(framed2(["", "__name__"], b"\x0a\x02\x01\x02"))
@example(framed2(["", "__name__"], b"\x0a\x01\x01"))
async def test_no_message_is_answered_5xx(receiver: Running, message: bytes) -> None:
    await check(receiver, compress(message))


@bounded
@given(strategies.damaged(st.one_of(older, newer).map(compress)))
async def test_no_body_is_answered_5xx(receiver: Running, body: bytes) -> None:
    await check(receiver, body)


@bounded
@given(st.binary(max_size=200))
async def test_no_random_bytes_are_answered_5xx(receiver: Running, body: bytes) -> None:
    await check(receiver, body)


# --- the target of the fuzzer ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", list(seeds()))
def test_the_seeds_of_the_fuzzer_are_valid(seed: bytes) -> None:
    headers, body = take_apart(seed)
    assert headers["Content-Type"]
    assert body
    read_input(seed, build_decoders())


@hypothesis_settings(max_examples=100, derandomize=True)
@given(strategies.damaged(st.sampled_from(list(seeds()))))
def test_the_target_of_the_fuzzer_lets_only_4xx_pass(data: bytes) -> None:
    read_input(data, build_decoders())
