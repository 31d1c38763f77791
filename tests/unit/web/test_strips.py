"""Strips show the share of each state per bucket, compared with a slow, obvious model."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.storage.reading.states import State
from receiver.storage.reading.stretches import Stretch
from receiver.web.strips import HEIGHT, LEAST, STEPS, Key, aggregate, paths, stack, totals

OK, FAILURE = Key(State.OK, 0), Key(State.FAILURE, 2)
keys = st.sampled_from([OK, FAILURE, Key(State.FAILURE, 7), Key(State.PLANNED, None)])


@st.composite
def histories(draw: st.DrawFn) -> list[Stretch]:
    """Draw stretches in whole seconds that do not overlap, with gaps."""
    edges = sorted(draw(st.sets(st.integers(-50, 450), max_size=40)))
    pairs = pairwise(edges)
    return [
        Stretch(*draw(keys), float(start), float(end))
        for start, end in pairs
        if draw(st.booleans())
    ]


def model(history: list[Stretch], since: int, until: int, buckets: int) -> list[dict[Key, float]]:
    """Compute the shares from the state at each tenth of a second."""
    found: list[dict[Key, float]] = [{} for _ in range(buckets)]
    steps = (until - since) * 10
    for step in range(steps):
        time = since + (step + 0.5) / 10
        place = step * buckets // steps
        for state, code, start, end in history:
            if start <= time < end:
                key = Key(state, code)
                found[place][key] = found[place].get(key, 0) + buckets / steps
    return found


@given(histories(), st.integers(0, 100), st.sampled_from([1, 5, 10, 20]))
def test_shares_are_those_of_the_model(history: list[Stretch], since: int, buckets: int) -> None:
    until = since + 200
    found = aggregate(history, since, until, buckets)
    expected = model(history, since, until, buckets)
    for one, other in zip(found, expected, strict=True):
        known = {key: share for key, share in one.items() if share > 1e-6}
        assert known == pytest.approx(other)


@given(histories())
def test_what_is_drawn_fits(history: list[Stretch]) -> None:
    drawn = paths(aggregate(history, 0, 400, 40))
    covered = 0.0
    for _, d in drawn:
        for x, y, width, height in re.findall(r"M(\d+) ([\d.]+)h(\d+)v([\d.]+)", d):
            assert float(x) + float(width) <= 40
            assert 0 <= float(y) <= float(y) + float(height) <= HEIGHT + 1e-9
            covered += float(width) * float(height)
    assert covered <= 40 * HEIGHT + 1e-6


def test_the_shortest_failure_is_seen() -> None:
    day = 86_400.0
    history = [
        Stretch(State.OK, 0, 0, 1000),
        Stretch(State.FAILURE, 2, 1000, 1001),
        Stretch(State.OK, 0, 1001, 90 * day),
    ]
    drawn = {path.key: path.d for path in paths(aggregate(history, 0, 90 * day))}
    assert drawn[FAILURE].count("M") == 1
    heights = dict(stack({OK: 0.9999, FAILURE: 0.0001}))
    assert heights[FAILURE] == round(LEAST * STEPS)
    assert sum(heights.values()) == STEPS


def test_a_source_that_flaps_is_drawn_as_shares() -> None:
    history = [
        Stretch(*(FAILURE if place % 2 else OK), place * 5.0, place * 5.0 + 5)
        for place in range(120_960)
    ]
    drawn = paths(aggregate(history, 0, 604_800))
    # Half of each bucket is failing, which is drawn as one uniform path.
    assert [path.d.count("M") for path in drawn] == [1, 1]
    assert totals(history, 0, 604_800) == {State.OK: 302_400, State.FAILURE: 302_400}


def test_what_is_unknown_is_left_out() -> None:
    assert stack({}) == ()
    assert stack({OK: 0.5}) == ((OK, STEPS // 2),)
