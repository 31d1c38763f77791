"""Hypothesis strategies: requests as senders encode them, and in unusual valid encodings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from receiver.protocol.generated import remote_write_v2_pb2 as v2
from receiver.protocol.generated.remote_write_v1_pb2 import Sample, TimeSeries, WriteRequest
from tests.messages import (
    NOW,
    STALE,
    Request2,
    encoded_timestamp,
    encoded_value,
    field,
    framed,
    from_bits,
    series,
    varint,
    with_created,
    with_start,
)

NAMES: Final = ("app_status", "ocr_value", "up")
MIN_INT64: Final = -(2**63)
MAX_INT64: Final = 2**63 - 1

MANTISSA: Final = 2**52 - 1
SPECIAL: Final = (0.0, -0.0, 5e-324, float("inf"), float("-inf"), float("nan"), STALE)

# In UTF-8 these are a sample, without and with a value; its timestamp is a varint of six bytes.
SAMPLES_IN_TEXT: Final = ("\x12\x07\x10é€a", "\x12\x10\x09" + "a" * 8 + "\x10é€a")

nans: SearchStrategy[float] = st.builds(
    lambda sign, payload: from_bits(sign << 63 | 0x7FF << 52 | payload),
    st.integers(0, 1),
    st.integers(1, MANTISSA),
)
values: SearchStrategy[float] = st.one_of(
    st.sampled_from(SPECIAL),
    nans,
    st.integers(-(2**33), 2**33).map(float),
    st.integers(0, 2**64 - 1).map(from_bits),
    # The last bytes of the value look like the start of a sample without a value.
    st.integers(0, 2**48 - 1).map(lambda low: from_bits(0x0712 << 48 | low)),
)

recent: SearchStrategy[int] = st.integers(NOW, NOW + 3)
timestamps: SearchStrategy[int] = st.one_of(
    recent,
    st.integers(MIN_INT64, MAX_INT64),
    # Where the varint becomes one byte longer.
    st.builds(lambda size, step: 2 ** (7 * size) + step, st.integers(0, 8), st.integers(-1, 1)),
)
samples: SearchStrategy[Sample] = st.builds(Sample, value=values, timestamp=timestamps)

texts: SearchStrategy[str] = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        ["", "\0", "a\0b", "값", "\N{GRINNING FACE}", "é", "e\N{COMBINING ACUTE ACCENT}"]
    ),
    st.sampled_from(SAMPLES_IN_TEXT),
)
label_sets: SearchStrategy[dict[str, str]] = st.builds(
    lambda name, others: {**others, "__name__": name},
    st.sampled_from(NAMES),
    st.dictionaries(texts.filter(bool), texts, max_size=3),
)


@st.composite
def requests(draw: st.DrawFn) -> WriteRequest:
    """Draw a valid request, in which some series may occur more than once."""
    pool = draw(st.lists(label_sets, min_size=1, max_size=4))
    request = WriteRequest(metadata=draw(st.lists(st.binary(max_size=4), max_size=2)))
    for labels in draw(st.lists(st.sampled_from(pool), max_size=8)):
        one = series(labels)
        if draw(st.booleans()):
            one.samples.add(value=draw(values), timestamp=draw(recent))
        else:
            one.samples.extend(draw(st.lists(samples, max_size=3)))
            one.exemplars.extend(draw(st.lists(st.binary(max_size=4), max_size=2)))
            one.histograms.extend(draw(st.lists(st.binary(max_size=4), max_size=2)))
        request.timeseries.append(one)
    return request


# --- valid encodings that no sender produces -----------------------------------------------------


def unknown(first: int) -> SearchStrategy[bytes]:
    """Return a strategy of fields with this number or a higher one."""
    return st.one_of(
        st.builds(field, st.integers(first, 2**20), st.binary(max_size=12)),
        st.builds(
            lambda number, value, size: varint(number << 3) + varint(value, size),
            st.integers(first, 2**20),
            st.integers(0, 2**64 - 1),
            st.integers(1, 10),
        ),
    )


unknown_fields: SearchStrategy[bytes] = unknown(5)


def shuffled(parts: SearchStrategy[bytes], size: int) -> SearchStrategy[bytes]:
    """Return a strategy that joins some of the parts in any order."""
    return st.lists(parts, max_size=size).map(b"".join)


encoded_samples: SearchStrategy[bytes] = st.builds(
    field,
    st.just(2),
    shuffled(
        st.one_of(
            values.map(encoded_value),
            st.builds(encoded_timestamp, timestamps, st.integers(0, 10)),
            st.builds(encoded_timestamp, recent, st.just(0)),
            unknown_fields,
        ),
        size=4,
    ),
    size=st.integers(0, 3),
)
encoded_labels: SearchStrategy[bytes] = st.builds(
    field,
    st.just(1),
    shuffled(
        st.one_of(
            texts.map(lambda name: field(1, name.encode())),
            st.just(field(1, b"__name__") + field(2, b"app_status")),
            texts.map(lambda value: field(2, value.encode())),
            unknown_fields,
        ),
        size=3,
    ),
    size=st.integers(0, 3),
)
canonical_parts: SearchStrategy[bytes] = st.one_of(
    label_sets.map(lambda labels: series(labels).SerializeToString()),
    st.builds(lambda sample: TimeSeries(samples=[sample]).SerializeToString(), samples),
)
encoded_series: SearchStrategy[bytes] = shuffled(
    st.one_of(canonical_parts, encoded_samples, encoded_labels, unknown_fields), size=4
)


unusual_requests: SearchStrategy[bytes] = st.builds(
    lambda content, more: framed(*content) + more,
    st.lists(encoded_series, max_size=4),
    st.one_of(st.just(b""), unknown_fields),
)


@st.composite
def damaged(draw: st.DrawFn, originals: SearchStrategy[bytes]) -> bytes:
    """Draw bytes of which a few are changed, added or missing."""
    message = bytearray(draw(originals))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(message)))
        end = draw(st.integers(start, min(len(message), start + 3)))
        message[start:end] = draw(st.binary(max_size=3))
    return bytes(message)


def damaged_requests() -> SearchStrategy[bytes]:
    """Return a strategy of requests of which a few bytes are changed, added or missing."""
    return damaged(requests().map(WriteRequest.SerializeToString))


# --- Remote-Write 2.0 -----------------------------------------------------------------------------


@st.composite
def spans(draw: st.DrawFn, buckets: int) -> list[v2.BucketSpan]:
    """Draw spans that cover this many buckets; some spans are empty."""
    found: list[v2.BucketSpan] = []
    while buckets:
        length = draw(st.integers(0, buckets))
        found.append(v2.BucketSpan(offset=draw(st.integers(-9, 9)), length=length))
        buckets -= length
    return found


def deltas(counts: Sequence[int]) -> list[int]:
    """Return the difference of each bucket's count to the previous one."""
    return [count - before for before, count in zip([0, *counts], counts, strict=False)]


@st.composite
def integer_histograms(draw: st.DrawFn) -> v2.Histogram:
    """Draw a histogram of integer counts that add up; with a NaN sum, some may be in no bucket."""
    counts = st.lists(st.integers(0, 2**40), max_size=4)
    positive, negative = draw(counts), draw(counts)
    zero = draw(st.integers(0, 9))
    total = draw(st.sampled_from([1.0, float("inf"), float("nan")]))
    beyond = draw(st.integers(0, 2)) if total != total else 0  # noqa: PLR0124  only a NaN is not itself
    return v2.Histogram(
        count_int=zero + sum(positive) + sum(negative) + beyond,
        sum=total,
        zero_count_int=zero,
        positive_spans=draw(spans(len(positive))),
        positive_deltas=deltas(positive),
        negative_spans=draw(spans(len(negative))),
        negative_deltas=deltas(negative),
    )


@st.composite
def float_histograms(draw: st.DrawFn) -> v2.Histogram:
    """Draw a histogram of float counts; its count need not be their sum."""
    counts = st.lists(st.floats(min_value=0), max_size=4)
    positive, negative = draw(counts), draw(counts)
    return v2.Histogram(
        count_float=draw(st.floats(min_value=0)),
        sum=draw(st.floats()),
        zero_count_float=draw(st.floats(min_value=0)),
        positive_spans=draw(spans(len(positive))),
        positive_counts=positive,
        negative_spans=draw(spans(len(negative))),
        negative_counts=negative,
    )


histograms: SearchStrategy[v2.Histogram] = st.one_of(
    st.just(v2.Histogram()), integer_histograms(), float_histograms()
)


@st.composite
def samples2(draw: st.DrawFn) -> v2.Sample:
    """Draw a sample, with or without a start timestamp."""
    sample = v2.Sample(value=draw(values), timestamp=draw(st.one_of(recent, timestamps)))
    return with_start(sample, draw(timestamps)) if draw(st.booleans()) else sample


@st.composite
def series2(draw: st.DrawFn, request: Request2, labels: dict[str, str]) -> v2.TimeSeries:
    """Draw a valid series of the request with these labels, in any order."""
    one = v2.TimeSeries(labels_refs=request.refs(draw(st.permutations(list(labels.items())))))
    if draw(st.booleans()):
        one.histograms.extend(draw(st.lists(histograms, max_size=2)))
    else:
        one.samples.extend(draw(st.lists(samples2(), max_size=3)))
    for extra in draw(st.lists(st.dictionaries(texts, texts, max_size=2), max_size=2)):
        one.exemplars.add(
            labels_refs=request.refs(extra.items()), value=draw(values), timestamp=draw(timestamps)
        )
    if draw(st.booleans()):
        one.metadata.type = draw(st.integers(0, 9))
        one.metadata.help_ref = request.ref(draw(texts))
        one.metadata.unit_ref = request.ref(draw(texts))
    return with_created(one, draw(timestamps)) if draw(st.booleans()) else one


@st.composite
def requests2(draw: st.DrawFn) -> v2.Request:
    """Draw a valid request; its symbol table may hold duplicate or unused strings."""
    pool = draw(st.lists(label_sets, min_size=1, max_size=4))
    request = Request2(["", *draw(st.lists(texts, max_size=3))])
    for labels in draw(st.lists(st.sampled_from(pool), max_size=6)):
        request.message.timeseries.append(draw(series2(request, labels)))
    return request.message


@st.composite
def faulty_requests2(draw: st.DrawFn) -> v2.Request:
    """Draw a request in which the first few references of some series are arbitrary."""
    message = draw(requests2())
    count = len(message.symbols)
    beyond = st.one_of(st.integers(0, count - 1), st.integers(count, count + 1))
    for one in message.timeseries:
        one.labels_refs.extend(draw(st.lists(beyond, max_size=2)))
        if len(one.exemplars) and draw(st.booleans()):
            one.exemplars[0].labels_refs.extend(draw(st.lists(beyond, max_size=2)))
        if len(one.histograms) and draw(st.booleans()):
            one.histograms[0].count_int = draw(st.integers(0, 3))
            one.histograms[0].positive_deltas.extend(draw(st.lists(st.integers(-2, 2), max_size=2)))
        if draw(st.integers(0, 5)) == 0:
            one.metadata.unit_ref = draw(beyond)
    return message


# --- valid 2.0 encodings that no sender produces --------------------------------------------------

SYMBOLS: Final = ("", "__name__", "app_status", "ocr_value", "up", "instance", "a", "b")
USUAL_REFS: Final = ((1, 2), (1, 2, 5, 6), (1, 3, 5, 6), (1, 4, 5, 7))

unknown_fields2: SearchStrategy[bytes] = unknown(6)

some_refs: SearchStrategy[Sequence[int]] = st.one_of(
    st.sampled_from(USUAL_REFS),
    st.permutations(USUAL_REFS[1]),
    st.lists(st.integers(0, len(SYMBOLS)), max_size=5),
)


def packed(refs: Sequence[int], size: int = 0) -> bytes:
    """Encode label references as one packed field; `size` is the size of the length's varint."""
    return field(1, b"".join(map(varint, refs)), size=size)


encoded_refs: SearchStrategy[bytes] = st.one_of(
    st.builds(packed, some_refs, st.integers(0, 3)),
    some_refs.map(lambda refs: b"".join(varint(1 << 3) + varint(ref) for ref in refs)),
)
encoded_metadata: SearchStrategy[bytes] = st.builds(
    field,
    st.just(5),
    shuffled(
        st.one_of(
            st.integers(0, 9).map(lambda kind: varint(1 << 3) + varint(kind)),
            st.integers(0, 9).map(lambda ref: varint(3 << 3) + varint(ref)),
            st.integers(0, 9).map(lambda ref: varint(4 << 3) + varint(ref)),
            unknown_fields2,
        ),
        size=3,
    ),
)
encoded_exemplars: SearchStrategy[bytes] = st.builds(field, st.just(4), encoded_refs)
encoded_histograms: SearchStrategy[bytes] = histograms.map(
    lambda histogram: field(3, histogram.SerializeToString())
)
usual_series2: SearchStrategy[bytes] = st.builds(
    lambda refs, sample, metadata: packed(refs) + field(2, sample.SerializeToString()) + metadata,
    st.sampled_from(USUAL_REFS),
    st.builds(v2.Sample, value=values, timestamp=recent),
    st.one_of(st.just(b""), encoded_metadata),
)
encoded_series2: SearchStrategy[bytes] = st.one_of(
    usual_series2,
    shuffled(
        st.one_of(
            usual_series2,
            encoded_refs,
            encoded_samples,
            encoded_metadata,
            encoded_exemplars,
            encoded_histograms,
            unknown_fields2,
        ),
        size=4,
    ),
)


def usual_symbols(count: int) -> bytes:
    """Encode the first `count` symbols as fields of a request."""
    return b"".join(field(4, symbol.encode()) for symbol in SYMBOLS[:count])


some_symbols: SearchStrategy[bytes] = st.one_of(
    st.just(usual_symbols(len(SYMBOLS))),
    st.integers(1, len(SYMBOLS)).map(usual_symbols),
    st.permutations(SYMBOLS[1:]).map(
        lambda others: b"".join(field(4, symbol.encode()) for symbol in ("", *others))
    ),
)
unusual_requests2: SearchStrategy[bytes] = st.builds(
    lambda symbols, content, more: symbols + b"".join(content) + more,
    some_symbols,
    st.lists(
        st.one_of(encoded_series2.map(lambda one: field(5, one)), unknown_fields2), max_size=4
    ),
    st.one_of(st.just(b""), unknown_fields2, st.just(field(4, b"b"))),
)
