"""Requests in flight are counted, and requests beyond the limits are refused."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import OverloadedError
from receiver.http.limits import InFlight


def counts(in_flight: InFlight) -> tuple[int, int, int]:
    return in_flight.requests, in_flight.arriving, in_flight.size


def test_a_request_is_counted_in_and_out() -> None:
    in_flight = InFlight(10, 100, 100)
    with in_flight.admit() as admission:
        assert counts(in_flight) == (1, 1, 0)
        admission.claim(40)
        assert counts(in_flight) == (1, 1, 40)
        admission.arrive()
        assert counts(in_flight) == (1, 0, 40)
    assert counts(in_flight) == (0, 0, 0)


def test_a_request_arrives_once() -> None:
    in_flight = InFlight(10, 100, 100)
    with in_flight.admit() as first, in_flight.admit():
        first.arrive()
        first.arrive()
        assert in_flight.arriving == 1
    assert in_flight.arriving == 0


def fail(in_flight: InFlight) -> None:
    with in_flight.admit() as admission:
        admission.claim(40)
        raise LookupError


def test_a_request_that_fails_is_counted_out() -> None:
    in_flight = InFlight(10, 100, 100)
    with pytest.raises(LookupError):
        fail(in_flight)
    assert counts(in_flight) == (0, 0, 0)


def test_one_request_too_many_is_refused() -> None:
    in_flight = InFlight(2, 100, 100)
    with in_flight.admit():
        with in_flight.admit():
            with (
                pytest.raises(OverloadedError, match="2 requests are in flight") as refusal,
                in_flight.admit(),
            ):
                pass
            assert "RECEIVER_MAX_IN_FLIGHT_REQUESTS" in str(refusal.value)
            assert refusal.value.status == 503
            assert counts(in_flight) == (2, 2, 0)
        with in_flight.admit():
            assert in_flight.requests == 2


def test_bytes_too_many_are_refused() -> None:
    in_flight = InFlight(10, 100, 100)
    with in_flight.admit() as first, in_flight.admit() as second:
        first.claim(60)
        second.claim(40)
        with pytest.raises(OverloadedError, match="RECEIVER_MAX_IN_FLIGHT_SIZE") as refusal:
            second.claim(1)
        assert refusal.value.status == 503
        assert "100" in str(refusal.value)
        assert second.size == 40
        assert in_flight.size == 100
    assert in_flight.size == 0


def test_the_first_bytes_are_taken_however_many() -> None:
    in_flight = InFlight(10, 100, 100)
    with in_flight.admit() as admission:
        admission.claim(1000)
        assert in_flight.size == 1000
        with in_flight.admit() as other, pytest.raises(OverloadedError):
            other.claim(1)
    assert in_flight.size == 0


def test_a_refused_claim_leaves_room_as_it_was() -> None:
    in_flight = InFlight(10, 100, 100)
    with in_flight.admit() as first:
        first.claim(90)
        with in_flight.admit() as second:
            with pytest.raises(OverloadedError):
                second.claim(20)
            second.claim(10)
        assert in_flight.size == 90


@given(st.lists(st.lists(st.integers(0, 60), max_size=4), max_size=8))
def test_what_is_counted_is_what_is_under_way(requests: list[list[int]]) -> None:
    in_flight = InFlight(5, 100, 100)
    sizes: list[int] = []
    with ExitStack() as stack:
        for claims in requests:
            try:
                admission = stack.enter_context(in_flight.admit())
            except OverloadedError:
                assert in_flight.requests == len(sizes) == 5
                continue
            sizes.append(0)
            for size in claims:
                try:
                    admission.claim(size)
                except OverloadedError:
                    assert sum(sizes) + size > 100
                else:
                    sizes[-1] += size
            assert counts(in_flight) == (len(sizes), len(sizes), sum(sizes))
            # A request that is alone may exceed the limit.
            assert sum(sizes) <= 100 or sum(map(bool, sizes)) == 1
    assert counts(in_flight) == (0, 0, 0)


def test_a_lone_request_gets_room_for_all_its_claims() -> None:
    with InFlight(10, 100, 100).admit() as admission:
        admission.claim(10)
        admission.claim(95)
