"""The periods of reports, over midnight, months and changes of the clocks."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.storage.reading.periods import ShiftTime
from receiver.web.periods import of_day, of_range, of_shift

SEOUL, NEW_YORK = ZoneInfo("Asia/Seoul"), ZoneInfo("America/New_York")


@pytest.mark.parametrize(
    ("kind", "day", "first", "before", "after"),
    [
        ("day", date(2026, 11, 28), date(2026, 11, 28), date(2026, 11, 27), date(2026, 11, 29)),
        ("week", date(2026, 11, 28), date(2026, 11, 23), date(2026, 11, 16), date(2026, 11, 30)),
        ("month", date(2026, 12, 31), date(2026, 12, 1), date(2026, 11, 1), date(2027, 1, 1)),
        ("month", date(2026, 3, 1), date(2026, 3, 1), date(2026, 2, 1), date(2026, 4, 1)),
    ],
)
def test_days_weeks_and_months(
    kind: str, day: date, first: date, before: date, after: date
) -> None:
    period = of_day(kind, day, SEOUL)
    assert (period.day, period.before, period.after) == (first, before, after)
    assert period.since.astimezone(SEOUL).isoformat() == f"{first}T00:00:00+09:00"
    assert period.until.astimezone(SEOUL).date() == after
    assert period.previous is not None
    assert period.previous[1] == period.since


def test_a_day_may_have_25_hours() -> None:
    period = of_day("day", date(2026, 11, 1), NEW_YORK)
    assert period.until - period.since == timedelta(hours=25)


@given(st.dates(date(1990, 1, 1), date(2090, 1, 1)), st.sampled_from(["day", "week", "month"]))
def test_periods_follow_one_another(day: date, kind: str) -> None:
    period = of_day(kind, day, NEW_YORK)
    assert period.day <= day < period.after
    following = of_day(kind, period.after, NEW_YORK)
    assert following.since == period.until
    assert following.before == period.day


def test_a_range_is_compared_with_as_much_before_it() -> None:
    since, until = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 5, tzinfo=UTC)
    assert of_range(since, until, SEOUL).previous == (datetime(2025, 12, 30, tzinfo=UTC), since)


def shifts() -> list[ShiftTime]:
    found = []
    for number in range(1, 5):
        for name, hour in (("day", 7), ("night", 19)):
            since = datetime(2026, 11, number, hour, tzinfo=UTC)
            found.append(ShiftTime(name, since.date(), since, since + timedelta(hours=12)))
    return found


def test_the_newest_shift_that_has_begun() -> None:
    now = datetime(2026, 11, 3, 3, tzinfo=UTC)
    period = of_shift(shifts(), "", None, now)
    assert period is not None
    # The night shift of the day before.
    assert (period.day, period.since.hour) == (date(2026, 11, 2), 19)
    assert period.previous is not None
    assert period.previous[0] == datetime(2026, 11, 1, 19, tzinfo=UTC)
    period = of_shift(shifts(), "day", date(2026, 11, 1), now)
    assert period is not None
    assert (period.previous, period.after) == (None, date(2026, 11, 2))
    assert of_shift(shifts(), "late", None, now) is None
    assert of_shift(shifts(), "day", date(2027, 1, 1), now) is None
