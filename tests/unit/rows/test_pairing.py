"""Every accepted sample becomes part of one row or waits as a half; every other one is listed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from receiver.rows.batch import (
    Batch,
    Outcome,
    TimeWindow,
    is_stale_marker,
    read_ocr_value,
    read_status,
    to_postgres_time,
)
from receiver.rows.model import Half, Metric, Reason, Rejected, Row, Sample, Series, Source
from tests import strategies
from tests.messages import NOW, STALE, bits, from_bits

SECONDS = 1_000_000
MILLISECONDS = 1_000
INFINITY = float("inf")
NAN = float("nan")

# What TIMESTAMPTZ holds, from PostgreSQL's definition of it in days of the Julian calendar
# (src/include/datatype/timestamp.h): from day 0 until before day 109203528; 2000-01-01 is 2451545.
DAY = 86_400 * SECONDS
FIRST = (0 - 2_451_545) * DAY
END = (109_203_528 - 2_451_545) * DAY
# The same in milliseconds since the Unix epoch, day 2440588.
FIRST_MS = (0 - 2_440_588) * DAY // 1000
END_MS = (109_203_528 - 2_440_588) * DAY // 1000
UNIX_EPOCH = (2_440_588 - 2_451_545) * DAY

SOURCES = [Source((("instance", name),)) for name in "abc"]

Key = tuple[int, Source]


def sample(
    metric: Metric, value: float, timestamp: int = NOW, source: Source = SOURCES[0]
) -> Sample:
    return Series(metric, source), timestamp, float(value)


def status(value: float = 0.0, timestamp: int = NOW, source: Source = SOURCES[0]) -> Sample:
    return sample(Metric.STATUS, value, timestamp, source)


def ocr(value: float = NOW / 1000, timestamp: int = NOW, source: Source = SOURCES[0]) -> Sample:
    return sample(Metric.OCR, value, timestamp, source)


def key(one: Sample) -> Key:
    (_, source), timestamp, _ = one
    return timestamp, source


def ocr_value(value: float, unit: int = SECONDS) -> int:
    read = read_ocr_value(value, unit)
    assert not isinstance(read, Reason)
    return read


def batch_of(*requests: Collection[Sample]) -> tuple[Batch, Counter[Outcome]]:
    batch = Batch(SECONDS)
    outcomes = Counter[Outcome]()
    for request in requests:
        outcomes += batch.add(request)
    return batch, outcomes


def contents(batch: Batch) -> tuple[Counter[Row], Counter[Half], Counter[str]]:
    """Everything in a batch; rejected samples as text, for a NaN is not equal to itself."""
    rejected = Counter(repr((*one[:3], bits(one.value), one.reason)) for one in batch.rejected)
    return Counter(batch.rows), Counter(batch.halves()), rejected


# --- pairing --------------------------------------------------------------------------------------

keys = st.tuples(st.integers(NOW, NOW + 4), st.sampled_from(SOURCES))
statuses = st.integers(-3, 3).map(float)
ocr_values = st.integers(NOW, NOW + 5).map(lambda milliseconds: milliseconds / 1000)
storable = st.one_of(
    st.builds(lambda at, value: status(value, *at), keys, statuses),
    st.builds(lambda at, value: ocr(value, *at), keys, ocr_values),
)
anything = st.builds(
    lambda at, metric, value: sample(metric, value, *at),
    st.tuples(st.one_of(strategies.timestamps, st.just(NOW)), st.sampled_from(SOURCES)),
    st.sampled_from(Metric),
    strategies.values,
)
distinct_samples = st.lists(storable, max_size=30, unique_by=lambda one: (one[0].metric, key(one)))


def requests_of(samples: st.SearchStrategy[list[Sample]]) -> st.SearchStrategy[list[list[Sample]]]:
    """The same samples in any order, divided into several requests."""
    return samples.flatmap(
        lambda all_samples: st.builds(
            divide,
            st.permutations(all_samples),
            st.lists(st.integers(0, len(all_samples)), max_size=4).map(sorted),
        )
    )


def divide(samples: Sequence[Sample], cuts: Sequence[int]) -> list[list[Sample]]:
    return [
        list(samples[start:end])
        for start, end in zip([0, *cuts], [*cuts, len(samples)], strict=True)
    ]


@given(requests_of(distinct_samples))
def test_two_samples_of_a_key_are_one_row_and_one_is_a_half(requests: list[list[Sample]]) -> None:
    samples = [one for request in requests for one in request]
    by_metric = {
        metric: {key(one): one[2] for one in samples if one[0].metric is metric}
        for metric in Metric
    }
    statuses, ocr_values = by_metric[Metric.STATUS], by_metric[Metric.OCR]
    batch, outcomes = batch_of(*requests)
    assert outcomes == Counter({Outcome.ACCEPTED: len(samples)})
    assert Counter(batch.rows) == Counter(
        (*at, int(statuses[at]), ocr_value(ocr_values[at]), ocr_values[at])
        for at in statuses.keys() & ocr_values.keys()
    )
    assert Counter(batch.halves()) == Counter(
        [
            *((*at, int(statuses[at]), None, None) for at in statuses.keys() - ocr_values.keys()),
            *(
                (*at, None, ocr_value(ocr_values[at]), ocr_values[at])
                for at in ocr_values.keys() - statuses.keys()
            ),
        ]
    )
    assert not batch.rejected
    assert batch.has_halves == (statuses.keys() != ocr_values.keys())
    assert bool(batch) == bool(samples)


@given(distinct_samples, st.data())
def test_neither_order_nor_division_matters(samples: list[Sample], data: st.DataObject) -> None:
    expected = contents(batch_of(samples)[0])
    requests = data.draw(requests_of(st.just(samples)))
    assert contents(batch_of(*requests)[0]) == expected


@given(requests_of(st.lists(st.one_of(storable, anything), max_size=40)))
def test_every_sample_is_accounted_for(requests: list[list[Sample]]) -> None:
    samples = [one for request in requests for one in request]
    batch, outcomes = batch_of(*requests)
    assert outcomes.total() == len(samples)
    assert outcomes[Outcome.STALE] == sum(bits(one[2]) == bits(STALE) for one in samples)
    assert outcomes[Outcome.REJECTED] == len(batch.rejected)
    batch.close()

    sent = Counter(repr((*one[0], one[1], bits(one[2]))) for one in samples)
    rejected = Counter(
        repr((one.metric, one.source, one.timestamp, bits(one.value))) for one in batch.rejected
    )
    assert rejected <= sent

    stored = stored_samples(batch)
    accepted = Counter(
        repr((*kept, timestamp, read_as_stored(kept.metric, value)))
        for (kept, timestamp, value) in samples
        if bits(value) != bits(STALE) and FIRST_MS <= timestamp < END_MS
    )
    accepted -= Counter(
        repr((one.metric, one.source, one.timestamp, read_as_stored(one.metric, one.value)))
        for one in batch.rejected
        if one.reason is not Reason.TIMESTAMP_OUT_OF_RANGE
    )
    assert outcomes[Outcome.ACCEPTED] >= accepted.total() >= stored.total()
    for one in batch.rejected:
        if one.reason is Reason.WITH_OTHER:
            same = (one.metric, one.source, one.timestamp, read_as_stored(one.metric, one.value))
            del accepted[repr(same)]
    # Nothing is stored more often than it was accepted, and everything accepted is stored; what
    # comes twice is stored at least once.
    assert stored <= accepted
    assert stored.keys() == accepted.keys()


def read_as_stored(metric: Metric, value: float) -> int | Reason:
    return read_status(value) if metric is Metric.STATUS else read_ocr_value(value, SECONDS)


def stored_samples(batch: Batch) -> Counter[str]:
    pairs: list[Row | Half] = [*batch.rows, *batch.halves()]
    return Counter(
        repr((metric, source, timestamp, value))
        for timestamp, source, code, ocr_code, _ in pairs
        for metric, value in (
            (Metric.STATUS, None if code is None else int(code)),
            (Metric.OCR, ocr_code),
        )
        if value is not None
    )


def test_samples_of_other_times_or_sources_are_no_pair() -> None:
    batch, _ = batch_of(
        [status(), ocr(timestamp=NOW + 1), ocr(source=SOURCES[1])], [ocr(timestamp=NOW - 1)]
    )
    assert not batch.rows
    assert len(list(batch.halves())) == 4


def test_equal_labels_are_not_enough_sources_are_compared_by_identity() -> None:
    twin = Source(SOURCES[0].labels)
    batch, _ = batch_of([status(), ocr(source=twin)])
    assert not batch.rows


@pytest.mark.parametrize("first", [status(3), ocr()])
def test_the_same_sample_twice_is_one_half(first: Sample) -> None:
    batch, outcomes = batch_of([first, first], [first])
    assert outcomes == {Outcome.ACCEPTED: 3}
    assert len(list(batch.halves())) == 1
    assert not batch.rejected


def test_a_repeated_half_still_finds_its_twin() -> None:
    batch, outcomes = batch_of([status(3)], [status(3), ocr()])
    assert outcomes == {Outcome.ACCEPTED: 3}
    assert batch.rows == [(NOW, SOURCES[0], 3, ocr_value(NOW / 1000), NOW / 1000)]
    assert not batch.has_halves


@pytest.mark.parametrize("divided", [False, True])
@pytest.mark.parametrize(
    ("first", "second"), [(status(1), status(2)), (ocr(), ocr(NOW / 1000 + 1))]
)
def test_another_value_for_the_same_key_is_a_conflict(
    first: Sample, second: Sample, divided: bool
) -> None:
    requests = [[first], [second]] if divided else [[first, second]]
    batch, outcomes = batch_of(*requests)
    assert outcomes == {Outcome.ACCEPTED: 1, Outcome.REJECTED: 1}
    (half,) = batch.halves()
    assert first[2] in half
    (kept, timestamp, value) = second
    assert batch.rejected == [Rejected(kept.source, kept.metric, timestamp, value, Reason.CONFLICT)]


def test_values_that_are_stored_alike_are_no_conflict() -> None:
    batch, outcomes = batch_of([status(0.0), status(-0.0), ocr(1e9), ocr(1e9 + 1e-7)])
    assert outcomes == {Outcome.ACCEPTED: 4}
    assert not batch.rejected


def test_an_empty_batch_is_false() -> None:
    batch, outcomes = batch_of([], [status(STALE)])
    assert not batch
    assert not batch.has_halves
    assert outcomes == {Outcome.STALE: 1}


# --- the table of values --------------------------------------------------------------------------

HALF = 0.5
TABLE: list[tuple[Metric, float, int | Reason | None]] = [
    # metric, value, what is stored, or why it is rejected, or None for a stale marker
    (Metric.STATUS, STALE, None),
    (Metric.OCR, STALE, None),
    (Metric.STATUS, NAN, Reason.NOT_A_NUMBER),
    (Metric.OCR, NAN, Reason.NOT_A_NUMBER),
    (Metric.STATUS, from_bits(0x7FF0000000000001), Reason.NOT_A_NUMBER),
    (Metric.STATUS, from_bits(0xFFF0000000000002), Reason.NOT_A_NUMBER),
    (Metric.OCR, from_bits(0x7FF8000000000002), Reason.NOT_A_NUMBER),
    (Metric.STATUS, INFINITY, Reason.INFINITE),
    (Metric.STATUS, -INFINITY, Reason.INFINITE),
    (Metric.OCR, INFINITY, Reason.INFINITE),
    (Metric.OCR, -INFINITY, Reason.INFINITE),
    (Metric.STATUS, 0.0, 0),
    (Metric.STATUS, -0.0, 0),
    (Metric.STATUS, 99.0, 99),
    (Metric.STATUS, -1.0, -1),
    (Metric.STATUS, 0.5, Reason.NOT_WHOLE),
    (Metric.STATUS, 5e-324, Reason.NOT_WHOLE),
    (Metric.STATUS, -5e-324, Reason.NOT_WHOLE),
    (Metric.STATUS, math.nextafter(1, 2), Reason.NOT_WHOLE),
    (Metric.STATUS, 2.0**31 - 1, 2**31 - 1),
    (Metric.STATUS, 2.0**31 - 1 + HALF, Reason.NOT_WHOLE),
    (Metric.STATUS, 2.0**31, Reason.OUT_OF_RANGE),
    (Metric.STATUS, -(2.0**31), -(2**31)),
    (Metric.STATUS, -(2.0**31) - HALF, Reason.NOT_WHOLE),
    (Metric.STATUS, -(2.0**31) - 1, Reason.OUT_OF_RANGE),
    (Metric.STATUS, 2.0**63, Reason.OUT_OF_RANGE),
    (Metric.STATUS, 1.7976931348623157e308, Reason.OUT_OF_RANGE),
    (Metric.OCR, 0.0, UNIX_EPOCH),
    (Metric.OCR, -0.0, UNIX_EPOCH),
    (Metric.OCR, 5e-324, UNIX_EPOCH),
    (Metric.OCR, -5e-324, UNIX_EPOCH),
    (Metric.OCR, 946_684_800.0, 0),
    (Metric.OCR, 946_684_800.25, 250_000),
    (Metric.OCR, -0.000001, UNIX_EPOCH - 1),
    (Metric.OCR, FIRST_MS / 1000, FIRST),
    (Metric.OCR, math.nextafter(FIRST_MS / 1000, -INFINITY), Reason.OUT_OF_RANGE),
    (Metric.OCR, END_MS / 1000, Reason.OUT_OF_RANGE),
    (Metric.OCR, 1e18, Reason.OUT_OF_RANGE),
    (Metric.OCR, -1.7976931348623157e308, Reason.OUT_OF_RANGE),
]


@pytest.mark.parametrize(
    ("metric", "value", "expected"),
    [pytest.param(*row, id=f"{row[0]} {row[1]!r} {bits(row[1]):016x}") for row in TABLE],
)
def test_the_table_of_values(metric: Metric, value: float, expected: int | Reason | None) -> None:
    batch, outcomes = batch_of([sample(metric, value)])
    if expected is None:
        assert outcomes == {Outcome.STALE: 1}
        assert not batch
    elif isinstance(expected, Reason):
        assert outcomes == {Outcome.REJECTED: 1}
        (rejected,) = batch.rejected
        assert rejected == Rejected(SOURCES[0], metric, NOW, rejected.value, expected)
        assert bits(rejected.value) == bits(value)
        assert not batch.has_halves
    else:
        assert outcomes == {Outcome.ACCEPTED: 1}
        (half,) = batch.halves()
        stored = (expected, None, None) if metric is Metric.STATUS else (None, expected, value)
        assert half == (NOW, SOURCES[0], *stored)
        assert not batch.rejected


@given(strategies.values)
def test_only_one_nan_is_the_stale_marker(value: float) -> None:
    assert is_stale_marker(value) == (bits(value) == 0x7FF0000000000002)


@given(strategies.values)
def test_a_status_is_the_very_number_or_rejected(value: float) -> None:
    read = read_status(value)
    if isinstance(read, Reason):
        assert not (value.is_integer() and -(2**31) <= value <= 2**31 - 1)
    else:
        assert type(read) is int
        assert read == value


@pytest.mark.parametrize("unit", [SECONDS, MILLISECONDS])
@given(
    st.one_of(
        st.floats(allow_nan=False, allow_infinity=False),
        st.floats(-1e10, 1e10),
        st.floats(FIRST_MS / 1000 - 5, FIRST_MS / 1000 + 5),
        st.floats(END_MS / 1000 - 5, END_MS / 1000 + 5),
        st.integers(FIRST_MS - 50, FIRST_MS + 50).map(float),
        st.integers(END_MS - 50, END_MS + 50).map(float),
        # Halves of a microsecond are exact floats only here.
        st.integers(-(10**9), 10**9).map(lambda number: number / 128),
    )
)
@example(NOW / 1000)
@example(1 / 128)
@example(-1 / 128)
def test_an_ocr_value_is_exact_to_the_microsecond(unit: int, value: float) -> None:
    exact = Fraction(value) * unit
    expected = math.floor(exact + Fraction(1, 2)) + UNIX_EPOCH
    read = read_ocr_value(value, unit)
    if FIRST <= expected < END:
        assert read == expected
        assert abs(Fraction(read) - UNIX_EPOCH - exact) <= Fraction(1, 2)
    else:
        assert read is Reason.OUT_OF_RANGE


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001  hypothesis wants naive bounds
def test_a_time_is_what_its_float_says(time: datetime) -> None:
    read = ocr_value(time.timestamp())
    assert datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=read) == time


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize(
    ("timestamp", "fits"),
    [
        (-(2**63), False),
        (FIRST_MS - 1, False),
        (FIRST_MS, True),
        (0, True),
        (END_MS - 1, True),
        (END_MS, False),
        (2**63 - 1, False),
    ],
)
def test_the_range_of_timestamps(metric: Metric, timestamp: int, fits: bool) -> None:
    batch, outcomes = batch_of([sample(metric, 1.0, timestamp)])
    assert outcomes == {Outcome.ACCEPTED if fits else Outcome.REJECTED: 1}
    if fits:
        (half,) = batch.halves()
        assert half[0] == timestamp
        assert FIRST <= to_postgres_time(timestamp) < END
    else:
        assert batch.rejected == [
            Rejected(SOURCES[0], metric, timestamp, 1.0, Reason.TIMESTAMP_OUT_OF_RANGE)
        ]


def test_a_stale_marker_out_of_range_is_stale() -> None:
    batch, outcomes = batch_of([status(STALE, timestamp=2**63 - 1)])
    assert outcomes == {Outcome.STALE: 1}
    assert not batch


def test_the_unit_is_that_of_the_ocr_metric_alone() -> None:
    batch = Batch(MILLISECONDS)
    batch.add([status(5), ocr(NOW + 0.5)])
    assert batch.rows == [(NOW, SOURCES[0], 5, to_postgres_time(NOW) + 500, NOW + 0.5)]


@given(st.integers(FIRST_MS, END_MS - 1))
def test_sample_timestamps_are_exact(timestamp: int) -> None:
    assert to_postgres_time(timestamp) == timestamp * 1000 + UNIX_EPOCH


# --- times ----------------------------------------------------------------------------------------

HOUR = 3_600_000


@pytest.mark.parametrize(
    ("max_age", "max_lead", "timestamp", "expected"),
    [
        (None, None, NOW - 10**12, None),
        (None, None, NOW + 10**12, None),
        (timedelta(hours=1), None, NOW - HOUR, None),
        (timedelta(hours=1), None, NOW - HOUR - 1, Reason.TOO_OLD),
        (timedelta(hours=1), None, NOW + 10**12, None),
        (None, timedelta(hours=1), NOW + HOUR, None),
        (None, timedelta(hours=1), NOW + HOUR + 1, Reason.TOO_FAR_AHEAD),
        (None, timedelta(hours=1), NOW - 10**12, None),
        (timedelta(hours=1), timedelta(hours=1), 2**62, Reason.TIMESTAMP_OUT_OF_RANGE),
        (timedelta(hours=1), timedelta(hours=1), -(2**62), Reason.TIMESTAMP_OUT_OF_RANGE),
    ],
)
def test_times_beyond_the_window_are_rejected(
    max_age: timedelta | None, max_lead: timedelta | None, timestamp: int, expected: Reason | None
) -> None:
    batch = Batch(SECONDS, TimeWindow(max_age, max_lead, lambda: NOW / 1000))
    batch.add([status(0.0, timestamp, SOURCES[0]), ocr(NOW / 1000, timestamp, SOURCES[0])])
    batch.close()
    assert [one.reason for one in batch.rejected] == ([expected] * 2 if expected else [])
    assert len(batch.rows) == (expected is None)


# --- rejected pairs -------------------------------------------------------------------------------


def test_the_other_sample_of_a_rejected_one_is_rejected_in_whichever_request_it_comes() -> None:
    bad, good = status(0.5, NOW, SOURCES[0]), ocr(NOW / 1000, NOW, SOURCES[0])
    for requests in ([[bad, good]], [[good, bad]], [[bad], [good]], [[good], [bad]]):
        batch, _ = batch_of(*requests)
        batch.close()
        assert {one.metric: one.reason for one in batch.rejected} == {
            Metric.STATUS: Reason.NOT_WHOLE,
            Metric.OCR: Reason.WITH_OTHER,
        }
        assert not batch.has_halves
        assert not list(batch.broken())


def test_a_pair_whose_other_sample_is_elsewhere_is_named() -> None:
    batch, _ = batch_of([status(0.5, NOW, SOURCES[0])])
    batch.close()
    assert list(batch.broken()) == [(NOW, SOURCES[0])]


@pytest.mark.parametrize("value", [0.0, -0.0])
def test_a_status_keeps_its_sign(value: float) -> None:
    batch, _ = batch_of([status(value, NOW, SOURCES[0]), ocr(NOW / 1000, NOW, SOURCES[0])])
    ((_, _, kept, _, _),) = batch.rows
    assert bits(kept) == bits(value)
