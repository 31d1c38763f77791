"""A body is one whole snappy block within the limit, or is refused before memory is allocated."""

from __future__ import annotations

from contextlib import suppress

import pytest
import snappy
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import BadRequestError, TooLargeError
from receiver.protocol.compression import MAX_RATIO, check_size, decompress
from tests.messages import NOW, compress, compressed, series, varint, write_request

LIMIT = 2**20
GIB = 2**30
# As a length takes five bytes, so many bytes alone could make a whole body.
LARGEST = varint(2**32 - 1)

messages = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda part, times: part * times, st.binary(max_size=40), st.integers(0, 5000)),
)


def read(body: bytes, limit: int = LIMIT) -> bytes:
    check_size(body, limit)
    return decompress(body)


@given(messages)
def test_what_was_compressed_comes_back(message: bytes) -> None:
    body = compress(message)
    assert check_size(body, LIMIT) == len(message)
    assert decompress(body) == message


@pytest.mark.parametrize("size", [0, 1, 64, 2**16, LIMIT])
def test_the_most_compressible_messages_come_back(size: int) -> None:
    assert read(compress(bytes(size))) == bytes(size)


def test_a_request_comes_back() -> None:
    content = [series({"__name__": "up", "n": str(n)}, (n, NOW)) for n in range(100)]
    assert read(compressed(*content)) == write_request(*content)


def test_the_limit_is_the_largest_size() -> None:
    body = compress(b"x" * 1000)
    assert check_size(body, 1000) == 1000
    with pytest.raises(TooLargeError, match="1000 bytes decompressed, the limit is 999") as refusal:
        check_size(body, 999)
    assert "RECEIVER_MAX_MESSAGE_SIZE" in str(refusal.value)


@pytest.mark.parametrize("size", [LIMIT + 1, 2**31 - 1, 2**31, 2**32 - 1])
def test_a_stated_size_above_the_limit_is_too_large(size: int) -> None:
    with pytest.raises(TooLargeError, match=str(size)):
        check_size(varint(size), LIMIT)


def test_five_bytes_that_state_four_gibibytes_are_too_short() -> None:
    assert len(LARGEST) == 5
    with pytest.raises(BadRequestError, match="too short for the 4294967295 bytes it declares"):
        check_size(LARGEST, 8 * GIB)


@given(st.binary(max_size=30), st.integers(0, 2**32 - 1))
def test_no_more_memory_is_taken_than_a_body_can_fill(rest: bytes, size: int) -> None:
    with suppress(BadRequestError, TooLargeError):
        assert check_size(varint(size) + rest, GIB) <= MAX_RATIO * (5 + len(rest))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x80", id="one byte of a longer length"),
        pytest.param(b"\xff\xff\xff\xff", id="four bytes of a longer length"),
        pytest.param(b"\x80" * 5 + b"\0", id="a length of six bytes"),
        pytest.param(varint(2**32), id="33 bits"),
        pytest.param(varint(2**35 - 1), id="35 bits"),
        pytest.param(varint(2**64 - 1), id="64 bits"),
    ],
)
def test_a_body_without_a_length(body: bytes) -> None:
    with pytest.raises(BadRequestError, match="does not start with a length"):
        check_size(body, 8 * GIB)


def test_the_framed_format_is_named() -> None:
    body = snappy.StreamCompressor().compress(b"message")
    with pytest.raises(BadRequestError, match="framed format"):
        check_size(bytes(body), LIMIT)


def test_a_body_truncated_at_any_byte() -> None:
    body = compress(bytes(range(256)) + b"message" * 20)
    for end in range(len(body)):
        with pytest.raises(BadRequestError):
            read(body[:end])


@pytest.mark.parametrize("more", [b"\0", b"\0a", b"garbage", compress(b"another")])
@pytest.mark.parametrize("message", [b"", b"message" * 20])
def test_something_after_the_block(message: bytes, more: bytes) -> None:
    with pytest.raises(BadRequestError, match="not a complete snappy block"):
        read(compress(message) + more)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\x04\x0cab", id="literal beyond the end"),
        pytest.param(b"\x04\x00a\x09\x05", id="copy from before the start"),
        pytest.param(b"\x04\x00a\x01\x00", id="copy from nowhere"),
        pytest.param(b"\x02\x08abc", id="more than stated"),
        pytest.param(b"\x04\x08abc", id="less than stated"),
        pytest.param(b"plain text", id="not compressed"),
        pytest.param(b"\x1f\x8b\x08\x00" + bytes(20), id="gzip"),
        pytest.param(b"\x28\xb5\x2f\xfd" + bytes(20), id="zstd"),
    ],
)
def test_a_body_that_is_no_block(body: bytes) -> None:
    with pytest.raises(BadRequestError):
        read(body)


@given(st.one_of(st.binary(max_size=60), st.builds(bytes.__add__, st.binary(max_size=2), messages)))
def test_random_bytes_are_at_worst_refused(body: bytes) -> None:
    with suppress(BadRequestError, TooLargeError):
        assert len(read(body)) <= LIMIT


@given(messages, st.data())
def test_a_damaged_body_is_at_worst_refused(message: bytes, data: st.DataObject) -> None:
    body = bytearray(compress(message))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))
    with suppress(BadRequestError, TooLargeError):
        assert len(read(bytes(body))) <= LIMIT
