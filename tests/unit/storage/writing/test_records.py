"""Batches in the form of the tables, down to the bytes that PostgreSQL reads."""

from __future__ import annotations

import hashlib
import json
import struct
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from receiver.rows.batch import POSTGRES_EPOCH_MS, to_postgres_time
from receiver.rows.model import Half, Metric, Reason, Rejected, Row, Source
from receiver.storage.writing.labels import cut, to_json
from receiver.storage.writing.records import (
    COPY_COLUMNS,
    Contents,
    LogRecord,
    Refusal,
    encode_copy,
    half_records,
    key_records,
    log_records,
    pieces,
    rejected_records,
)
from tests import strategies
from tests.messages import NOW, bits

few = hypothesis_settings(max_examples=40)
NAMES = {Metric.STATUS: "the_status", Metric.OCR: "the_ocr"}


def source(number: int | None) -> Source:
    made = Source((("instance", str(number)),))
    made.id = number
    return made


SOURCES = [source(number) for number in (1, 2, 3)]

int32 = st.integers(-(2**31), 2**31 - 1)
codes = st.one_of(int32.map(float), st.just(-0.0))
int64 = st.integers(-(2**63), 2**63 - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
times = st.integers(NOW, NOW + 5)
some_sources = st.sampled_from(SOURCES)

rows: st.SearchStrategy[list[Row]] = st.lists(
    st.tuples(times, some_sources, codes, int64, finite), max_size=5
)
halves: st.SearchStrategy[list[Half]] = st.lists(
    st.one_of(
        st.tuples(times, some_sources, codes, st.none(), st.none()),
        st.tuples(times, some_sources, st.none(), int64, finite),
    ),
    max_size=5,
    unique_by=lambda half: half[:2],
)
rejected: st.SearchStrategy[list[Rejected]] = st.lists(
    st.builds(
        Rejected,
        some_sources,
        st.sampled_from(Metric),
        strategies.timestamps,
        strategies.values,
        st.sampled_from(Reason),
    ),
    max_size=5,
)
all_contents = st.builds(
    Contents, rows, halves, rejected, st.lists(st.tuples(times, some_sources)), st.integers(0, 9)
)


# --- COPY -----------------------------------------------------------------------------------------


def parse_copy(stream: bytes) -> list[list[bytes | None]]:
    """Read PostgreSQL's binary format (documentation of COPY, "Binary Format")."""
    signature, flags, extension = struct.unpack_from(">11sii", stream)
    assert signature == b"PGCOPY\n\xff\r\n\0"
    assert flags == 0
    place = 19 + extension
    tuples: list[list[bytes | None]] = []
    while True:
        (fields,) = struct.unpack_from(">h", stream, place)
        place += 2
        if fields == -1:
            assert place == len(stream)
            return tuples
        values: list[bytes | None] = []
        for _ in range(fields):
            (size,) = struct.unpack_from(">i", stream, place)
            place += 4
            values.append(None if size == -1 else stream[place : place + size])
            place += max(size, 0)
        tuples.append(values)


def number(field: bytes | None) -> int:
    assert field is not None
    return int.from_bytes(field, "big", signed=True)


records: st.SearchStrategy[list[LogRecord]] = st.lists(
    st.tuples(int64, int32, int32, int64, finite, finite), max_size=20
)


@few
@given(records)
def test_the_bytes_of_a_copy(logs: list[LogRecord]) -> None:
    assert COPY_COLUMNS == ("created_at", "source_id", "app_status", "ocr_value")
    parsed = parse_copy(bytes(encode_copy(logs)))
    # TIMESTAMPTZ has 8 bytes, INT has 4.
    assert all([len(field or b"") for field in row] == [8, 4, 4, 8] for row in parsed)
    assert [tuple(number(field) for field in row) for row in parsed] == [log[:4] for log in logs]


def test_a_copy_of_one_row_byte_by_byte() -> None:
    expected = (
        "5047434f50590aff0d0a00 00000000 00000000"
        "0004"
        "00000008 0000000000000001"
        "00000004 00000002"
        "00000004 ffffffff"
        "00000008 fffffffffffffffe"
        "ffff"
    )
    assert bytes(encode_copy([(1, 2, -1, -2, -1.0, 0.0)])) == bytes.fromhex(expected)


def test_a_copy_is_a_view_for_asyncpg() -> None:
    assert isinstance(encode_copy([]), memoryview)


# --- order ----------------------------------------------------------------------------------------


@few
@given(rows)
def test_rows_are_sorted_by_their_key(batch: list[Row]) -> None:
    found = log_records(batch)
    assert [record[:2] for record in found] == sorted(record[:2] for record in found)
    assert Counter(found) == Counter(
        (to_postgres_time(timestamp), kept.id, int(status), ocr_value, status, sample)
        for timestamp, kept, status, ocr_value, sample in batch
    )


@few
@given(halves)
def test_halves_are_sorted_by_their_key(batch: list[Half]) -> None:
    found = half_records(batch)
    assert [record[:2] for record in found] == sorted(record[:2] for record in found)
    assert Counter(found) == Counter(
        (
            *(to_postgres_time(timestamp), kept.id, None if status is None else int(status)),
            *(status, ocr_value, sample),
        )
        for timestamp, kept, status, ocr_value, sample in batch
    )


def test_the_first_of_several_rows_with_one_key_stays_the_first() -> None:
    batch = [(NOW, SOURCES[0], status, 0, 0.0) for status in (5.0, 3.0, 4.0)]
    assert [record[2] for record in log_records(batch)] == [5, 3, 4]


def test_time_comes_before_source() -> None:
    late, early = (NOW + 1, SOURCES[0]), (NOW, SOURCES[2])
    other = (NOW, SOURCES[1])
    found = log_records([(*at, 0, 0, 0.0) for at in (late, early, other)])
    assert [(record[0], record[1]) for record in found] == [
        (to_postgres_time(NOW), 2),
        (to_postgres_time(NOW), 3),
        (to_postgres_time(NOW + 1), 1),
    ]


@pytest.mark.parametrize("timestamp", [0, -1, NOW, POSTGRES_EPOCH_MS, -62_135_596_800_000])
def test_a_row_and_a_half_have_the_same_time(timestamp: int) -> None:
    (log,) = log_records([(timestamp, SOURCES[0], 0, 0, 0.0)])
    (half,) = half_records([(timestamp, SOURCES[0], 0, None, None)])
    assert log[0] == half[0] == to_postgres_time(timestamp)


@few
@given(rejected)
def test_rejected_samples_keep_every_bit(batch: list[Rejected]) -> None:
    found = rejected_records(batch, NAMES)
    assert [(*record[:5], bits(record[5]), *record[6:]) for record in found] == [
        (
            *(one.source.id, None, None, NAMES[one.metric], one.timestamp),
            *(bits(one.value), one.reason, one.detail),
        )
        for one in batch
    ]


def test_a_rejected_sample_without_a_source_has_its_labels() -> None:
    sample = Rejected(source(None), Metric.OCR, NOW, 0.0, Reason.TOO_MANY_SOURCES, "why")
    ((source_id, key, labels, *rest),) = rejected_records([sample], NAMES)
    assert source_id is None
    assert labels == '{"instance":"None"}'
    assert key == hashlib.sha256(labels.encode()).digest()
    assert rest == ["the_ocr", NOW, 0.0, "too_many_new_sources", "why"]


def test_a_large_label_set_is_there_once_for_all_its_rejected_samples() -> None:
    """Else 150 KB of request become 600 MB of records."""
    labels = (("a" * 100, "b"), ("instance", "x"), ("z", "c" * 30_000), ("zz", "d"))
    who = Source(labels)
    samples = [Rejected(who, Metric.OCR, NOW + number, 0.0, Reason.REFUSED) for number in range(3)]
    first, *others = rejected_records(samples, NAMES)
    assert json.loads(first[2] or "") == dict(labels)
    for other in others:
        assert other[1] == first[1]
        shown = json.loads(other[2] or "")
        assert shown == {"a" * 64 + "…": "b", "instance": "x", "z": "c" * 64 + "…", "zz": "d"}


def test_many_large_labels_are_cut_to_a_bounded_size() -> None:
    labels = tuple((f"label{number}", "x" * 80) for number in range(200))
    shown = to_json(cut(labels))
    assert len(shown) <= 1024
    assert len(json.loads(shown)) > 5


def test_a_small_label_set_is_not_cut() -> None:
    labels = (("job", "x" * 500), ("zone", "y" * 400))
    assert cut(labels) == labels


def test_pieces_have_a_bounded_size_but_at_least_one_entry() -> None:
    sizes = [3, 3, 4, 11, 1, 9, 1]
    assert list(pieces(sizes, int, 10)) == [[3, 3, 4], [11], [1, 9], [1]]
    assert not list(pieces([], int, 10))


def test_a_half_of_a_source_without_an_id_is_a_fault_of_ours() -> None:
    with pytest.raises(RuntimeError, match="has no id yet"):
        half_records([(NOW, source(None), 0, None, None)])


# --- contents -------------------------------------------------------------------------------------


def entries(contents: Contents) -> Counter[str]:
    """Everything in it, as text: a NaN is not equal to itself."""
    values: list[tuple[Any, ...]] = [*contents.rows, *contents.halves, *contents.rejected]
    return Counter(map(repr, values))


@few
@given(all_contents, st.sets(some_sources))
def test_parting_loses_and_repeats_nothing(contents: Contents, chosen: set[Source]) -> None:
    first, second = contents.part(chosen.__contains__)
    assert entries(first) + entries(second) == entries(contents)
    assert first.size() + second.size() == contents.size()
    assert first.repeated + second.repeated == contents.repeated
    assert first.sources() <= chosen
    assert chosen.isdisjoint(second.sources())


@few
@given(all_contents)
def test_the_size_and_the_sources(contents: Contents) -> None:
    assert contents.size() == entries(contents).total()
    pairs: list[Row | Half] = [*contents.rows, *contents.halves]
    expected = {one[1] for one in pairs} | {one.source for one in contents.rejected}
    assert contents.sources() == expected


def exact(one: Rejected) -> tuple[Source, Metric, int, int, Reason, str | None]:
    return one.source, one.metric, one.timestamp, bits(one.value), one.reason, one.detail


REFUSED = Refusal(Reason.REFUSED, "why")


@few
@given(all_contents)
def test_everything_refused_is_every_sample_with_its_value(contents: Contents) -> None:
    refused = contents.without(lambda _: REFUSED)
    assert not refused.rows
    assert not refused.halves
    assert refused.broken == [*contents.broken, *(half[:2] for half in contents.halves)]
    pairs: list[Row | Half] = [*contents.rows, *contents.halves]
    samples = [
        Rejected(one[1], metric, one[0], value, Reason.REFUSED, "why")
        for one in pairs
        for metric, value in ((Metric.STATUS, one[2]), (Metric.OCR, one[4]))
        if value is not None
    ]
    assert len(samples) == 2 * len(contents.rows) + len(contents.halves)
    assert Counter(map(exact, refused.rejected)) == Counter(
        map(exact, [*contents.rejected, *samples])
    )


@few
@given(all_contents)
def test_nothing_refused_is_the_same(contents: Contents) -> None:
    assert entries(contents.without(lambda _: None)) == entries(contents)


def test_the_other_sample_of_a_refused_one_is_rejected_with_it() -> None:
    row = NOW, SOURCES[0], -0.0, to_postgres_time(NOW), NOW / 1000
    refusal = Refusal(Reason.TOO_MANY_CODES, "why", Metric.STATUS)
    status, ocr = Contents([row], [], []).without(lambda _: refusal).rejected
    assert exact(status) == exact(
        Rejected(SOURCES[0], Metric.STATUS, NOW, -0.0, Reason.TOO_MANY_CODES, "why")
    )
    assert ocr == Rejected(SOURCES[0], Metric.OCR, NOW, NOW / 1000, Reason.WITH_OTHER)


def test_keys_are_sorted_and_have_sources() -> None:
    keys = [(NOW + 1, SOURCES[1]), (NOW, SOURCES[2]), (NOW, source(None)), (NOW, SOURCES[0])]
    at = to_postgres_time(NOW)
    assert key_records(keys) == [(at, 1), (at, 3), (to_postgres_time(NOW + 1), 2)]
