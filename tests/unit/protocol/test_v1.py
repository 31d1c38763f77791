"""The fast path of the 1.0 decoder means the same as a plain parse of the whole message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import assume, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from receiver.errors import BadRequestError
from receiver.protocol import samples, v1
from receiver.protocol.generated.remote_write_v1_pb2 import Label, TimeSeries, WriteRequest
from receiver.protocol.series import SeriesCache
from receiver.protocol.v1 import Decoder
from receiver.rows.model import Faults, Labels
from tests import strategies
from tests.meanings import KEPT, STATUS_COLUMN, Meaning, meaning, read_older
from tests.messages import (
    NOW,
    STALE,
    bits,
    encoded_timestamp,
    encoded_value,
    field,
    framed,
    from_bits,
    label,
    sample,
    series,
    varint,
    write_request,
)

STATUS = {"__name__": "app_status", "instance": "a"}
UP = {"__name__": "up", "instance": "a"}
LABELS = series(STATUS).SerializeToString()
SOURCE: Labels = (("instance", "a"),)


def decoder(size: int = 2**20) -> Decoder:
    return Decoder(SeriesCache(KEPT, size))


def plain_meaning(message: bytes) -> Meaning:
    """Return the meaning of a message that protobuf can parse."""
    WriteRequest.FromString(message)
    expected = read_older(message)
    assert expected is not None
    return expected


def faults(*encoded: bytes) -> tuple[Meaning, Faults]:
    message = framed(*encoded)
    return meaning(decoder(), message), decoder().decode(message).faults


# --- the fast path changes no meaning -------------------------------------------------------------


@hypothesis_settings(max_examples=60)
@given(st.lists(strategies.requests(), min_size=1, max_size=3), st.integers(2**9, 2**14))
def test_a_request_means_what_a_plain_parse_says(requests: list[WriteRequest], size: int) -> None:
    small = decoder(size)
    for message in [request.SerializeToString() for request in requests] * 2:
        assert meaning(small, message) == plain_meaning(message)


@hypothesis_settings(max_examples=60)
@given(strategies.unusual_requests, strategies.unusual_requests)
def test_an_unusual_encoding_means_what_a_plain_parse_says(first: bytes, second: bytes) -> None:
    used = decoder()
    # A message of unknown fields alone is another message, see below.
    assume(all(WriteRequest.FromString(message).timeseries for message in (first, second)))
    for message in (first, second, first):
        assert meaning(used, message) == plain_meaning(message)


@hypothesis_settings(max_examples=60)
@given(strategies.requests(), strategies.damaged_requests())
def test_damage_is_refused_or_means_what_a_plain_parse_says(
    before: WriteRequest, message: bytes
) -> None:
    used = decoder()
    used.decode(before.SerializeToString())
    expected = read_older(message)
    for _ in range(2):
        if expected is None:
            with pytest.raises(BadRequestError):
                used.decode(message)
        else:
            assert meaning(used, message) == expected


@given(st.binary(max_size=80))
@example(b"not a protobuf message")
@example(b"\x0a\x02\x0a\xff")
def test_random_bytes_are_at_worst_a_bad_request(message: bytes) -> None:
    with suppress(BadRequestError):
        decoder().decode(message)


@pytest.mark.parametrize("message", [b"\xff", b"\x0a\x05abc", b"\x0f", b"\x00", b"\x0a"])
def test_what_is_no_message_at_all_is_a_bad_request(message: bytes) -> None:
    with pytest.raises(BadRequestError, match=r"not a prometheus\.WriteRequest"):
        decoder().decode(message)


def test_an_empty_message_means_nothing() -> None:
    assert meaning(decoder(), b"") == Meaning(Counter(), 0, 0, 0, 0, 0)


def test_known_series_are_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    message = write_request(
        series(STATUS, (0.0, NOW)),
        series(STATUS, (3.0, NOW)),
        series({**STATUS, "__name__": "ocr_value"}, (NOW / 1000, NOW)),
        series(UP, (1.0, NOW)),
    )
    used = decoder()
    expected = meaning(used, message)
    monkeypatch.setattr(v1, "TimeSeries", None)
    assert meaning(used, message) == expected == plain_meaning(message)
    assert expected.samples.total() == 3


def test_series_beyond_the_cache_are_parsed_every_time() -> None:
    message = write_request(
        *(series({**STATUS, "n": str(number)}, (1.0, NOW)) for number in range(50))
    )
    small = decoder(size=2**12)
    for _ in range(3):
        assert meaning(small, message) == plain_meaning(message)


def test_more_timestamps_than_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MAX_TIMESTAMPS", 8)
    used = decoder()
    message = write_request(*(series(STATUS, (1.0, NOW + later)) for later in range(30)))
    for _ in range(2):
        assert meaning(used, message) == plain_meaning(message)
        assert len(used._timestamps) <= 8


def test_a_sequence_that_differs_anywhere_is_read_anew() -> None:
    many = [series({**STATUS, "n": str(number)}, (1.0, NOW)) for number in range(5)]
    used = decoder()
    for place in range(1, 5):
        for value in (1.0, 0.0, 2.0):
            other = series({**STATUS, "n": f"other {place}"}, (value, NOW))
            for content in (many, [*many[:place], other, *many[place + 1 :]], many[:place]):
                message = write_request(*content)
                for _ in range(2):
                    assert meaning(used, message) == plain_meaning(message)


# --- encodings that no common sender makes --------------------------------------------------------

STAMP = encoded_timestamp(NOW)
NINE = from_bits(0x0712 << 48 | 0x0102_0304_0506)
NAME = field(1, b"__name__")
VALUE = field(2, b"app_status")
INSTANCE = label("instance", "a")


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        pytest.param(sample(encoded_value(7), STAMP) + LABELS, [(7.0, NOW)], id="samples first"),
        pytest.param(
            label("__name__", "app_status") + sample(encoded_value(7), STAMP) + INSTANCE,
            [(7.0, NOW)],
            id="labels around the sample",
        ),
        pytest.param(LABELS + field(9, b"x") + sample(STAMP), [(0.0, NOW)], id="unknown field"),
        pytest.param(LABELS + sample(STAMP) + field(9, b"x"), [(0.0, NOW)], id="unknown at end"),
        pytest.param(
            LABELS + sample(STAMP, field(3, b"xyz")), [(0.0, NOW)], id="unknown in the sample"
        ),
        pytest.param(
            LABELS + sample(STAMP, varint(3 << 3) + b"\1"), [(0.0, NOW)], id="unknown varint"
        ),
        pytest.param(LABELS + sample(encoded_value(0.0), STAMP), [(0.0, NOW)], id="explicit zero"),
        pytest.param(
            LABELS + sample(encoded_value(-0.0), STAMP), [(-0.0, NOW)], id="negative zero"
        ),
        pytest.param(LABELS + sample(STAMP, encoded_value(7)), [(7.0, NOW)], id="timestamp first"),
        pytest.param(LABELS + sample(encoded_value(7)), [(7.0, 0)], id="no timestamp"),
        pytest.param(LABELS + sample(), [(0.0, 0)], id="empty sample"),
        pytest.param(LABELS, [], id="no sample"),
        pytest.param(
            LABELS + sample(encoded_value(1), encoded_value(2), STAMP),
            [(2.0, NOW)],
            id="the last of two values",
        ),
        pytest.param(
            LABELS + sample(b"\x10\x05\x10\x06\x10\x85\x01"),
            [(0.0, 133)],
            id="timestamps in the place of one",
        ),
        pytest.param(
            LABELS + sample(encoded_value(7), b"\x10\x05\x10\x06\x10\x85\x01"),
            [(7.0, 133)],
            id="timestamps in the place of one, after a value",
        ),
        pytest.param(
            LABELS + sample(varint(3 << 3) + varint(NOW)),
            [(0.0, 0)],
            id="another number in the place of the timestamp",
        ),
        pytest.param(
            LABELS + sample(encoded_value(7), varint(3 << 3) + varint(NOW)),
            [(7.0, 0)],
            id="another number in the place of the timestamp, after a value",
        ),
        pytest.param(
            LABELS + sample(b"\x19" + b"7" * 8, STAMP),
            [(0.0, NOW)],
            id="another number in the place of the value",
        ),
        pytest.param(
            LABELS + sample(encoded_value(NINE), STAMP),
            [(NINE, NOW)],
            id="a value that ends like the head of a sample",
        ),
        pytest.param(
            LABELS + sample(STAMP) + sample(encoded_value(7), STAMP),
            [(0.0, NOW), (7.0, NOW)],
            id="two samples",
        ),
        pytest.param(
            field(1, VALUE + NAME) + INSTANCE + sample(STAMP), [(0.0, NOW)], id="value before name"
        ),
        pytest.param(
            INSTANCE + label("__name__", "app_status") + sample(STAMP),
            [(0.0, NOW)],
            id="labels not in order",
        ),
        pytest.param(
            LABELS + label("empty", "") + sample(STAMP), [(0.0, NOW)], id="a label without value"
        ),
        pytest.param(
            field(1, NAME + VALUE, size=4) + INSTANCE + field(2, STAMP, size=5),
            [(0.0, NOW)],
            id="overlong lengths",
        ),
        pytest.param(
            field(1, NAME + field(9, b"?") + VALUE) + INSTANCE + sample(STAMP),
            [(0.0, NOW)],
            id="unknown field in a label",
        ),
    ],
)
def test_an_unusual_encoding(encoded: bytes, expected: Sequence[tuple[float, int]]) -> None:
    usual = [
        write_request(series(STATUS, (1.0, NOW))),
        write_request(series(STATUS, (0.0, NOW))),
    ]
    used = decoder()
    for message in (framed(encoded), *usual, framed(encoded, encoded), framed(encoded)):
        assert meaning(used, message) == plain_meaning(message)
    samples = meaning(used, framed(encoded)).samples
    assert samples == Counter(
        (STATUS_COLUMN, SOURCE, timestamp, bits(value)) for value, timestamp in expected
    )


@pytest.mark.parametrize("size", range(1, 11))
@pytest.mark.parametrize("value", [b"", encoded_value(7)], ids=["zero", "seven"])
def test_timestamps_of_any_size(size: int, value: bytes) -> None:
    used = decoder()
    smallest = 0 if size == 1 else 2 ** (7 * (size - 1))
    numbers = [smallest, min(2 ** (7 * size), 2**64) - 1, 5]
    for number in numbers:
        message = framed(LABELS + sample(value, encoded_timestamp(number, size)))
        expected = number - 2**64 if number >= 2**63 else number
        for _ in range(2):
            ((_, _, timestamp, _),) = meaning(used, message).samples
            assert timestamp == expected


@pytest.mark.parametrize("before", ["", "x" * 9])
@pytest.mark.parametrize("text", strategies.SAMPLES_IN_TEXT)
def test_labels_that_end_like_a_sample(before: str, text: str) -> None:
    used = decoder()
    for value in (before, before + text, before, before + text):
        labels = {"__name__": "app_status", "z": value}
        for points in ([], [(0.0, NOW)], [(1.0, NOW)]):
            message = write_request(series(labels, *points))
            assert meaning(used, message) == plain_meaning(message)


@pytest.mark.parametrize("text", strategies.SAMPLES_IN_TEXT)
def test_a_known_series_is_not_mistaken_for_the_start_of_another(text: str) -> None:
    filler = field(9, b"x" * (len(text.encode()) - 2))
    labels = series({"__name__": "app_status", "z": text}).SerializeToString()
    used = decoder()
    first = framed(
        filler
        + series({"__name__": "app_status", "z": "y" * len(text.encode())}).SerializeToString()
    )
    for message in (first, framed(filler + labels), framed(labels), first, framed(filler + labels)):
        assert meaning(used, message) == plain_meaning(message)


@pytest.mark.parametrize(
    "value", [STALE, from_bits(0x7FF8000000000001), from_bits(0xFFF0000000000001), -0.0, 5e-324]
)
def test_every_bit_of_a_value_survives(value: float) -> None:
    used = decoder()
    for _ in range(2):
        ((_, _, decoded),) = used.decode(write_request(series(STATUS, (value, NOW)))).samples
        assert bits(decoded) == bits(value)


def test_samples_of_one_label_set_share_their_source() -> None:
    used = decoder()
    message = write_request(
        series(STATUS, (1.0, NOW)), series({**STATUS, "__name__": "ocr_value"}, (1.0, NOW))
    )
    decoded = [used.decode(message).samples for _ in range(2)]
    first, *others = [kept.source for samples in decoded for kept, _, _ in samples]
    assert len(others) == 3
    assert all(source is first for source in others)


def test_what_is_not_a_sample_is_counted() -> None:
    message = WriteRequest(
        metadata=[b"any", b"thing"],
        timeseries=[TimeSeries(labels=series(UP).labels, histograms=[b"", b""], exemplars=[b""])],
    ).SerializeToString()
    assert meaning(decoder(), message) == Meaning(Counter(), 0, 2, 1, 0, 1)


# --- invalid series among valid ones --------------------------------------------------------------

VALID = series(STATUS, (1.0, NOW)).SerializeToString()


def repeated(name: str) -> bytes:
    labels = [*series(STATUS).labels, Label(name=name, value="x"), Label(name=name, value="y")]
    return TimeSeries(labels=labels).SerializeToString()


@pytest.mark.parametrize(
    ("invalid", "fault"),
    [
        pytest.param(b"", "the label __name__ is missing", id="nothing"),
        pytest.param(
            series({"job": "x"}, (1.0, NOW)).SerializeToString(),
            "the label __name__ is missing",
            id="no metric name",
        ),
        pytest.param(
            series({"__name__": "", "job": "x"}).SerializeToString(),
            "the label __name__ is missing",
            id="empty metric name",
        ),
        pytest.param(
            series({**STATUS, "": "x"}).SerializeToString(),
            "a label has no name (its value is 'x')",
            id="empty label name",
        ),
        pytest.param(repeated("b"), "the label 'b' occurs more than once", id="repeated label"),
        pytest.param(
            repeated("__name__"), "the label '__name__' occurs more than once", id="two names"
        ),
        pytest.param(
            LABELS + field(1, field(1, b"b") + field(2, b"\xff")),
            "Error parsing message",
            id="invalid UTF-8 in a value",
        ),
        pytest.param(
            LABELS + field(1, field(1, b"\xc3") + field(2, b"b")),
            "Error parsing message",
            id="invalid UTF-8 in a name",
        ),
        pytest.param(
            LABELS + field(1, field(1, b"b") + field(2, b"\xed\xa0\x80")),
            "Error parsing message",
            id="surrogate",
        ),
        pytest.param(VALID[:-1], "Error parsing message", id="truncated sample"),
        pytest.param(LABELS[:-1], "Error parsing message", id="truncated label"),
        pytest.param(LABELS + varint(2**64 - 1), "Error parsing message", id="invalid tag"),
    ],
)
def test_an_invalid_series_leaves_the_others(invalid: bytes, fault: str) -> None:
    used = decoder()
    message = framed(VALID, invalid, VALID)
    for _ in range(2):
        found = meaning(used, message)
        assert found.samples == {(STATUS_COLUMN, SOURCE, NOW, bits(1.0)): 2}
        assert found.received == 2
        invalid_count, total, (sentence,) = used.decode(message).faults
        assert (invalid_count, total) == (1, 3)
        assert sentence.startswith("series 1 {")
        assert fault in sentence


def test_a_fault_shows_the_labels() -> None:
    _, found = faults(series({"job": "x", "instance": "a"}).SerializeToString())
    assert found.first == ["series 0 {instance='a', job='x'}: the label __name__ is missing"]


def test_a_fault_is_short_however_long_the_labels_are() -> None:
    _, found = faults(series({"job": "x" * 10_000}).SerializeToString())
    assert len(found.first[0]) < 300


def test_every_fault_is_counted_but_only_the_first_are_named() -> None:
    encoded = [VALID if index % 2 else b"" for index in range(100)]
    decoded, found = faults(*encoded)
    assert (found.invalid, found.total) == (50, 100)
    assert [sentence.partition(" {")[0] for sentence in found.first] == [
        "series 0",
        "series 2",
        "series 4",
    ]
    assert decoded.samples.total() == 50


def test_an_invalid_series_counts_nothing_of_what_it_holds() -> None:
    invalid = TimeSeries(
        samples=series({}, (1.0, NOW)).samples, histograms=[b""], exemplars=[b""]
    ).SerializeToString()
    decoded, _ = faults(invalid)
    assert decoded == Meaning(Counter(), 0, 0, 0, 1, 1)
