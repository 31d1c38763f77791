"""Ticks of a time axis lie at round times of the reader's zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.web.ticks import MOST, ticks

SEOUL = ZoneInfo("Asia/Seoul")
ZONES = ["UTC", "Asia/Seoul", "Asia/Kathmandu", "America/New_York", "Australia/Lord_Howe"]


def texts(since: str, length: timedelta, zone: ZoneInfo = SEOUL) -> list[str]:
    start = datetime.fromisoformat(since).replace(tzinfo=UTC)
    return [tick.text for tick in ticks(start, start + length, zone)]


def test_round_times_in_the_zone() -> None:
    hours = texts("2026-11-27T05:32", timedelta(hours=24))
    assert hours == ["15:00", "18:00", "21:00", "11-28", "03:00", "06:00", "09:00", "12:00"]
    assert texts("2026-11-27T05:32", timedelta(minutes=5))[:2] == ["14:32", "14:33"]
    days = texts("2026-11-21T05:32", timedelta(days=7))
    assert days == ["11-22", "11-23", "11-24", "11-25", "11-26", "11-27", "11-28"]
    # Mondays.
    assert texts("2026-10-29T05:32", timedelta(days=30))[0] == "11-02"


def test_a_day_of_25_hours() -> None:
    zone = ZoneInfo("America/New_York")
    found = texts("2026-11-01T04:00", timedelta(hours=25), zone)
    assert found == ["00:00", "06:00", "12:00", "18:00", "11-02"]


@given(
    st.integers(946_684_800, 4_102_444_800),
    st.timedeltas(timedelta(minutes=1), timedelta(days=366)),
    st.sampled_from(ZONES),
)
def test_ticks_lie_within_and_are_few(since: int, length: timedelta, name: str) -> None:
    start = datetime.fromtimestamp(since, UTC)
    found = ticks(start, start + length, ZoneInfo(name))
    assert len(found) <= MOST + 1
    places = [tick.place for tick in found]
    assert places == sorted(set(places))
    assert all(0 <= place <= 100 for place in places)


@pytest.mark.parametrize("zone", ZONES)
def test_every_length_has_ticks(zone: str) -> None:
    for minutes in (1, 15, 60, 360, 1440, 10_080, 43_200, 129_600):
        start = datetime(2026, 3, 1, 0, 1, tzinfo=UTC)
        assert ticks(start, start + timedelta(minutes=minutes), ZoneInfo(zone))
