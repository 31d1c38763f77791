"""A message is split between its fields, and every byte of it is in one part."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from receiver.protocol import wire
from receiver.protocol.generated.remote_write_v1_pb2 import TimeSeries, WriteRequest
from receiver.protocol.wire import Part, cut, split
from tests import strategies
from tests.messages import field, varint

requests = st.one_of(
    strategies.requests().map(WriteRequest.SerializeToString), strategies.unusual_requests
)
sizes = st.integers(1, 200)


def parts_of(data: bytes, size: int) -> list[Part]:
    return list(cut(data, 0, len(data), size))


@given(requests, sizes)
def test_the_parts_parse_to_what_the_whole_does(data: bytes, size: int) -> None:
    merged = WriteRequest()
    for part in parts_of(data, size):
        merged.MergeFromString(data[part.start : part.end])
    assert merged == WriteRequest.FromString(data)


@given(requests, sizes)
def test_parts_follow_one_another_and_have_the_size_asked_for(data: bytes, size: int) -> None:
    position = 0
    for part in parts_of(data, size):
        assert part.start == position < part.end
        assert part.end - part.start <= size or part.fields == 1
        position = part.end
    assert position == len(data)


def test_a_part_has_few_fields_however_small_they_are() -> None:
    data = b"\x0a\x00" * 10_000
    parts = parts_of(data, len(data))
    assert sum(part.fields for part in parts) == 10_000
    assert {part.fields for part in parts[:-1]} == {wire.MAX_FIELDS}


def test_a_range_within_the_data_is_cut() -> None:
    inner = field(1, b"name") + field(2, b"value")
    data = field(1, inner) + field(1, b"another")
    (part,) = cut(data, 2, 2 + len(inner), 100)
    assert part == Part(2, 2 + len(inner), 2)
    with pytest.raises(DecodeError, match="ends within a field"):
        list(cut(data, 2, 1 + len(inner), 100))


@pytest.mark.parametrize("number", [1, 15, 16, 2**29 - 1])
@pytest.mark.parametrize("overlong", [0, 3])
def test_a_large_field_is_a_part_of_its_own(number: int, overlong: int) -> None:
    large = field(number, bytes(100), size=overlong)
    data = field(1, b"before") + large + field(1, b"after")
    before, found, after = parts_of(data, 50)
    assert data[found.start : found.end] == large
    assert data[found.content : found.end] == bytes(100)
    assert (found.number, found.fields) == (number, 1)
    assert (before.number, after.number) == (0, 0)


def test_a_message_that_is_not_large_is_one_part() -> None:
    data = b"\x0a\x00" * wire.MAX_FIELDS * 2
    assert list(split(data, len(data))) == [Part(0, len(data), 0)]
    assert len(list(split(data, len(data) - 1))) == 2


@pytest.mark.parametrize(
    "group",
    [
        pytest.param(b"\x7b\x7c", id="empty"),
        pytest.param(b"\x7b" + varint(3 << 3) + b"\5" + b"\x7c", id="with a number"),
        pytest.param(b"\x7b\x7b\x7c\x7b\x7c\x7c", id="with groups"),
        pytest.param(b"\x7b" + field(1, b"\x7c" * 9) + b"\x7c", id="with what looks like its end"),
        pytest.param(b"\x7b\x19" + b"\x7c" * 8 + b"\x1d" + b"\x7c" * 4 + b"\x7c", id="fixed"),
    ],
)
def test_a_group_is_not_cut(group: bytes) -> None:
    data = group * 3
    TimeSeries.FromString(data)
    assert [data[part.start : part.end] for part in parts_of(data, 1)] == [group] * 3


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        pytest.param(b"\x0a", "ends within", id="tag alone"),
        pytest.param(b"\x0a\x80", "ends within", id="half a length"),
        pytest.param(b"\x0a\x80\x80", "ends within", id="half a longer length"),
        pytest.param(b"\x0a\x05abc", "ends within", id="less than announced"),
        pytest.param(
            b"\x0a" + varint(2**62) + b"abc", "ends within", id="much less than announced"
        ),
        pytest.param(b"\x7b\x08\x01", "ends within", id="group without an end"),
        pytest.param(b"\x08", "ends within", id="no number"),
        pytest.param(b"\x19abc", "ends within", id="half a fixed number"),
        pytest.param(b"\x08" + b"\x80" * 10 + b"\0", "more than 10 bytes", id="long varint"),
        pytest.param(b"\x7c\x00", "has the invalid tag 124", id="end without a group"),
        pytest.param(b"\x0e\x00", "has the invalid tag 14", id="wire type 6"),
        pytest.param(b"\x0f\x00", "has the invalid tag 15", id="wire type 7"),
        pytest.param(
            b"\x7b" + b"\x08\x01" * 40_000 + b"\x7c", "a group has more", id="large group"
        ),
        pytest.param(b"\x02\x7f" + bytes(127), "no valid tag", id="large field without number"),
        pytest.param(
            varint(1 << 3 | 2, 6) + b"\x7f" + bytes(127), "no valid tag", id="large, long tag"
        ),
    ],
)
def test_what_is_no_message_is_not_cut(data: bytes, fault: str) -> None:
    with pytest.raises(DecodeError, match=fault):
        parts_of(data, 100)
