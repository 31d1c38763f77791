"""The appearance of states and codes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from receiver.storage.reading.states import State
from receiver.web.looks import HUES, PATTERNS, look_of, looks_of, places

codes = st.sets(st.integers(-(2**31), 2**31 - 1) | st.integers(0, 200), max_size=HUES * PATTERNS)


@given(codes)
def test_so_many_codes_look_apart(known: set[int]) -> None:
    look = looks_of(known, {})
    looks = [look(code) for code in known]
    assert len(set(looks)) == len(known)


@given(st.sets(st.integers(1, 10_000), max_size=HUES))
def test_few_codes_have_different_colours(known: set[int]) -> None:
    look = looks_of(known, {})
    assert len({look(code).colour for code in known}) == len(known)


@given(codes, st.integers(1, 10_000))
def test_a_code_keeps_its_look_when_a_higher_one_is_added(known: set[int], more: int) -> None:
    before = places(known)
    after = places(known | {max((abs(code) for code in known), default=0) + more})
    assert {code: after[code] for code in before} == before


def test_more_codes_than_looks() -> None:
    known = places(range(1, 200))
    assert len(set(known.values())) == HUES * PATTERNS


def test_each_state_has_a_look_of_its_own() -> None:
    states = (State.OK, State.PLANNED, State.SILENT, State.FAILURE)
    looks = [look_of(state) for state in states]
    assert len({look.colour for look in looks}) == len({look.pattern for look in looks}) == 4
    assert looks_of([5], {5: State.OK})(5).colour == "ok"
