"""New series of 1.0 that share most of their labels with others."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from receiver.protocol import label_sets, reading
from receiver.protocol.label_sets import LabelSets, LabelTexts
from receiver.protocol.limits import DEFAULTS
from receiver.protocol.series import SeriesCache
from receiver.protocol.v1 import Decoder
from tests.meanings import KEPT, check_older
from tests.messages import (
    NOW,
    encoded_timestamp,
    encoded_value,
    field,
    framed,
    label,
    sample,
    series,
    write_request,
)

STATUS = {"__name__": "app_status", "instance": "a"}
NAME = label("__name__", "app_status")
VALUE = sample(encoded_value(1.0), encoded_timestamp(NOW))


def decoder(size: int = 2**22) -> Decoder:
    return Decoder(SeriesCache(KEPT, size))


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(b"", id="none"),
        pytest.param(label("instance", "a"), id="no metric"),
        pytest.param(NAME + label("", "a"), id="no name"),
        pytest.param(NAME + label("instance", ""), id="no value"),
        pytest.param(NAME + label("a", "1") + label("a", "2"), id="a name twice"),
        pytest.param(NAME + field(1, b"\x0a\1\xff"), id="not UTF-8"),
        pytest.param(NAME + field(1, b"\x0a\5a"), id="a label that breaks off"),
        pytest.param(NAME + field(1, b"\x0a\1a\x0a\1b"), id="two names in a label"),
        pytest.param(NAME + field(1, b"\x0a\1a", size=3), id="a size of more bytes than it needs"),
        pytest.param(NAME + field(9, b"a"), id="an unknown field"),
        pytest.param(NAME + VALUE, id="another sample"),
        pytest.param(VALUE + field(1, b"\x0a\1a\x12\x14" + b"z" + VALUE), id="within a label"),
        pytest.param(field(3, b"") + NAME, id="an exemplar"),
        pytest.param(field(4, b"") + NAME, id="a histogram"),
    ],
)
def test_a_new_series_means_what_protobuf_says(labels: bytes) -> None:
    used = decoder()
    for value in (1.0, 0.0, 2.0):
        parts = [encoded_value(value)] if value else []
        unusual = labels + sample(*parts, encoded_timestamp(NOW))
        for other in ("a", "b"):
            usual = series({**STATUS, "instance": other}, (value, NOW)).SerializeToString()
            check_older(used, framed(usual, unusual, usual))


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        (b"".join(label(f"l{number}", "") for number in range(300)) + NAME, "labels"),
        (NAME + label("a", "x" * 6_000) + label("b", "x" * 2_000), "bytes"),
    ],
)
def test_a_limit_holds_for_new_series(labels: bytes, fault: str) -> None:
    limits = DEFAULTS._replace(max_label_set_size=8_000)
    used = Decoder(SeriesCache(KEPT, 2**22, limits), limits)
    usual = series(STATUS, (1.0, NOW)).SerializeToString()
    request = used.decode(framed(usual, labels + VALUE, usual))
    assert (request.received, request.faults.invalid) == (2, 1)
    assert fault in request.faults.first[0]


def test_what_ends_like_a_sample_is_part_of_a_label() -> None:
    """Two such series have the same bytes up to that end."""
    used = decoder()
    for value in ("12345678", "87654321"):
        end = f"\x12\x10\x09{value}\x10\u0080\u0800a"
        assert len(end.encode()) == len(VALUE)
        check_older(used, framed(NAME + VALUE + label("a", f"z{end}")))


def test_a_series_is_known_whether_its_value_is_left_out_or_not() -> None:
    used = decoder()
    check_older(used, write_request(series(STATUS, (1.0, NOW))))
    with patch.object(LabelSets, "_add") as parsed:
        check_older(used, write_request(series(STATUS, (0.0, NOW + 1))))
        check_older(used, write_request(series(STATUS, (1.0, NOW + 2))))
    parsed.assert_not_called()


def test_a_label_is_parsed_once() -> None:
    used = decoder()
    found: list[bytes] = []
    missing = LabelTexts.__missing__

    def parsing(self: LabelTexts, encoded: bytes) -> tuple[str, str]:
        found.append(encoded)
        return missing(self, encoded)

    with patch.object(LabelTexts, "__missing__", parsing):
        for number in range(20):
            check_older(used, write_request(series({**STATUS, "n": str(number)}, (1.0, NOW))))
    assert len(found) == 2 + 20


def test_a_series_that_comes_twice_in_a_request_is_parsed_once() -> None:
    one = series({**STATUS, "n": "1"}, (1.0, NOW))
    with patch.object(LabelSets, "_add", autospec=True, side_effect=LabelSets._add) as parsed:
        check_older(decoder(), write_request(one, one))
    parsed.assert_called_once()


def test_a_long_series_is_left_to_be_parsed_part_by_part() -> None:
    long = framed(NAME + label("a", "x" * reading.LONG) + VALUE)
    with patch.object(LabelSets, "_add", autospec=True, side_effect=LabelSets._add) as parsed:
        check_older(decoder(), long)
    parsed.assert_not_called()


def test_labels_are_remembered_in_bounded_memory() -> None:
    texts = LabelTexts()
    with patch.object(label_sets, "MAX_LABELS", 10):
        for number in range(25):
            assert texts[label("n", str(number))[2:]] == ("n", str(number))
            assert len(texts) <= 10
    size = len(texts)
    assert texts[label("n", "x" * 300)[3:]] == ("n", "x" * 300)
    assert len(texts) == size


def test_series_are_read_though_the_memory_for_them_is_small() -> None:
    used = decoder(2**12)
    message = write_request(*(series({**STATUS, "n": str(n)}, (1.0, NOW)) for n in range(200)))
    for _ in range(3):
        check_older(used, message)


def test_many_new_series_are_read_in_many_steps() -> None:
    message = write_request(*(series({**STATUS, "n": str(n)}, (1.0, NOW)) for n in range(2000)))
    with patch.object(reading, "PORTION", 1024):
        steps = sum(1 for _ in decoder().steps(message))
    assert steps >= len(message) // 1200
