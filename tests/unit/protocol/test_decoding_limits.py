"""The content and cost of a request are limited in either version; errors name the limit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import chain, pairwise
from unittest.mock import patch

import pytest

from receiver.config.settings import Settings
from receiver.errors import BadRequestError, TooLargeError
from receiver.protocol import reading, v1, v2
from receiver.protocol.limits import DEFAULTS, INVALID, Limits
from receiver.protocol.series import SeriesCache
from tests import costly
from tests.fuzz.differential import small_parts
from tests.meanings import KEPT, meaning
from tests.messages import NOW, Request2, field, label, sample, series, write_request

STATUS = {"__name__": "app_status", "instance": "a"}
UP = {"__name__": "up", "instance": "a"}

Point = tuple[float, int]
Content = list[tuple[dict[str, str], list[Point]]]

Decoder = v1.Decoder | v2.Decoder


@pytest.fixture(autouse=True, scope="module")
def few(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check series of 2.0 in bulk from this number of series in a request on."""
    with patch.object(v2, "FEW", getattr(request, "param", v2.FEW)):
        yield


def older(content: Content) -> bytes:
    return write_request(*(series(labels, *points) for labels, points in content))


def newer(content: Content) -> bytes:
    request = Request2()
    for labels, points in content:
        request.add(labels, *points)
    return request.encoded()


Build = Callable[[Content], bytes]
Make = Callable[[SeriesCache, Limits], Decoder]

versions = pytest.mark.parametrize(
    ("build", "make", "few"),
    [(older, v1.Decoder, v2.FEW), (newer, v2.Decoder, v2.FEW), (newer, v2.Decoder, 1)],
    ids=["1.0", "2.0", "2.0 at once"],
    indirect=["few"],
)
only_newer = pytest.mark.parametrize("few", [v2.FEW, 1], ids=["usual", "at once"], indirect=True)
parts = pytest.mark.parametrize("in_parts", [False, True], ids=["whole", "in parts"])


def decode(make: Make, message: bytes, *, in_parts: bool = False, **limits: int) -> list[str]:
    """Decode twice with these limits; return the errors reported for the series."""
    found = Limits(**limits)
    decoder = make(SeriesCache(KEPT, 2**20, found), found)
    faults = []
    for _ in range(3):
        if in_parts:
            with small_parts(decoder):
                faults.append(decoder.decode(message).faults)
        else:
            faults.append(decoder.decode(message).faults)
    assert faults[0] == faults[1] == faults[2]
    return faults[0].first


def points(count: int) -> list[Point]:
    return [(1.0, NOW + later) for later in range(count)]


# --- limits of a request --------------------------------------------------------------------------


@parts
@versions
def test_a_request_has_at_most_so_many_series(build: Build, make: Make, in_parts: bool) -> None:
    message = build([({**UP, "n": str(number)}, points(1)) for number in range(20)])
    decode(make, message, in_parts=in_parts, max_request_series=20)
    with pytest.raises(TooLargeError) as refusal:
        decode(make, message, in_parts=in_parts, max_request_series=19)
    assert "series or more, the limit is 19 (RECEIVER_MAX_REQUEST_SERIES); send fewer" in str(
        refusal.value
    )


@parts
def test_metadata_entries_count_as_series(in_parts: bool) -> None:
    message = field(1, label("__name__", "up")) + field(3, b"x") * 19
    decode(v1.Decoder, message, in_parts=in_parts, max_request_series=20)
    with pytest.raises(TooLargeError, match="RECEIVER_MAX_REQUEST_SERIES"):
        decode(v1.Decoder, message, in_parts=in_parts, max_request_series=19)


@parts
@pytest.mark.parametrize("each", [1, 4, 20])
@versions
def test_a_request_has_at_most_so_many_samples(
    build: Build, make: Make, each: int, in_parts: bool
) -> None:
    message = build([({**UP, "n": str(n)}, points(each)) for n in range(20 // each)])
    decode(make, message, in_parts=in_parts, max_request_samples=20)
    with pytest.raises(TooLargeError) as refusal:
        decode(make, message, in_parts=in_parts, max_request_samples=19)
    assert "or more, the limit is 19 (RECEIVER_MAX_REQUEST_SAMPLES); send fewer" in str(
        refusal.value
    )


def test_known_series_have_the_same_limit() -> None:
    cache = SeriesCache(KEPT, 2**20)
    message = older([({**UP, "n": str(number)}, points(1)) for number in range(20)])
    v1.Decoder(cache).decode(message)
    with pytest.raises(TooLargeError, match="RECEIVER_MAX_REQUEST_SAMPLES"):
        v1.Decoder(cache, Limits(max_request_samples=19)).decode(message)


@parts
@pytest.mark.parametrize("field_of_series", ["exemplars", "histograms"])
@only_newer
def test_histograms_and_exemplars_count_as_samples(field_of_series: str, in_parts: bool) -> None:
    request = Request2()
    one = request.add(UP)
    for _ in range(20):
        getattr(one, field_of_series).add()
    decode(v2.Decoder, request.encoded(), in_parts=in_parts, max_request_samples=20)
    with pytest.raises(TooLargeError, match="RECEIVER_MAX_REQUEST_SAMPLES"):
        decode(v2.Decoder, request.encoded(), in_parts=in_parts, max_request_samples=19)


@only_newer
def test_a_histogram_of_many_spans_counts_as_several() -> None:
    request = Request2()
    histogram = request.add(UP).histograms.add()
    histogram.positive_spans.extend([histogram.positive_spans.add()] * (16 * 9 - 1))
    decode(v2.Decoder, request.encoded(), max_request_samples=10)
    with pytest.raises(TooLargeError, match="RECEIVER_MAX_REQUEST_SAMPLES"):
        decode(v2.Decoder, request.encoded(), max_request_samples=8)


@parts
@versions
def test_the_samples_of_a_request_take_at_most_so_much(
    build: Build, make: Make, in_parts: bool
) -> None:
    message = build([(STATUS, points(100)), (UP, points(100))])
    decode(make, message, in_parts=in_parts, max_decoded_size=20_000)
    with pytest.raises(TooLargeError) as refusal:
        decode(make, message, in_parts=in_parts, max_decoded_size=10_000)
    assert "or more, the limit is 10000 (RECEIVER_MAX_DECODED_SIZE)" in str(refusal.value)
    decode(make, build([(UP, points(200))]), in_parts=in_parts, max_decoded_size=10_000)


@versions
def test_new_label_sets_take_at_most_so_much(build: Build, make: Make) -> None:
    message = build([({**STATUS, "n": str(n) + "x" * 900}, points(1)) for n in range(10)])
    decode(make, message, max_decoded_size=40_000)
    with pytest.raises(TooLargeError, match="RECEIVER_MAX_DECODED_SIZE"):
        decode(make, message, max_decoded_size=9_000)


@only_newer
def test_label_sets_that_share_their_symbols_count_each() -> None:
    """Each label set is written out when it is stored."""
    shared = {f"shared {number}": "x" * 90 for number in range(10)}
    message = newer([({**STATUS, **shared, "n": str(n)}, points(1)) for n in range(100)])
    assert len(message) < 10_000
    with pytest.raises(TooLargeError, match="RECEIVER_MAX_DECODED_SIZE"):
        decode(v2.Decoder, message, max_decoded_size=100_000)


@parts
@only_newer
def test_symbols_take_at_most_so_much(in_parts: bool) -> None:
    request = Request2(["", *map(str, range(1000))])
    request.add(UP, (1.0, NOW))
    decode(v2.Decoder, request.encoded(), in_parts=in_parts, max_decoded_size=100_000)
    with pytest.raises(TooLargeError, match="RECEIVER_MAX_DECODED_SIZE"):
        decode(v2.Decoder, request.encoded(), in_parts=in_parts, max_decoded_size=50_000)


@parts
@versions
def test_a_request_has_at_most_so_many_invalid_series(
    build: Build, make: Make, in_parts: bool
) -> None:
    """Each takes as long to read as many samples, even if it is two bytes."""
    most = DEFAULTS.max_request_samples // INVALID
    assert most > 10_000  # as many as senders send at once
    empty = b"\x0a\x00" if build is older else b"\x2a\x00"
    message = build([(UP, points(1))]) + empty * most
    found = meaning(make(SeriesCache(KEPT, 2**20), DEFAULTS), message)
    assert (found.received, found.invalid, found.total) == (1, most, most + 1)
    faults = decode(make, message, in_parts=in_parts, max_request_samples=10)
    assert faults[0] == "series 1 {}: the label __name__ is missing"
    with pytest.raises(TooLargeError) as refusal:
        decode(make, message + empty, in_parts=in_parts)
    assert str(refusal.value) == (
        f"the request has {most + 1} invalid series or more, the limit is {most}; send fewer "
        "samples per request; series 1 {}: the label __name__ is missing"
    )
    decode(make, message + empty, in_parts=in_parts, max_request_samples=300_000)


# --- limits of a series ---------------------------------------------------------------------------


@parts
@pytest.mark.parametrize("name", ["app_status", "up"])
@versions
def test_a_series_has_at_most_so_many_labels(
    build: Build, make: Make, name: str, in_parts: bool
) -> None:
    many = {"__name__": name, **{f"label {number:02}": "x" for number in range(19)}}
    message = build([(UP, points(1)), (many, points(1)), (STATUS, points(1))])
    assert decode(make, message, in_parts=in_parts, max_series_labels=20) == []
    (fault,) = decode(make, message, in_parts=in_parts, max_series_labels=19)
    assert fault.startswith(f"series 1 {{__name__={name!r}, label 00='x'")
    assert fault.endswith("or more, the limit is 19 (RECEIVER_MAX_SERIES_LABELS)")


@pytest.mark.parametrize("name", ["app_status", "up"])
@versions
def test_a_label_set_has_at_most_so_many_bytes(build: Build, make: Make, name: str) -> None:
    large = {"__name__": name, "path": "값" * 100}
    size = sum(len(text.encode()) for text in chain(*large.items()))
    message = build([(UP, points(1)), (large, points(1)), (STATUS, points(1))])
    assert decode(make, message, max_label_set_size=size) == []
    (fault,) = decode(make, message, max_label_set_size=size - 1)
    assert fault.startswith(f"series 1 {{__name__={name!r}, path='값값")
    assert fault.endswith("(RECEIVER_MAX_LABEL_SET_SIZE); the longest is 'path'")
    assert f"the limit is {size - 1} " in fault


@parts
@pytest.mark.parametrize("size", [40_000, 400_000, 5_000_000])
@pytest.mark.parametrize("text", ["x", "\N{GRINNING FACE}"])
@versions
def test_a_label_of_any_size_is_refused_and_its_neighbours_are_read(
    build: Build, make: Make, text: str, size: int, in_parts: bool
) -> None:
    large = {**STATUS, "z": text * (size // len(text.encode()))}
    message = build([(UP, points(1)), (large, points(1)), (STATUS, points(1))])
    (fault,) = decode(make, message, in_parts=in_parts)
    assert fault.startswith("series 1 {__name__='app_status', instance='a'")
    assert "the limit is 32768 (RECEIVER_MAX_LABEL_SET_SIZE)" in fault
    assert len(fault) < 600
    found = meaning(make(SeriesCache(KEPT, 2**20), DEFAULTS), message)
    assert (found.samples.total(), found.received, found.invalid, found.total) == (1, 2, 1, 3)


@only_newer
def test_a_symbol_that_breaks_off_within_a_character_is_refused() -> None:
    message = costly.SYMBOLS + field(4, b"x" * 5_000_000 + b"\xf0\x9f")
    with pytest.raises(BadRequestError, match="not UTF-8"):
        decode(v2.Decoder, message)


@only_newer
def test_a_long_symbol_counts_only_where_a_label_has_it() -> None:
    request = Request2()
    metadata = request.add(STATUS, (1.0, NOW)).metadata
    metadata.help_ref = request.ref("x" * 5_000_000)
    assert decode(v2.Decoder, request.encoded()) == []


@only_newer
def test_a_symbol_expands_in_no_label_set() -> None:
    symbols = costly.SYMBOLS + field(4, b"x" * 20_000)
    message = symbols + field(5, field(1, bytes([1, 2, *[5] * 200])) + costly.ONE) * 2
    assert len(decode(v2.Decoder, message)) == 2


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(field(4, bytes(70_000)), id="histogram"),
        pytest.param(field(3, bytes(70_000)), id="exemplar"),
        pytest.param(field(15, bytes(70_000)), id="unknown"),
        pytest.param(sample(field(15, bytes(70_000))), id="sample"),
    ],
)
def test_an_element_has_at_most_so_many_bytes(content: bytes) -> None:
    usual = series(UP, (1.0, NOW)).SerializeToString()
    large = series(STATUS, (1.0, NOW)).SerializeToString() + content
    message = field(1, usual) + field(1, large) + field(1, usual)
    assert decode(v1.Decoder, message, max_element_size=80_000) == []
    (fault,) = decode(v1.Decoder, message)
    assert fault.startswith(
        "series 1 {__name__='app_status', instance='a'}: an element of it has 7"
    )
    assert fault.endswith("bytes or more, the limit is 65536 (RECEIVER_MAX_ELEMENT_SIZE)")


@only_newer
def test_an_exemplar_has_at_most_so_many_labels() -> None:
    request = Request2()
    exemplar = request.add(UP, (1.0, NOW)).exemplars.add()
    exemplar.labels_refs.extend([0] * 40)
    assert decode(v2.Decoder, request.encoded(), max_series_labels=20) == []
    (fault,) = decode(v2.Decoder, request.encoded(), max_series_labels=19)
    assert fault.endswith("has 20 labels or more, the limit is 19 (RECEIVER_MAX_SERIES_LABELS)")


def test_the_settings_have_the_same_defaults() -> None:
    assert Settings.model_construct().limits == DEFAULTS


# --- the cost of reading --------------------------------------------------------------------------


@versions
def test_a_large_honest_request_is_read(build: Build, make: Make) -> None:
    """As large as its encoding is, every series of it has been read when the steps end."""
    content = [({**UP, "n": str(number), "path": "x" * 400}, points(1)) for number in range(12_000)]
    decoder = make(SeriesCache(KEPT, 2**20), DEFAULTS)
    for name in ("up", "app_status"):
        message = build([({**labels, "__name__": name}, one) for labels, one in content])
        if build is older:
            assert len(message) > decoder.whole
        request = decoder.decode(message)
        assert request.received == 12_000
        assert len(request.samples) == (12_000 if name == "app_status" else 0)


@versions
def test_a_long_request_is_read_in_many_steps(build: Build, make: Make) -> None:
    """Between two steps, other tasks run."""
    message = build([({**UP, "n": str(number)}, points(1)) for number in range(10_000)])
    steps = make(SeriesCache(KEPT, 2**25), DEFAULTS).steps(message)
    parsed = build is older
    assert sum(1 for _ in steps) >= (len(message) // (4 * reading.LONG) if parsed else 5)
    known = make(SeriesCache(KEPT, 2**25), DEFAULTS)
    for _ in range(3):
        known.decode(message)
    assert 0 < sum(1 for _ in known.steps(message)) < 10


@pytest.mark.parametrize("content", [b"", b"\x78\x00"], ids=["empty", "unknown field"])
@versions
def test_however_small_series_are_few_are_read_in_one_step(
    build: Build, make: Make, content: bytes
) -> None:
    message = (b"" if build is older else costly.SYMBOLS) + field(
        1 if build is older else 5, content
    ) * 10_000
    with patch.object(reading, "read", wraps=reading.read) as read:
        done = [read.call_count for _ in make(SeriesCache(KEPT, 2**25), DEFAULTS).steps(message)]
        assert read.call_count == 10_000
    assert max(after - before for before, after in pairwise(done)) < 100
    assert max(map(len, reading.portions([content] * 10_000, range(10_000)))) < 400


MEASURE = """
import json, sys
from receiver.config.catalogue import built_in
from receiver.errors import ReceiverError
from receiver.process.memory import keep_freed_memory
from receiver.protocol import sequences, v1, v2  # and numpy, which no message takes
from receiver.protocol.series import SeriesCache
from tests import costly

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

keep_freed_memory()  # as every receiver does
found = {}
for version, module in ((costly.V1, v1), (costly.V2, v2)):
    for name, build in version.items():
        message = build(int(sys.argv[1]))
        decoder = module.Decoder(SeriesCache(built_in(), 2**26))
        before = peak()
        try:
            decoder.decode(message)
        except ReceiverError:
            pass
        found[f"{module.__name__[-2:]}: {name}"] = (peak() - before) / 1024
print(json.dumps(found))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_message_takes_much_memory_to_read() -> None:
    """The peak memory of the process grows little, whatever the kind of message."""
    command = [sys.executable, "-c", MEASURE, str(8 * 2**20)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    grown = json.loads(output)
    assert sum(grown.values()) < 100, grown
