"""Series of 2.0 in a known order are decoded with the same result as by protobuf's parser."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from random import Random
from typing import Final
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from receiver.errors import BadRequestError
from receiver.protocol import ahead, orders, v2
from receiver.protocol.generated.remote_write_v2_pb2 import Request, RequestFrame
from receiver.protocol.orders import count_before_strays
from receiver.protocol.runs import Expected, Run
from receiver.protocol.series import SeriesCache
from receiver.protocol.v2 import Decoder
from receiver.protocol.vocabulary import ABSENT, Vocabulary
from tests.fuzz.differential import few_at_once, with_other_symbols
from tests.meanings import KEPT, meaning, read_newer
from tests.messages import NOW, Request2, encoded_timestamp, field, framed2, varint
from tests.orders import change

STATUS: Final = {"__name__": "app_status", "instance": "a"}
UP: Final = {"__name__": "up", "instance": "a"}


@pytest.fixture(autouse=True)
def compared_however_few() -> Iterator[None]:
    with few_at_once():
        yield


def decoder(size: int = 2**22) -> Decoder:
    return Decoder(SeriesCache(KEPT, size))


def message_of(
    numbers: Iterable[int], values: Sequence[float] = (1.0,), later: int = 0, *, wide: int = 0
) -> bytes:
    """Build a message of series, two thirds of them kept, with symbols unique to the message."""
    request = Request2(["", f"only at {later}", *(f"{later} {other}" for other in range(wide))])
    for place, number in enumerate(numbers):
        labels = {**(STATUS if number % 3 else UP), "n": str(number)}
        request.add(labels, (values[place % len(values)], NOW + later + number % 2))
    return request.encoded()


def check(used: Decoder, message: bytes) -> None:
    expected = read_newer(message)
    assert expected is not None
    assert meaning(used, message) == expected


def taken(used: Decoder, message: bytes) -> tuple[int, int]:
    """Decode a message; return how many series are recognized before and after it is split."""
    found = [0, 0]
    take, read = ahead.Reading._take, orders.Orders.read

    def taking(self: ahead.Reading, run: Run, place: int, guess: int) -> int:
        count = take(self, run, place, guess)
        found[0] += count
        return count

    def reading(self: orders.Orders, *content: object) -> orders.Known:
        known = read(self, *content)  # type: ignore[arg-type]
        found[1] += int(np.count_nonzero(known.flags))
        return known

    with patch.object(ahead.Reading, "_take", taking), patch.object(orders.Orders, "read", reading):
        check(used, message)
    return found[0], found[1]


def test_an_order_is_known_from_the_third_time_on() -> None:
    used = decoder()
    found = [taken(used, message_of(range(50), later=later)) for later in range(4)]
    assert found == [(0, 0), (0, 0), (50, 0), (50, 0)]


def test_values_and_timestamps_are_those_of_the_message() -> None:
    used = decoder()
    for later, values in enumerate([(1.0,), (1.0,), (2.5,), (-1e300, 7e-310), (float("inf"),)]):
        check(used, message_of(range(50), values, later * 60_000))


@pytest.mark.parametrize("wide", [0, 100, 128, 300])
def test_zeros_come_and_go(wide: int) -> None:
    """A value of zero is omitted, which shifts everything after it."""
    used = decoder()
    random = Random(wide)
    for later in range(2):
        check(used, message_of(range(50), later=later, wide=wide))
    for later in range(2, 20):
        values = [random.choice([0.0, 1.0]) for _ in range(50)]
        assert taken(used, message_of(range(50), values, later, wide=wide)) == (50, 0)


def test_requests_that_roll_over_series_are_known_by_their_order() -> None:
    used = decoder()
    number = 0
    for size in (40, 30, 9):
        for _ in range(6 * 100 // size):
            some = [one % 100 for one in range(number, number + size)]
            number += size
            message = message_of(some, later=number)
            found = taken(used, message)
        assert sum(found) == size


def test_runs_that_follow_one_another_become_one() -> None:
    used = decoder()
    for later in range(2):
        for first in range(0, 100, 20):
            check(used, message_of(range(first, first + 20), later=100 * later + first))
    assert used._checker
    known = used._checker._orders
    assert sorted(map(len, known._runs.learned)) == [20] * 5
    assert taken(used, message_of(range(10, 95), later=1000)) == (85, 0)
    assert sorted(map(len, known._runs.learned)) == [100]
    assert taken(used, message_of(range(100), later=1001)) == (100, 0)


def test_a_few_series_that_differ_leave_the_others_known() -> None:
    used = decoder()
    with patch.object(orders, "STRAYS", 8), patch.object(orders, "DISTANCE", 8):
        for later in range(3):
            check(used, message_of(range(80), later=later))
        replaced = [*range(20), 1000, *range(21, 80)]
        inserted = [*range(20), 1001, *range(20, 80)]
        missing = [*range(20), *range(25, 80)]
        found = [
            sum(taken(used, message_of(some, later=3 + later)))
            for later, some in enumerate((replaced, inserted, missing))
        ]
    assert found[0] == 79
    assert found[1] >= 72
    assert found[2] >= 67


def test_series_of_another_form_have_their_place_in_an_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used = decoder()
    monkeypatch.setattr(orders, "STRAYS", 8)
    monkeypatch.setattr(orders, "DISTANCE", 8)
    for later in range(5):
        request = Request2(["", f"only at {later}"])
        for number in range(40):
            labels = {**STATUS, "n": str(number)}
            if number % 4 == 3:
                request.add(labels).histograms.add()
            elif number % 4 == 2:
                request.add({"instance": "nameless"}, (1.0, NOW + later))
            else:
                request.add(labels, (1.0, NOW + later))
        found = taken(used, request.encoded())
    assert sum(found) == 20


def test_a_series_at_fault_is_named_by_its_place_in_the_request() -> None:
    used = decoder()
    for later in range(3):
        check(used, message_of(range(50), later=later))
    request = Request2(["", "only here"])
    for number in range(50):
        labels = {**(STATUS if number % 3 else UP), "n": str(number)}
        request.add(labels if number != 30 else {"n": "nameless"}, (1.0, NOW))
    message = request.encoded()
    assert taken(used, message)[0] == 30
    faults = used.decode(message).faults
    assert (faults.invalid, faults.total) == (1, 50)
    assert faults.first[0].startswith("series 30 ")


@pytest.mark.parametrize("described", ["empty", "of a metric", "wrong", "none"])
def test_metadata_are_checked(described: str) -> None:
    used = decoder()
    for later in range(5):
        request = Request2(["", f"only at {later}"])
        for number in range(40):
            one = request.add({**STATUS, "n": str(number)}, (float(number % 3), NOW + later))
            if described == "of a metric":
                one.metadata.type, one.metadata.help_ref = 2, request.ref(f"Help {number % 5}.")
            elif described != "none":
                one.metadata.SetInParent()
        if described == "wrong" and later == 4:
            request.message.timeseries[7].metadata.unit_ref = 10_000
        found = taken(used, request.encoded())
    assert sum(found) == (40 if described != "wrong" else 39)


@pytest.mark.parametrize("before", range(90, 130, 3))
def test_a_size_that_takes_more_bytes_with_a_value_than_without(before: int) -> None:
    """A series of 119 to 127 bytes without its value zero takes more than 127 with another one."""
    used = decoder()
    random = Random(before)
    for later in range(6):
        request = Request2(["", f"only at {later}", *(f"{later} {one}" for one in range(127))])
        for number in range(30):
            more = {f"l{one}": str(number) for one in range((before - number) // 4)}
            value = random.choice([0.0, 1.0])
            request.add({**STATUS, "n": str(number), **more}, (value, NOW))
        check(used, request.encoded())


@pytest.mark.parametrize("split", [False, True])
def test_both_bytes_of_a_reference_count(split: bool) -> None:
    used = decoder()
    for later in range(3):
        check(used, message_of(range(50), later=later, wide=300))
    request = Request.FromString(message_of(range(50), later=3, wide=300))
    request.timeseries[31].labels_refs[-1] -= 128
    if split:
        request.timeseries[1].labels_refs[-1] -= 128
    check(used, request.SerializeToString())


@pytest.mark.parametrize("split", [False, True])
def test_no_bytes_stand_for_a_symbol_that_is_not_there(split: bool) -> None:
    """Its encoded reference is a placeholder, which bytes of a message must not match."""
    used = decoder()
    for later in range(4):
        request = Request2(["", f"only at {later}", *(f"{later} {one}" for one in range(200))])
        for number in range(50):
            labels = {"__name__": "app_status", "m": str(number), "n": "x"}
            request.add(labels, (1.0, NOW + later))
        if later < 3:
            check(used, request.encoded())
    absent = [31, 1] if split else [31]
    encoded = list(RequestFrame.FromString(request.encoded()).timeseries)
    symbols = list(request.message.symbols)
    for number in absent:
        ref = symbols.index(str(number))
        assert 128 <= ref < 2**14
        symbols[ref] = "y" * number
        encoded[number] = encoded[number].replace(varint(ref), b"\xff\xff", 1)
    check(used, framed2(symbols, *encoded))


def long_series(later: int) -> bytes:
    """Build a message of series of more than 127 bytes, whose lengths take two bytes."""
    request = Request2(["", f"only at {later}", *(f"{later} {one}" for one in range(127))])
    for number in range(30):
        more = {f"l{one}": "x" for one in range(27)}
        request.add({**STATUS, "n": str(number), **more}, (1.0, NOW))
    return request.encoded()


@pytest.mark.parametrize("last", [0, 2, 3, 0x81])
def test_every_byte_of_a_length_counts(last: int) -> None:
    used = decoder()
    for later in range(3):
        check(used, long_series(later))
    message = bytearray(long_series(3))
    assert taken(used, bytes(message)) == (30, 0)
    start = bytes(message).index(b"*", len(message) // 2)
    while not (message[start + 1] >= 0x80 and message[start + 2 : start + 4] == b"\1\x0a"):
        start = bytes(message).index(b"*", start + 1)
    message[start + 2] = last
    expected = read_newer(bytes(message))
    assert expected is None
    with pytest.raises(BadRequestError):
        used.decode(bytes(message))


def test_what_looks_like_a_sample_without_a_value_is_none() -> None:
    """The bytes that begin one also occur in values, and in references to symbols 18, 7 and 16."""
    used = decoder()
    value = float(np.frombuffer(b"\1\x12\x07\x10\1\1\1\x40", "<f8")[0])
    for later in range(8):
        request = Request2(["", f"only at {later}", *(str(one) for one in range(30))])
        for number in range(30):
            labels = {"__name__": "app_status", "n": str(number)}
            one = request.add(labels, (0.0 if (number + later) % 4 else value, NOW))
            if number % 5 == 0:
                one.labels_refs.extend([later, 18, 7, 16])
        check(used, request.encoded())


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text.replace("instance", "instancf"), id="another name"),
        pytest.param(lambda text: text.replace("__name__", "__nome__"), id="no metric"),
        pytest.param(lambda text: text.replace("instance", ""), id="no name"),
        pytest.param(lambda text: text.replace("instance", "n"), id="a name twice"),
    ],
)
def test_symbols_that_differ_make_other_series(change: Callable[[str], str]) -> None:
    used = decoder()
    for later in range(3):
        message = message_of(range(50), later=later)
        check(used, message)
    request = Request.FromString(message)
    request.symbols[:] = [change(text) for text in request.symbols]
    check(used, request.SerializeToString())


@pytest.mark.parametrize("size", [0, 1, 5, 20, 200, 511])
def test_a_message_that_is_cut_off_is_refused(size: int) -> None:
    used = decoder()
    for later in range(3):
        check(used, message_of(range(50), later=later))
    message = message_of(range(50), later=3)
    for cut in (message[: -1 - size], message[size + 1 :]):
        expected = read_newer(cut)
        if expected is None:
            with pytest.raises(BadRequestError):
                used.decode(cut)
        else:
            assert meaning(used, cut) == expected


def test_symbols_must_begin_with_an_empty_string_in_a_known_order_too() -> None:
    used = decoder()
    for later in range(3):
        check(used, message_of(range(50), later=later))
    request = Request.FromString(message_of(range(50), later=3))
    request.symbols[0] = "x"
    with pytest.raises(BadRequestError, match="empty string"):
        used.decode(request.SerializeToString())


def test_what_comes_between_and_after_series_is_read() -> None:
    used = decoder()
    for later in range(3):
        check(used, message_of(range(50), later=later))
    message = message_of(range(50), later=3)
    for more in (field(9, b"later"), framed2(["late"]), b"\x2a\x00", b"\x22\x01*"):
        check(used, message + more)
        check(used, framed2(["", "*\n\n*"]) + more + message)


def test_symbols_that_look_like_series_are_symbols() -> None:
    used = decoder()
    for later in range(6):
        request = Request2(["", f"*a\n{later}", "*\x04\n*\x02\n", "*" * 10 + "\n"])
        for number in range(30):
            request.add({**STATUS, "n": str(number)}, (1.0, NOW))
        check(used, request.encoded())


def test_orders_are_remembered_in_bounded_memory() -> None:
    used = decoder(2**19)
    rotated = [[*range(first, 60), *range(first)] for first in range(60)]
    for later, numbers in enumerate((*rotated, *rotated, *reversed(rotated))):
        check(used, message_of(random_order(numbers, later), later=later))
        assert used._checker is None or used._checker._orders._runs.size <= 2**19 // 16
    assert used._checker
    known = used._checker._orders._runs
    assert known.places
    held = {key for learned in known.learned.values() for key in learned.places}
    assert set(known.places) <= held
    assert known.size == sum(learned.size for learned in known.learned.values())
    used._checker._orders.clear()
    assert (known.size, known.places, known.learned) == (0, {}, {})


def test_offsets_take_four_bytes_each() -> None:
    used = decoder()
    for later in range(3):
        check(used, message_of(range(60), later=later))
    assert used._checker
    (run,) = used._checker._orders._runs.learned
    assert run._firsts.dtype == np.int32
    assert run._firsts.tolist() == list(range(0, 6 * 61, 6))


def random_order(numbers: Sequence[int], seed: int) -> list[int]:
    return Random(seed).sample(numbers, len(numbers))


def test_the_order_of_a_sender_without_one_is_learned_ever_less_often() -> None:
    used = decoder()
    learned = []
    learn = orders.Orders.learn
    with patch.object(orders, "MAX_PAUSE", 64):
        for later in range(300):
            with patch.object(orders.Orders, "learn", autospec=True, side_effect=learn) as learning:
                check(used, message_of(random_order(range(60), later), later=later))
            learned.append(learning.call_count)
        assert sum(learned[200:]) < 10
        # Once a sender keeps an order again, the order is recognized.
        found = [taken(used, message_of(range(60), later=300 + later)) for later in range(80)]
    assert found[-1] == (60, 0)


def test_symbols_that_are_numbered_for_another_request_meanwhile_keep_their_numbers() -> None:
    """Requests are decoded concurrently: numbers may be assigned or forgotten between two steps."""
    with patch.object(v2, "CHECKED_AT_ONCE", 10):
        used = decoder()
        for later in range(40):
            messages = [
                message_of(range(first, first + 40), later=10 * later + first // 20)
                for first in (0, 20)
            ]
            steps = [used.steps(message) for message in messages]
            found = []
            while steps:
                for one in list(steps):
                    try:
                        next(one)
                    except StopIteration as end:
                        found.append(end.value.request)
                        steps.remove(one)
                if later % 5 == 4 and used._checker:
                    used._checker.clear()
            for request in found:
                kept = {series.source.labels for series, _, _ in request.samples}
                assert len(kept) == len(request.samples)
                assert request.faults.invalid == 0


def test_runs_of_one_series_are_not_compared_one_by_one() -> None:
    """Each series is in a known order, but is never followed by the next series of that order."""
    used = decoder()
    for later in range(3):
        check(used, message_of(range(400), later=later))
    compare = Expected.compare
    with (
        patch.object(orders, "DISTANCE", 1),
        patch.object(Expected, "compare", autospec=True, side_effect=compare) as comparing,
    ):
        check(used, message_of(range(0, 400, 8), later=3))
    assert comparing.call_count < 20


def test_a_long_message_is_compared_a_part_at_a_time() -> None:
    used = decoder()
    for later in range(2):
        check(used, message_of(range(400), later=later))
    with patch.object(ahead, "AT_ONCE", 150):
        assert taken(used, message_of(range(400), later=2)) == (400, 0)


def test_orders_are_forgotten_with_the_numbers_of_their_symbols() -> None:
    """Numbers are reused: those in a known order would refer to other symbols."""
    used = decoder()
    for later in range(3):
        check(used, message_of(range(50), later=later))
    assert used._checker
    assert used._checker._orders
    used._checker.clear()
    assert not used._checker._orders
    for later in range(3, 6):
        check(used, message_of(range(100, 150), later=later))
    check(used, message_of(range(50), later=6))


def test_a_symbol_has_one_number() -> None:
    vocabulary = Vocabulary()
    symbols = ["", "a", "b", "c"]
    numbers, stale = vocabulary.find(symbols), vocabulary.find(symbols)
    vocabulary.add(symbols, numbers, np.array([1, 2, 2]))
    vocabulary.add(symbols, stale, np.array([1, 3]))
    assert (numbers.tolist(), stale.tolist()) == ([0, 1, 2, 0], [0, 1, 0, 3])
    assert vocabulary.find(["c", "new", "b"]).tolist() == [3, 0, 2]
    codes = vocabulary.encode(vocabulary.find(["", "b", "a"]))
    assert codes[:4].tolist() == [ABSENT, 2, 1, ABSENT]


def test_strays_in_a_row_end_an_order() -> None:
    with patch.object(orders, "STRAYS", 3):
        flags = np.array([1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1], np.bool_)
        assert count_before_strays(flags) == 6
        assert count_before_strays(flags[:8]) == 8
        assert count_before_strays(~flags[6:10]) == 4
        assert count_before_strays(flags[6:10]) == 0


@hypothesis_settings(max_examples=60)
@given(st.data())
def test_series_in_nearly_the_same_order_are_not_mistaken(data: st.DataObject) -> None:
    used = decoder()
    order = list(range(60))
    with (
        patch.object(orders, "DISTANCE", data.draw(st.integers(1, 20))),
        patch.object(orders, "STRAYS", data.draw(st.integers(1, 10))),
        patch.object(ahead, "TRIES", data.draw(st.integers(0, 10))),
    ):
        for later in range(10):
            turned, values = change(order, data)
            wide = data.draw(st.sampled_from([0, 100, 130]))
            check(used, message_of(turned, values, later, wide=wide))


@hypothesis_settings(max_examples=100)
@given(st.data())
def test_bytes_that_differ_are_not_mistaken(data: st.DataObject) -> None:
    used = decoder()
    message = message_of(range(30), (1.0, 0.0, 2.5))
    for seed in range(3):
        check(used, with_other_symbols(message, seed))
    changed = bytearray(with_other_symbols(message, 3))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(changed) - 1))
        change = data.draw(st.binary(max_size=3))
        changed[start : start + data.draw(st.integers(0, 3))] = change
    expected = read_newer(bytes(changed))
    for _ in range(2):
        if expected is None:
            with pytest.raises(BadRequestError):
                used.decode(bytes(changed))
        else:
            assert meaning(used, bytes(changed)) == expected


def test_timestamps_of_another_size_are_left_to_protobuf() -> None:
    assert len(encoded_timestamp(NOW)) == 7
    used = decoder()
    for later in range(5):
        request = Request2(["", f"only at {later}"])
        for number in range(30):
            time = NOW if later < 4 or number != 9 else 2**42
            request.add({**STATUS, "n": str(number)}, (1.0, time))
        found = taken(used, request.encoded())
    assert found == (9, 20)
