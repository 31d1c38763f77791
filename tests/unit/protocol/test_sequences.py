"""Series in an order in which they came before are read as protobuf's own parser reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Final
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from receiver.protocol import samples, sequences, strips, v1, v2, wire
from receiver.protocol.sequences import Sequences
from receiver.protocol.series import SeriesCache
from receiver.protocol.strips import read_timestamps
from receiver.protocol.v1 import Decoder
from tests.fuzz.differential import few_at_once
from tests.meanings import KEPT, check_older, meaning, read_newer, read_older
from tests.messages import (
    NOW,
    encoded_timestamp,
    field,
    framed,
    series,
    write_request,
    write_request2,
)
from tests.orders import change

STATUS: Final = {"__name__": "app_status", "instance": "a"}
UP: Final = {"__name__": "up", "instance": "a"}


@pytest.fixture(autouse=True)
def compared_however_few() -> Iterator[None]:
    with few_at_once():
        yield


def decoder(size: int = 2**22) -> Decoder:
    return Decoder(SeriesCache(KEPT, size))


def message_of(numbers: Iterable[int], values: Sequence[float] = (1.0,), later: int = 0) -> bytes:
    """Build a message of series, two thirds of them kept; the values are assigned in turn."""
    return write_request(
        *(
            series(
                {**(STATUS if number % 3 else UP), "n": str(number)},
                (values[place % len(values)], NOW + later + number % 2),
            )
            for place, number in enumerate(numbers)
        )
    )


def taken(used: Decoder, message: bytes) -> int:
    """Decode a message; return how many of its series were known by their order."""
    found: list[int] = []
    with counted(found):
        check_older(used, message)
    return sum(found)


@contextmanager
def counted(found: list[int]) -> Iterator[None]:
    """Append how many series were known by their order, for each message that is compared."""
    read = Sequences.read

    def reading(self: Sequences, message: bytes) -> sequences.Rest:
        rest = read(self, message)
        found.append(rest.taken)
        return rest

    with patch.object(Sequences, "read", reading):
        yield


def test_an_order_is_known_from_the_second_time_on() -> None:
    used = decoder()
    assert [taken(used, message_of(range(50), later=later)) for later in range(3)] == [0, 50, 50]


@pytest.mark.parametrize("piece", [4096, 7], ids=["one strip", "many strips"])
def test_the_order_of_more_series_than_are_looked_up_at_once_is_known(piece: int) -> None:
    used = decoder()
    with (
        patch.object(v1, "AT_ONCE", 20),
        patch.object(sequences, "PIECE", piece),
        patch.object(sequences, "TRIES", 24),
    ):
        found = [taken(used, message_of(range(50), later=later)) for later in range(3)]
        assert found == [0, 50, 50]
        # Half of the series are new, and their order is learned after those that are known.
        assert taken(used, message_of(range(100))) == 50
        assert taken(used, message_of(range(100))) == 100


def test_the_order_of_as_many_series_of_2_0_is_known() -> None:
    used = v2.Decoder(SeriesCache(KEPT, 2**22))
    found: list[int] = []
    with patch.object(v2, "AT_ONCE", 20), patch.object(sequences, "PIECE", 30):
        for later in range(5):
            message = write_request2(
                *(({**STATUS, "n": str(number)}, 1.0, NOW + later) for number in range(50))
            )
            with counted(found):
                assert meaning(used, message) == read_newer(message)
    # A symbol table is compared from its second request on; references are learned with that one.
    assert found == [0, 0, 50, 50]


def test_a_long_order_is_learned_in_many_steps() -> None:
    """Between two steps, other tasks run."""
    used = decoder()
    message = message_of(range(200))
    check_older(used, message)
    used._sequences.clear()
    before = sum(1 for _ in used.steps(message))
    used._sequences.clear()
    with patch.object(sequences, "PIECE", 10):
        assert sum(1 for _ in used.steps(message)) == before - 1 + 20


def test_only_an_unusual_encoding_is_not_learned_silently() -> None:
    metadata = field(3, field(2, b"app_status"))
    used = decoder()
    for _ in range(2):
        assert taken(used, message_of(range(50)) + metadata) == 0
    with (
        patch.object(sequences, "Strip", side_effect=ValueError("a mistake")),
        pytest.raises(ValueError, match="a mistake"),
    ):
        used.decode(message_of(range(50)))


def test_values_and_timestamps_are_those_of_the_message() -> None:
    used = decoder()
    for later, values in enumerate([(1.0,), (2.5,), (-1e300, 7e-310), (float("inf"),)]):
        check_older(used, message_of(range(50), values, later * 60_000))


def test_requests_that_roll_over_series_are_known_by_their_order() -> None:
    used = decoder()
    # Else the last few of a request may be looked up, where the place of none of them is kept.
    with patch.object(sequences, "DISTANCE", 1):
        number = 0
        for size in (40, 30, 9):
            for _ in range(4 * 100 // size):
                some = [one % 100 for one in range(number, number + size)]
                number += size
                check_older(used, message_of(some, later=number))
            assert taken(used, message_of(some)) == size


def test_series_whose_values_become_zero_are_known_once_that_is_seen() -> None:
    used = decoder()
    found = [
        taken(used, message_of(range(50), [float(one % 7 == zero % 7) for one in range(7)]))
        for zero in range(14)
    ]
    # An order; then one with the zeros written out.
    assert found == [0] * 2 + [50] * 12


def test_a_few_series_that_differ_leave_the_others_known() -> None:
    used = decoder()
    with patch.object(sequences, "TRIES", 24):
        for _ in range(3):
            check_older(used, message_of(range(50)))
        values = [1.0] * 50
        values[3] = values[30] = 0.0
        assert taken(used, message_of(range(50), values)) == 48
        assert taken(used, message_of([*range(20), 1000, *range(21, 50)])) == 49
        assert taken(used, message_of([*range(20), 1000, *range(20, 50)])) == 50
        assert taken(used, message_of([*range(20), *range(25, 50)])) == 45


def test_a_series_at_fault_is_named_by_its_place_in_the_request() -> None:
    used = decoder()
    with patch.object(sequences, "TRIES", 24):
        for _ in range(3):
            check_older(used, message_of(range(50)))
        nameless = {"instance": "a", "n": "nameless"}
        whole = message_of(range(30)) + write_request(series(nameless, (1.0, NOW)))
        faults = used.decode(whole + message_of(range(31, 50))).faults
    assert (faults.invalid, faults.total) == (1, 50)
    assert faults.first[0].startswith("series 30 ")


@pytest.mark.parametrize("before", [1, 127, 128, 300])
def test_a_size_that_takes_more_bytes_with_a_value_than_without(before: int) -> None:
    """A series of 119 to 127 bytes whose zero is left out has more than 127 with another value."""
    used = decoder()
    labels = [
        {**STATUS, "n": str(number), "x": "x" * size}
        for number, size in enumerate(range(max(0, before - 60), before + 20))
    ]
    random = Random(before)
    for _ in range(12):
        values = [random.choice([0.0, 1.0]) for _ in labels]
        check_older(
            used,
            write_request(
                *(series(one, (value, NOW)) for one, value in zip(labels, values, strict=True))
            ),
        )


def test_what_looks_like_a_sample_within_labels_or_values_is_none() -> None:
    used = decoder()
    labels = [{**STATUS, "n": f"{number}\x12\x07\x10"} for number in range(20)]
    value = float(np.frombuffer(b"\1\x12\x07\x10\1\1\1\x40", "<f8")[0])
    for turn in range(8):
        for one in (labels, [{**STATUS, "n": str(number)} for number in range(20)]):
            check_older(
                used,
                write_request(
                    *(
                        series(each, (value if (place + turn) % 4 else 0.0, NOW))
                        for place, each in enumerate(one)
                    )
                ),
            )


def test_a_zero_that_is_written_is_no_zero_that_is_left_out() -> None:
    """The size with a written zero differs from the size without it."""
    used = decoder()
    for zero in range(6):
        check_older(used, message_of(range(40), [float(one % 5 == zero) for one in range(5)]))
    labels = series({**STATUS, "n": "1"}).SerializeToString()
    stamp = encoded_timestamp(NOW)
    written = framed(labels + field(2, b"\x09" + bytes(8) + stamp))
    check_older(used, message_of([0]) + written + message_of(range(2, 40)))
    # The same bytes, but with the size of the other form, in both directions.
    wrong = bytearray(written)
    wrong[1] -= 9
    assert read_older(message_of([0]) + bytes(wrong) + message_of(range(2, 40))) is None
    with pytest.raises(Exception, match="WriteRequest"):
        used.decode(message_of([0]) + bytes(wrong) + message_of(range(2, 40)))


def test_orders_are_remembered_in_bounded_memory() -> None:
    used = decoder(2**20)
    rotated = [message_of([*range(first, 40), *range(first)]) for first in range(40)]
    for message in (*rotated, *rotated, *reversed(rotated)):
        check_older(used, message)
        assert 0 < used._sequences.size <= 2**20 // 4 or message is rotated[0]
    assert used._sequences._strips.places
    used._sequences.clear()
    with patch.object(sequences, "MAX_STRIP_SIZE", 100):
        for message in rotated:
            check_older(used, message)
    assert not used._sequences._strips.places


def test_what_is_forgotten_leaves_nothing_behind() -> None:
    used = decoder(2**17)
    for first in range(0, 3000, 30):
        for _ in range(2):
            check_older(used, message_of(range(first, first + 30)))
    held = {
        labels for learned in used._sequences._strips.learned.values() for labels in learned.places
    }
    assert set(used._sequences._strips.places) == held
    assert used._sequences.size == sum(one.size for one in used._sequences._strips.learned.values())


def test_the_order_of_a_sender_without_one_is_learned_ever_less_often() -> None:
    used = decoder()
    random = Random(1)
    learned = []
    with patch.object(sequences, "MAX_PAUSE", 64):
        for _ in range(400):
            numbers = list(range(60))
            random.shuffle(numbers)
            with patch.object(sequences, "Strip", wraps=strips.Strip) as strip:
                check_older(used, message_of(numbers))
            learned.append(strip.called)
        assert sum(learned[300:]) < 10
        assert len(used._sequences._strips.learned) < 10
        # A sender that has an order again is recognized again.
        assert [taken(used, message_of(range(60))) for _ in range(80)][-1] == 60


@hypothesis_settings(max_examples=50)
@given(st.data())
def test_series_in_nearly_the_same_order_are_not_mistaken(data: st.DataObject) -> None:
    used = decoder()
    order = list(range(60))
    with (
        patch.object(sequences, "DISTANCE", data.draw(st.integers(1, 20))),
        patch.object(sequences, "TRIES", data.draw(st.integers(0, 60))),
        patch.object(strips, "BLOCK", data.draw(st.integers(1, 4000))),
    ):
        for _ in range(12):
            check_older(used, message_of(*change(order, data)))


@given(st.lists(st.integers(2**35, 2**42 - 1), min_size=1))
def test_timestamps_are_read_as_one_by_one(times: list[int]) -> None:
    encoded = [encoded_timestamp(time) for time in times]
    words = np.frombuffer(b"".join(b"\xff" + one for one in encoded), "<u8")
    assert read_timestamps(words).tolist() == times
    assert [samples.read_timestamp(one) for one in encoded] == times


def test_runs_of_one_series_are_not_compared_one_by_one() -> None:
    """Each of them is found in a known order, but never the one that comes after it there."""
    used = decoder()
    for _ in range(3):
        check_older(used, message_of(range(400)))
    with (
        patch.object(sequences, "DISTANCE", 1),
        patch.object(strips.Strip, "match", autospec=True, side_effect=strips.Strip.match) as match,
    ):
        check_older(used, message_of(range(0, 400, 8)))
    assert match.call_count < 20


def test_a_large_message_is_read_in_steps_though_all_of_it_is_known() -> None:
    used = decoder()
    message = message_of(range(400))
    for _ in range(3):
        check_older(used, message)
    assert taken(used, message) == 400
    used.whole = 4096
    with patch.object(wire, "PART", 4096):
        steps = sum(1 for _ in used.steps(message))
    assert steps >= len(message) // 4096


def test_what_looks_like_too_many_samples_takes_no_memory() -> None:
    assert strips.find_zeros(b"\x12\x07\x10" * 1000).size == 0
    assert strips.find_zeros((b"\x12\x07\x10" + bytes(13)) * 1000).tolist() == [
        *range(0, 16_000, 16)
    ]


def test_a_small_message_is_not_compared() -> None:
    assert v1.WHOLE > 4096
    with patch.object(sequences, "MIN_SIZE", 10**6):
        used = decoder()
        assert [taken(used, message_of(range(50))) for _ in range(4)] == [0] * 4
