"""What hypothesis draws: requests as senders encode them, and as nobody does."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from receiver.protocol.generated.remote_write_v1_pb2 import Sample, TimeSeries, WriteRequest
from tests.messages import (
    NOW,
    STALE,
    encoded_timestamp,
    encoded_value,
    field,
    framed,
    from_bits,
    series,
    varint,
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
    # The value's last bytes look like the head of a sample without a value.
    st.integers(0, 2**48 - 1).map(lambda low: from_bits(0x0712 << 48 | low)),
)

recent: SearchStrategy[int] = st.integers(NOW, NOW + 3)
timestamps: SearchStrategy[int] = st.one_of(
    recent,
    st.integers(MIN_INT64, MAX_INT64),
    # Where the varint gets one byte longer.
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
    """A valid request; some of its series come more than once."""
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


# --- encodings that mean something although no sender makes them ---------------------------------

unknown_fields: SearchStrategy[bytes] = st.one_of(
    st.builds(field, st.integers(5, 2**20), st.binary(max_size=12)),
    st.builds(
        lambda number, value, size: varint(number << 3) + varint(value, size),
        st.integers(5, 2**20),
        st.integers(0, 2**64 - 1),
        st.integers(1, 10),
    ),
)


def shuffled(parts: SearchStrategy[bytes], size: int) -> SearchStrategy[bytes]:
    """Some of the parts, in any order."""
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
def damaged_requests(draw: st.DrawFn) -> bytes:
    """A request of which a few bytes are changed, added or missing."""
    message = bytearray(draw(requests()).SerializeToString())
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(message)))
        end = draw(st.integers(start, min(len(message), start + 3)))
        message[start:end] = draw(st.binary(max_size=3))
    return bytes(message)
