"""The 2.0 decoder means the same as a plain parse, names every fault and agrees with 1.0."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice, permutations
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from receiver.errors import BadRequestError
from receiver.protocol import columns, v1, v2
from receiver.protocol.columns import Symbols
from receiver.protocol.generated.remote_write_v2_pb2 import (
    BucketSpan,
    Histogram,
    Request,
    TimeSeries,
)
from receiver.protocol.series import SeriesCache
from receiver.protocol.v2 import Decoder
from receiver.rows.columns import CODE
from receiver.rows.model import Labels
from receiver.rows.tables import Catalogue, Column, Table
from tests import strategies
from tests.meanings import KEPT, STATUS_COLUMN, Meaning, meaning, read_newer
from tests.messages import (
    NOW,
    STALE,
    Request2,
    bits,
    field,
    framed2,
    from_bits,
    series,
    varint,
    with_created,
    with_start,
    write_request,
    write_request2,
)

STATUS = {"__name__": "app_status", "instance": "a"}
OCR = {"__name__": "ocr_value", "instance": "a"}
UP = {"__name__": "up", "instance": "a"}
SOURCE: Labels = (("instance", "a"),)


@pytest.fixture(params=[v2.FEW, 1], ids=["usual", "at once"], autouse=True, scope="module")
def few(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check series in bulk from this number of series in a request on."""
    with patch.object(v2, "FEW", request.param):
        yield


def decoder(size: int = 2**20) -> Decoder:
    return Decoder(SeriesCache(KEPT, size))


def plain_meaning(message: bytes) -> Meaning:
    """Return the meaning of a message that protobuf can parse."""
    Request.FromString(message)
    expected = read_newer(message)
    assert expected is not None
    return expected


@hypothesis_settings(max_examples=40)
@given(st.lists(strategies.requests2(), min_size=1, max_size=3), st.integers(2**9, 2**14))
def test_a_valid_request_means_what_a_plain_parse_says(requests: list[Request], size: int) -> None:
    small = decoder(size)
    for message in [request.SerializeToString() for request in requests] * 2:
        expected = plain_meaning(message)
        assert meaning(small, message) == expected
        assert expected.invalid == 0


@hypothesis_settings(max_examples=40)
@given(strategies.faulty_requests2())
def test_a_faulty_request_means_what_a_plain_parse_says(request: Request) -> None:
    used = decoder()
    message = request.SerializeToString()
    for _ in range(2):
        assert meaning(used, message) == plain_meaning(message)


@hypothesis_settings(max_examples=80)
@given(st.lists(strategies.unusual_requests2, min_size=1, max_size=3))
def test_an_unusual_encoding_means_what_a_plain_parse_says(messages: list[bytes]) -> None:
    used = decoder()
    for message in messages * 2:
        assert meaning(used, message) == plain_meaning(message)


@hypothesis_settings(max_examples=50)
@given(
    strategies.requests2(),
    strategies.damaged(strategies.requests2().map(Request.SerializeToString)),
)
def test_damage_is_refused_or_means_what_a_plain_parse_says(
    before: Request, message: bytes
) -> None:
    used = decoder()
    used.decode(before.SerializeToString())
    expected = read_newer(message)
    for _ in range(2):
        if expected is None:
            with pytest.raises(BadRequestError):
                used.decode(message)
        else:
            assert meaning(used, message) == expected


@given(st.binary(max_size=80))
@example(b"not a protobuf message")
@example(b"\x22\x00\x2a\x02\x0a\xff")
def test_random_bytes_are_at_worst_a_bad_request(message: bytes) -> None:
    with suppress(BadRequestError):
        decoder().decode(message)


# --- known series depend on the symbols -----------------------------------------------------------


def described(labels: Mapping[str, str], *, symbols: Sequence[str] = ("",)) -> Request2:
    """Build a request of one series with its metadata."""
    request = Request2(symbols)
    metadata = request.add(labels, (1.0, NOW)).metadata
    metadata.type, metadata.help_ref = 2, request.ref("Help.")
    return request


def test_known_series_are_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    request = described(STATUS)
    for labels, value in ((STATUS, 0.0), (OCR, NOW / 1000), (UP, 1.0)):
        request.add(labels, (value, NOW))
    used = decoder()
    expected = meaning(used, request.encoded())
    assert meaning(used, request.encoded()) == expected  # learned when the symbols come again
    monkeypatch.setattr("receiver.protocol.v2.TimeSeries", None)
    assert meaning(used, request.encoded()) == expected == plain_meaning(request.encoded())
    assert expected.samples.total() == 3


def rolling(number: int, count: int = 40) -> bytes:
    """Build a request with as many symbols as the others, but different ones."""
    request = Request2(["", f"only in {number}"])
    for other in range(count):
        labels = {"device": f"{(number + other) % 50}", "instance": "a"}
        request.add({"__name__": "app_status", **labels}, (float(other % 2), NOW + number))
        one = request.add({"__name__": f"m{other}", **labels}, (1.5, NOW + number))
        one.metadata.type, one.metadata.help_ref = 2, request.ref(f"Help {other}.")
    request.add({"__name__": "up"}, (1.0, NOW)).metadata.SetInParent()
    return request.encoded()


def test_known_series_are_not_parsed_again_if_their_symbols_are_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used = decoder()
    for number in range(50):
        used.decode(rolling(number))
    monkeypatch.setattr("receiver.protocol.v2.TimeSeries", None)
    for number in range(50, 60):
        message = rolling(number)
        found = meaning(used, message)
        assert found == plain_meaning(message)
        assert found.samples.total() == 40


def test_series_that_no_table_matches_are_not_parsed_again_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Although a metric of this name is kept for other series."""
    table = Table("some", [Column("status", "app_status", CODE)], match={"device": "1.?"})
    catalogue = Catalogue([table])
    used = Decoder(SeriesCache(catalogue, 2**20))
    for number in range(50):
        used.decode(rolling(number))
    monkeypatch.setattr("receiver.protocol.v2.TimeSeries", None)
    for number in range(50, 60):
        message = rolling(number)
        found = meaning(used, message)
        assert found == read_newer(message, catalogue)
        assert 0 < found.samples.total() < 20


def test_numpy_is_loaded_only_for_requests_that_need_it() -> None:
    code = "import sys, receiver.process.app; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_texts_of_kept_series_are_remembered_in_bounded_memory() -> None:
    used = decoder(size=2**16)
    sizes = []
    for number in range(100):
        request = Request2()
        for other in range(40):
            request.add({"__name__": "app_status", "n": f"{number % 50} {other}"}, (1.0, NOW))
        message = request.encoded()
        assert meaning(used, message) == plain_meaning(message)
        assert used._checker
        sizes.append(used._checker.size)
    assert 0 < max(sizes) <= 2**16 // 8 + len(message) * 10
    assert sizes != sorted(sizes)


def test_texts_are_forgotten_with_the_series_that_they_hold() -> None:
    cache = SeriesCache(KEPT, 2**16)
    used = Decoder(cache)
    for number in range(3):
        used.decode(rolling(number, count=20))
    assert used._checker
    assert used._checker.size
    for number in range(500):
        cache.add(b"%d" % number, [("__name__", "up")])
    used.decode(b"")
    assert not used._checker.size


@pytest.mark.parametrize("hash_of", [hash, lambda _: 0], ids=["different", "same"])
def test_names_are_checked_whatever_their_hashes_are(
    hash_of: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "hash", hash_of, raising=False)
    valid = [1, 2, 3, 4], [1, 2], [3, 4, 1, 2], [1, 2, 3, 0]
    invalid = [1, 2, 0, 4], [5, 4, 3, 2], [1, 2, 3, 4, 3, 4], [1, 0, 3, 4], [1, 2, 3], [1, 2, 3, 6]
    # The first series of a shape is checked, and the others are compared with it.
    for order in (valid + invalid, invalid + valid):
        request = Request2(["", "__name__", "up", "instance", "a", "job"])
        for refs in order:
            for _ in range(8):
                one = request.message.timeseries.add(labels_refs=refs)
                one.samples.add(value=1.0, timestamp=NOW)
        message = request.encoded()
        found = meaning(decoder(), message)
        assert found == plain_meaning(message)
        assert found.invalid == 8 * len(invalid)


@pytest.mark.parametrize("size", [2**7, 2**14, 2**15])
def test_references_of_any_width_are_read_at_once(size: int) -> None:
    """A reference has one byte more from each of these numbers of symbols on."""
    symbols = ["", *map(str, range(size + 10))]
    request = Request2(symbols)
    for other in range(40):
        labels = {"__name__": "ocr_value" if other % 2 else "up", "n": str(other)}
        request.add({**labels, str(size): str(size + other % 3)}, (1.0, NOW))
    request.message.timeseries.add(labels_refs=[*request.refs([("__name__", "up")]), 1, 2**28])
    assert meaning(decoder(), request.encoded()) == plain_meaning(request.encoded())


def test_the_same_references_mean_what_the_symbols_at_hand_say() -> None:
    used = decoder()
    tables = [["", "__name__", "app_status", "instance", name] for name in "abc"]
    series = TimeSeries(labels_refs=[1, 2, 3, 4], samples=[{"value": 1, "timestamp": NOW}])
    for symbols in (*tables, *reversed(tables)):
        message = framed2(symbols, *[series.SerializeToString()] * 2)
        assert meaning(used, message).samples == {
            (STATUS_COLUMN, (("instance", symbols[-1]),), NOW, bits(1.0)): 2
        }


def test_known_references_are_out_of_range_where_there_are_fewer_symbols() -> None:
    used = decoder()
    message = described(STATUS).message
    encoded = message.timeseries[0].SerializeToString()
    for symbols in (message.symbols, message.symbols[:-1], message.symbols, message.symbols[:3]):
        for _ in range(2):
            fits = len(symbols) == len(message.symbols)
            found = meaning(used, framed2(symbols, encoded))
            assert (found.received, found.invalid) == ((1, 0) if fits else (0, 1))


def test_symbols_after_the_series_count_too() -> None:
    used = decoder()
    message = described(STATUS).message
    encoded = message.timeseries[0].SerializeToString()
    first, second = message.symbols[:-1], message.symbols[-1:]
    late = framed2(first, encoded) + framed2(second)
    for content in (framed2(first, encoded), late, framed2(first, encoded), late):
        assert meaning(used, content) == plain_meaning(content)
    assert meaning(used, late).received == 1


def test_bytes_between_symbols_and_series_change_nothing() -> None:
    used = decoder()
    for unknown in (b"", field(9, b"later"), b""):
        message = framed2(SYMBOLS) + unknown + framed2([], VALID)
        assert meaning(used, message).samples.total() == 1


def test_more_symbol_tables_than_are_remembered() -> None:
    used = decoder()
    messages = [described(STATUS, symbols=["", str(number)]).encoded() for number in range(100)]
    for message in (*messages, *reversed(messages)):
        assert meaning(used, message) == plain_meaning(message)
    assert len(used._tables) <= 32


def test_symbols_too_long_to_be_remembered() -> None:
    used = decoder()
    request = Request2(["", *(f"{number} " + "x" * 1000 for number in range(300))])
    request.add(STATUS, (1.0, NOW))
    for _ in range(2):
        assert meaning(used, request.encoded()) == plain_meaning(request.encoded())
    assert not used._tables


def test_tables_are_remembered_in_bounded_memory() -> None:
    used = decoder(size=2**20)
    for number in range(20):
        symbols = ["", *(f"{number} {other}" for other in range(300))]
        for _ in range(3):
            request = Request2(symbols)
            request.add(STATUS, (1.0, NOW))
            assert meaning(used, request.encoded()) == plain_meaning(request.encoded())
            assert sum(table.size for table in used._tables.values()) <= 2**20 // 16
    assert 1 < len(used._tables) < 5


def test_tables_are_forgotten_with_the_series_that_they_hold() -> None:
    cache = SeriesCache(KEPT, 2**16)
    used = Decoder(cache)
    message = write_request2((STATUS, 1.0, NOW))
    for _ in range(3):
        used.decode(message)
    (before,) = used._tables.values()
    for number in range(500):
        cache.add(b"%d" % number, [("__name__", "up")])
    used.decode(message)
    assert before not in used._tables.values()


@pytest.mark.parametrize("count", [62, 63, 64, 65, 200])
def test_references_of_any_size(count: int) -> None:
    """The size of the references takes one byte up to 127, and so does each of the first 127."""
    used = decoder()
    labels = {f"name {number}": "x" for number in range(count)}
    message = write_request2(({**STATUS, **labels}, 1.0, NOW))
    for _ in range(3):
        assert meaning(used, message) == plain_meaning(message)


def test_more_timestamps_than_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.protocol.samples.MAX_TIMESTAMPS", 8)
    used = decoder()
    message = write_request2(*((STATUS, 1.0, NOW + later) for later in range(30)))
    for _ in range(2):
        assert meaning(used, message) == plain_meaning(message)
        assert len(used._timestamps) <= 8


def test_memory_is_bounded_however_often_one_table_serves() -> None:
    """The same symbols can be referred to in any number of ways."""
    used = decoder()
    names = ["b", "c", "d", "e", "f", "g", "h", "i"]
    refs = {name: number for number, name in enumerate(names, start=7)}
    symbols = [*SYMBOLS, "x", *names]

    for first in range(0, 30_000, 10_000):
        orders = islice(permutations(names), first, first + 10_000)
        message = framed2(
            symbols,
            *(
                TimeSeries(
                    labels_refs=[1, 2, *(ref for name in order for ref in (refs[name], 6))],
                    samples=[{"value": 1, "timestamp": NOW}],
                    metadata={"type": first + kind},
                ).SerializeToString()
                for kind, order in enumerate(orders)
            ),
        )
        assert used.decode(message).received == 10_000
    (table,) = used._tables.values()
    assert len(table._series) <= 20_001
    assert len(table._metadata) <= 20_000


def test_a_table_that_was_full_learns_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.protocol.symbols.MAX_KNOWN", 4)
    used = decoder()
    names = [{**STATUS, "n": str(number)} for number in range(9)]
    many = write_request2(*((labels, 1.0, NOW) for labels in names))
    request = Request2(Request.FromString(many).symbols)
    request.add(names[0], (1.0, NOW))
    for message in (many, many, request.encoded()):
        assert meaning(used, message) == plain_meaning(message)
    monkeypatch.setattr("receiver.protocol.v2.TimeSeries", None)
    assert meaning(used, request.encoded()) == plain_meaning(request.encoded())


def test_metadata_too_long_to_be_remembered() -> None:
    used = decoder()
    request = described(STATUS)
    request.message.timeseries[0].metadata.MergeFromString(field(9, bytes(2**15)))
    for _ in range(2):
        assert meaning(used, request.encoded()) == plain_meaning(request.encoded())
    (table,) = used._tables.values()
    assert sum(map(len, [*table._series, *table._metadata])) < 2**15


# --- 1.0 and 2.0 agree ----------------------------------------------------------------------------


@hypothesis_settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            strategies.label_sets,
            st.lists(st.tuples(strategies.values, strategies.timestamps), max_size=3),
        ),
        max_size=5,
    ),
    st.booleans(),
)
def test_both_versions_say_the_same(
    content: list[tuple[dict[str, str], list[tuple[float, int]]]], newer_first: bool
) -> None:
    request = Request2()
    for labels, samples in content:
        request.add(labels, *samples)
    older = write_request(*(series(labels, *samples) for labels, samples in content))
    cache = SeriesCache(KEPT, 2**20)
    pairs: list[tuple[Decoder | v1.Decoder, bytes]] = [
        (v1.Decoder(cache), older),
        (Decoder(cache), request.encoded()),
    ]
    if newer_first:
        pairs.reverse()
    for _ in range(2):
        first, second = [used.decode(message) for used, message in pairs]
        assert meaning(*pairs[0]) == meaning(*pairs[1])
        sources = {kept.source.labels: kept.source for kept, _, _ in first.samples}
        assert all(sources[kept.source.labels] is kept.source for kept, _, _ in second.samples)


def test_a_pair_in_both_versions_has_one_source() -> None:
    cache = SeriesCache(KEPT, 2**20)
    decoded = [
        v1.Decoder(cache).decode(write_request(series(STATUS, (1.0, NOW)))),
        Decoder(cache).decode(write_request2((OCR, 1.0, NOW), (STATUS, 1.0, NOW))),
        v1.Decoder(cache).decode(write_request(series(OCR, (1.0, NOW)))),
    ]
    first, *others = [kept.source for request in decoded for kept, _, _ in request.samples]
    assert len(others) == 3
    assert all(source is first for source in others)


# --- valid requests -------------------------------------------------------------------------------


def test_an_empty_message_means_nothing() -> None:
    assert meaning(decoder(), b"") == Meaning(Counter(), 0, 0, 0, 0, 0)


@pytest.mark.parametrize("symbols", [[""], ["", "unused"], ["", "", ""]])
def test_symbols_alone_mean_nothing(symbols: list[str]) -> None:
    assert meaning(decoder(), framed2(symbols)) == Meaning(Counter(), 0, 0, 0, 0, 0)


def test_a_1_0_message_is_no_empty_2_0_message() -> None:
    message = write_request(series(STATUS, (1.0, NOW)))
    with pytest.raises(BadRequestError, match="another message than its Content-Type"):
        decoder().decode(message)


def test_a_2_0_message_is_no_empty_1_0_message() -> None:
    message = write_request2((STATUS, 1.0, NOW))
    older = v1.Decoder(SeriesCache(KEPT, 2**20))
    with pytest.raises(BadRequestError, match="another message than its Content-Type"):
        older.decode(message)


@pytest.mark.parametrize("order", [1, -1])
def test_labels_may_come_in_any_order(order: int) -> None:
    request = Request2()
    labels = {**STATUS, "z": "1", "0": "2"}
    one = request.add({}, (1.0, NOW))
    one.labels_refs.extend(request.refs(sorted(labels.items())[::order]))
    ((kept, _, _),) = decoder().decode(request.encoded()).samples
    assert kept.source.labels == (("0", "2"), ("instance", "a"), ("z", "1"))


def test_a_string_may_be_in_the_table_twice() -> None:
    symbols = ["", "__name__", "app_status", "__name__", "app_status", "instance", "a", "a"]
    message = framed2(
        symbols,
        *(
            TimeSeries(
                labels_refs=refs, samples=[{"value": 1, "timestamp": NOW}]
            ).SerializeToString()
            for refs in ([1, 2, 5, 6], [3, 4, 5, 7])
        ),
    )
    samples = decoder().decode(message).samples
    assert len({id(kept.source) for kept, _, _ in samples}) == 1
    assert len(samples) == 2


def test_a_label_without_value_is_no_label() -> None:
    ((kept, _, _),) = decoder().decode(write_request2(({**STATUS, "b": ""}, 1, NOW))).samples
    assert kept.source.labels == SOURCE


@pytest.mark.parametrize("start", [0, 1, -1, NOW, 2**63 - 1])
def test_start_timestamps_change_nothing(start: int) -> None:
    expected = meaning(decoder(), write_request2((STATUS, 1.0, NOW)))
    for old in (True, False):
        request = Request2()
        one = request.add(STATUS, (1.0, NOW))
        if old:
            with_created(one, start)
        else:
            with_start(one.samples[0], start)
        assert len(request.encoded()) > len(write_request2((STATUS, 1.0, NOW)))
        assert meaning(decoder(), request.encoded()) == expected


def test_unknown_fields_change_nothing_wherever_they_are() -> None:
    unknown = field(99, b"later") + varint(98 << 3) + varint(7)
    request = Request2()
    one = request.add(STATUS, (1.0, NOW))
    one.samples[0].MergeFromString(unknown)
    one.exemplars.add(timestamp=NOW).MergeFromString(unknown)
    one.metadata.MergeFromString(unknown)
    one.MergeFromString(unknown)
    other = request.add(UP)
    other.histograms.add().MergeFromString(unknown)
    expected = Meaning(Counter({(STATUS_COLUMN, SOURCE, NOW, bits(1.0)): 1}), 1, 1, 1, 0, 2, 1)
    assert meaning(decoder(), request.encoded() + unknown) == expected


@pytest.mark.parametrize(
    "value", [STALE, from_bits(0x7FF8000000000001), from_bits(0xFFF0000000000001), -0.0, 5e-324]
)
def test_every_bit_of_a_value_survives(value: float) -> None:
    used = decoder()
    for _ in range(2):
        ((_, _, decoded),) = used.decode(write_request2((STATUS, value, NOW))).samples
        assert bits(decoded) == bits(value)


def test_symbols_mean_what_the_request_at_hand_says() -> None:
    """A known series is found by its strings, not by their places, which differ each time."""
    used = decoder()
    for symbols in ([""], ["", "x", "y"], ["", "a", "instance"]):
        request = Request2(symbols)
        request.add(STATUS, (1.0, NOW))
        assert meaning(used, request.encoded()).samples == {
            (STATUS_COLUMN, SOURCE, NOW, bits(1.0)): 1
        }


def test_series_beyond_the_cache_are_read_every_time() -> None:
    message = write_request2(*(({**STATUS, "n": str(number)}, 1.0, NOW) for number in range(50)))
    small = decoder(size=2**12)
    for _ in range(3):
        assert meaning(small, message) == plain_meaning(message)


# --- counts ---------------------------------------------------------------------------------------


def test_everything_is_counted_exactly() -> None:
    request = Request2()
    request.add(STATUS, (1.0, NOW), (2.0, NOW + 1), (STALE, NOW + 2))
    request.add(UP, (1.0, NOW))
    request.add({**UP, "le": "1"}).histograms.extend([Histogram(), Histogram()])
    request.add({**STATUS, "instance": "b"}).exemplars.add(timestamp=NOW)
    for _ in range(3):
        request.message.timeseries[1].exemplars.add(
            labels_refs=request.refs([("trace_id", "x")]), value=1, timestamp=NOW
        )
    found = meaning(decoder(), request.encoded())
    assert found[1:] == (4, 2, 4, 0, 4, 3)
    assert found.samples.total() == 3


def test_a_series_of_metadata_alone_is_accepted() -> None:
    request = Request2()
    metadata = request.add(STATUS).metadata
    metadata.type, metadata.help_ref = 2, request.ref("What it is.")
    assert meaning(decoder(), request.encoded()) == Meaning(Counter(), 0, 0, 0, 0, 1)


def test_a_series_of_exemplars_alone_is_accepted() -> None:
    request = Request2()
    request.add(STATUS).exemplars.add(value=1, timestamp=NOW)
    assert meaning(decoder(), request.encoded()) == Meaning(Counter(), 0, 0, 1, 0, 1)


def test_an_invalid_series_counts_nothing_of_what_it_holds() -> None:
    request = Request2()
    for labels in ({"job": "x"}, {"__name__": "", "job": "x"}):
        one = request.add(labels, (1.0, NOW))
        one.exemplars.add(timestamp=NOW)
        request.add(labels).histograms.add()
    assert meaning(decoder(), request.encoded()) == Meaning(Counter(), 0, 0, 0, 4, 4)


def test_the_symbols_of_a_large_message_are_not_compared_at_once() -> None:
    """Comparing many symbols would block the event loop for too long."""
    used = decoder()
    used.whole = 0
    message = rolling(1)
    with patch.object(Symbols, "distinct", property(lambda _: pytest.fail("compared"))):
        assert meaning(used, message) == plain_meaning(message)


# --- faults of the whole message ------------------------------------------------------------------

VALID = TimeSeries(
    labels_refs=[1, 2, 3, 4], samples=[{"value": 1, "timestamp": NOW}]
).SerializeToString()
SYMBOLS = ["", "__name__", "app_status", "instance", "a", "up"]


@pytest.mark.parametrize("message", [b"\xff", b"\x2a\x05abc", b"\x0f", b"\x00", b"\x22"])
def test_what_is_no_message_at_all_is_a_bad_request(message: bytes) -> None:
    with pytest.raises(BadRequestError, match=r"not an io\.prometheus\.write\.v2\.Request"):
        decoder().decode(message)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(framed2(["a"]), id="no empty string"),
        pytest.param(framed2(["a", ""]), id="empty string not first"),
        pytest.param(framed2([*SYMBOLS[1:], ""], VALID), id="with series"),
        pytest.param(framed2([], VALID), id="series without symbols"),
        pytest.param(framed2([], b""), id="empty series without symbols"),
    ],
)
def test_symbols_start_with_an_empty_string(message: bytes) -> None:
    with pytest.raises(BadRequestError, match="symbols do not start with an empty string"):
        decoder().decode(message)


@pytest.mark.parametrize("symbol", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80"])
def test_a_symbol_that_is_not_utf_8_is_a_bad_request(symbol: bytes) -> None:
    with pytest.raises(BadRequestError, match=r"not an io\.prometheus\.write\.v2\.Request"):
        decoder().decode(framed2(SYMBOLS, VALID) + field(4, symbol))


# --- an invalid series among valid ones -----------------------------------------------------------


def labelled(*labels: tuple[str, str]) -> Callable[[Request2], TimeSeries]:
    def build(request: Request2) -> TimeSeries:
        one = request.add({}, (1.0, NOW))
        one.labels_refs.extend(request.refs(labels))
        return one

    return build


def changed(change: Callable[[TimeSeries], object]) -> Callable[[Request2], TimeSeries]:
    """Return a function that builds a valid series and then changes it."""

    def build(request: Request2) -> TimeSeries:
        one = request.add(STATUS)
        change(one)
        return one

    return build


def with_histogram(**values: object) -> Callable[[Request2], TimeSeries]:
    return changed(lambda one: one.histograms.append(Histogram(**values)))  # type: ignore[arg-type]


def span(length: int) -> BucketSpan:
    return BucketSpan(offset=0, length=length)


def mixed(one: TimeSeries) -> None:
    one.samples.add(value=1, timestamp=NOW)
    one.histograms.add()


NAN = float("nan")

FAULTS: Mapping[str, tuple[Callable[[Request2], TimeSeries], str]] = {
    "no labels": (labelled(), "the label __name__ is missing"),
    "no metric name": (labelled(("job", "x")), "the label __name__ is missing"),
    "empty metric name": (labelled(("__name__", "")), "the label __name__ is missing"),
    "empty label name": (
        labelled(*STATUS.items(), ("", "x")),
        "a label has no name (its value is 'x')",
    ),
    "repeated label": (
        labelled(*STATUS.items(), ("b", "x"), ("b", "y")),
        "the label 'b' occurs more than once",
    ),
    "repeated label of one value": (
        labelled(*STATUS.items(), ("b", "x"), ("b", "x")),
        "the label 'b' occurs more than once",
    ),
    "two names": (
        labelled(*STATUS.items(), ("__name__", "up")),
        "the label '__name__' occurs more than once",
    ),
    "odd references": (
        changed(lambda one: one.labels_refs.append(1)),
        "5 label references: the last name has no value",
    ),
    "one reference": (
        changed(lambda one: one.labels_refs.__delitem__(slice(1, None))),
        "1 label references: the last name has no value",
    ),
    "reference beyond the symbols": (
        changed(lambda one: one.labels_refs.extend([1, 2**32 - 1])),
        "reference 4294967295 points beyond the",
    ),
    "name beyond the symbols": (
        changed(lambda one: one.labels_refs.extend([99, 1])),
        "reference 99 points beyond the 6 symbols",
    ),
    "first reference beyond the symbols": (
        changed(lambda one: one.labels_refs.extend([6, 1])),
        "reference 6 points beyond the 6 symbols",
    ),
    "odd references of an exemplar": (
        changed(lambda one: one.exemplars.add(labels_refs=[1])),
        "1 label references: the last name has no value",
    ),
    "exemplar beyond the symbols": (
        changed(lambda one: one.exemplars.add(labels_refs=[1, 99])),
        "reference 99 points beyond the 6 symbols",
    ),
    "second exemplar beyond the symbols": (
        changed(
            lambda one: (
                one.exemplars.add(labels_refs=[1, 1]),
                one.exemplars.add(labels_refs=[9, 1]),
            )
        ),
        "reference 9 points beyond the 6 symbols",
    ),
    "help beyond the symbols": (
        changed(lambda one: setattr(one.metadata, "help_ref", 6)),
        "reference 6 points beyond the 6 symbols",
    ),
    "unit beyond the symbols": (
        changed(lambda one: setattr(one.metadata, "unit_ref", 77)),
        "reference 77 points beyond the 6 symbols",
    ),
    "samples and histograms": (changed(mixed), "it has both samples and histograms"),
    "count too low": (
        with_histogram(count_int=2, zero_count_int=3),
        "buckets hold 3 observations, but its count is 2",
    ),
    "count too high": (
        with_histogram(count_int=4, positive_spans=[span(2)], positive_deltas=[1, 1]),
        "buckets hold 3 observations, but its count is 4",
    ),
    "count too low for a NaN sum": (
        with_histogram(count_int=2, zero_count_int=3, sum=NAN),
        "buckets hold 3 observations, but its count is 2",
    ),
    "more positive buckets than spans name": (
        with_histogram(count_int=2, positive_spans=[span(1)], positive_deltas=[1, 0]),
        "positive spans name 1 buckets, but it has 2",
    ),
    "fewer negative buckets than spans name": (
        with_histogram(count_int=1, negative_spans=[span(1), span(1)], negative_deltas=[1]),
        "negative spans name 2 buckets, but it has 1",
    ),
    "spans of billions": (
        with_histogram(positive_spans=[span(2**32 - 1)] * 3),
        "positive spans name 12884901885 buckets, but it has 0",
    ),
    "float buckets without spans": (
        with_histogram(count_float=1, negative_counts=[1]),
        "negative spans name 0 buckets, but it has 1",
    ),
    "float buckets of a whole histogram": (
        with_histogram(count_int=0, positive_spans=[span(1)], positive_counts=[1]),
        "positive spans name 1 buckets, but it has 0",
    ),
    "negative bucket": (
        with_histogram(count_int=0, positive_spans=[span(2)], positive_deltas=[1, -2]),
        "a histogram has a negative positive bucket",
    ),
    "negative float bucket": (
        with_histogram(count_float=1, negative_spans=[span(1)], negative_counts=[-0.5]),
        "a histogram has a negative negative bucket",
    ),
    "a broken histogram after a good one": (
        changed(lambda one: one.histograms.extend([Histogram(), Histogram(count_int=1)])),
        "buckets hold 0 observations, but its count is 1",
    ),
}


@pytest.mark.parametrize(("build", "fault"), FAULTS.values(), ids=FAULTS)
def test_an_invalid_series_leaves_the_others(
    build: Callable[[Request2], TimeSeries], fault: str
) -> None:
    used = decoder()
    request = Request2(SYMBOLS)
    request.add(STATUS, (1.0, NOW)).exemplars.add(value=1, timestamp=NOW)
    build(request)
    request.add(UP, (1.0, NOW))
    request.add(STATUS).histograms.add()
    message = request.encoded()
    for _ in range(2):
        found = meaning(used, message)
        assert found == plain_meaning(message)
        assert found.samples == {(STATUS_COLUMN, SOURCE, NOW, bits(1.0)): 1}
        assert found[1:] == (2, 1, 1, 1, 4, 1)
        (sentence,) = used.decode(message).faults.first
        assert sentence.startswith("series 1 {")
        assert fault in sentence.partition("}: ")[2]


@pytest.mark.parametrize(("build", "fault"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named_alike_however_series_are_checked(
    build: Callable[[Request2], TimeSeries], fault: str
) -> None:
    request = Request2(SYMBOLS)
    for _ in range(20):
        request.add(UP, (1.0, NOW))
    build(request)
    for _ in range(20):
        request.add(STATUS, (1.0, NOW))
    message = request.encoded()
    at_once = decoder().decode(message).faults
    with patch.object(v2, "FEW", 1000):
        assert at_once == decoder().decode(message).faults
    assert fault in at_once.first[0]


@pytest.mark.parametrize(
    "invalid",
    [
        pytest.param(VALID[:-1], id="truncated sample"),
        pytest.param(VALID[:3], id="truncated references"),
        pytest.param(VALID + varint(2**64 - 1), id="invalid tag"),
        pytest.param(VALID + field(5, b"\x0a"), id="truncated metadata"),
        pytest.param(VALID + field(4, b"\x0a\x05"), id="truncated exemplar"),
    ],
)
def test_a_series_that_breaks_off_leaves_the_others(invalid: bytes) -> None:
    used = decoder()
    message = framed2(SYMBOLS, VALID, invalid, VALID)
    for _ in range(2):
        found = meaning(used, message)
        assert found.samples == {(STATUS_COLUMN, SOURCE, NOW, bits(1.0)): 2}
        assert found[1:] == (2, 0, 0, 1, 3, 2)
        (sentence,) = used.decode(message).faults.first
        assert sentence.startswith("series 1 {")
        assert "Error parsing message" in sentence


VALID_HISTOGRAMS = {
    "empty": Histogram(),
    "whole": Histogram(
        count_int=9,
        zero_count_int=2,
        positive_spans=[span(1), span(0), span(1)],
        positive_deltas=[4, -3],
        negative_spans=[span(1)],
        negative_deltas=[2],
    ),
    "more than the buckets with a NaN sum": Histogram(count_int=9, zero_count_int=2, sum=NAN),
    "as many as the buckets with a NaN sum": Histogram(count_int=2, zero_count_int=2, sum=NAN),
    "float": Histogram(
        count_float=0.1,
        zero_count_float=7,
        positive_spans=[span(3)],
        positive_counts=[0.5, NAN, float("inf")],
    ),
    "stale": Histogram(sum=STALE),
    "float stale": Histogram(count_float=STALE, sum=STALE),
}


@pytest.mark.parametrize("histogram", VALID_HISTOGRAMS.values(), ids=VALID_HISTOGRAMS)
def test_a_histogram_that_adds_up_is_counted(histogram: Histogram) -> None:
    request = Request2()
    request.add(STATUS).histograms.append(histogram)
    assert meaning(decoder(), request.encoded()) == Meaning(Counter(), 0, 1, 0, 0, 1)


# --- reports of faults ----------------------------------------------------------------------------


def told(symbols: Iterable[str], *content: TimeSeries) -> list[str]:
    message = framed2(symbols, *(one.SerializeToString() for one in content))
    return decoder().decode(message).faults.first


def test_a_fault_shows_the_labels_as_far_as_they_can_be_told() -> None:
    symbols = ["", "job", "x"]
    assert told(symbols, TimeSeries(labels_refs=[1, 2, 1, 9])) == [
        "series 0 {job='x', job='<9>'}: reference 9 points beyond the 3 symbols"
    ]
    assert told(symbols, TimeSeries(labels_refs=[1, 2])) == [
        "series 0 {job='x'}: the label __name__ is missing"
    ]


def test_every_fault_is_counted_but_only_the_first_are_named() -> None:
    content = [VALID if index % 2 else b"" for index in range(100)]
    decoded = decoder().decode(framed2(SYMBOLS, *content))
    assert (decoded.faults.invalid, decoded.faults.total) == (50, 100)
    assert [sentence.partition(" {")[0] for sentence in decoded.faults.first] == [
        "series 0",
        "series 2",
        "series 4",
    ]
    assert len(decoded.samples) == 50


LONG = "x" * 100_000


@pytest.mark.parametrize(
    ("symbols", "refs"),
    [
        pytest.param(["", "job", LONG], [1, 2], id="long value"),
        pytest.param(["", LONG], [1, 1, 1, 1], id="long name twice"),
        pytest.param(["", LONG], [0, 1], id="long value without name"),
        pytest.param(["", "a"], [1] * 10_000, id="many labels"),
    ],
)
def test_a_fault_is_short_however_long_the_labels_are(symbols: list[str], refs: list[int]) -> None:
    (sentence,) = told(symbols, TimeSeries(labels_refs=refs))
    assert len(sentence) < 1000


def test_a_fault_costs_no_more_than_the_message() -> None:
    """A reference of one byte may stand for a long symbol: a small message, a huge text."""
    message = framed2(["", LONG], TimeSeries(labels_refs=[1] * 1000).SerializeToString())
    used = decoder()
    tracemalloc.start()
    try:
        used.decode(message)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * len(message)
