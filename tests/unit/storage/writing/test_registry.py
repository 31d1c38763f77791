"""The limit of additions per hour."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from receiver.storage.writing.registry import HOUR, Allowance


@given(
    st.integers(0, 20),
    st.lists(st.tuples(st.floats(0, HOUR), st.integers(0, 15)), max_size=30),
)
def test_no_hour_has_more_than_its_limit(limit: int, steps: list[tuple[float, int]]) -> None:
    now = 0.0
    allowance = Allowance(limit, lambda: now)
    spent: list[tuple[float, int]] = []
    for pause, wanted in steps:
        now += pause
        allowed = allowance.allow(wanted)
        left = limit - sum(number for at, number in spent if at > now - HOUR)
        assert allowed == min(wanted, left)
        allowance.spend(allowed)
        spent.append((now, allowed))


def test_without_a_limit_anything_may_be_added() -> None:
    allowance = Allowance(None)
    allowance.spend(10**9)
    assert allowance.allow(10**9) == 10**9
