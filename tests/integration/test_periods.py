"""Report periods across midnight, month ends and clock changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from receiver.storage.connection.database import Connection
from receiver.storage.editing.calendar import Shift, add_shift
from receiver.storage.reading.periods import find_range, find_shift, find_unit
from receiver.storage.reading.tables import connect
from receiver.web.periods import Shown
from tests.conftest import MakeSettings

SEOUL = ZoneInfo("Asia/Seoul")
SET_ZONE = "UPDATE report_settings SET time_zone = $1"


@pytest.fixture
async def reading(database_url: str, make_settings: MakeSettings) -> AsyncIterator[Connection]:
    async with connect(make_settings(database_url=database_url)) as connection:
        yield connection


@pytest.mark.parametrize(
    ("kind", "day", "first", "before", "after"),
    [
        ("day", date(2026, 11, 28), date(2026, 11, 28), date(2026, 11, 27), date(2026, 11, 29)),
        ("week", date(2026, 11, 28), date(2026, 11, 23), date(2026, 11, 16), date(2026, 11, 30)),
        ("month", date(2026, 12, 31), date(2026, 12, 1), date(2026, 11, 1), date(2027, 1, 1)),
        ("month", date(2026, 3, 1), date(2026, 3, 1), date(2026, 2, 1), date(2026, 4, 1)),
    ],
)
async def test_days_weeks_and_months(
    reading: Connection, kind: str, day: date, first: date, before: date, after: date
) -> None:
    await reading.execute(SET_ZONE, "Asia/Seoul")
    period = Shown.of(await find_unit(reading, kind, day))
    assert (period.day, period.before, period.after) == (first, before, after)
    assert period.since.astimezone(SEOUL).isoformat() == f"{first}T00:00:00+09:00"
    assert period.until.astimezone(SEOUL).date() == after
    assert period.previous is not None
    assert period.previous[1] == period.since


async def test_a_day_may_have_25_hours(reading: Connection) -> None:
    await reading.execute(SET_ZONE, "America/New_York")
    period = Shown.of(await find_unit(reading, "day", date(2026, 11, 1)))
    assert period.until - period.since == timedelta(hours=25)


@hypothesis_settings(
    derandomize=True,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    day=st.dates(date(1990, 1, 1), date(2090, 1, 1)), kind=st.sampled_from(["day", "week", "month"])
)
async def test_periods_follow_one_another(reading: Connection, day: date, kind: str) -> None:
    await reading.execute(SET_ZONE, "America/New_York")
    period = Shown.of(await find_unit(reading, kind, day))
    assert period.day <= day < period.after
    following = Shown.of(await find_unit(reading, kind, period.after))
    assert following.since == period.until
    assert following.before == period.day


async def test_a_range_is_compared_with_as_much_before_it(reading: Connection) -> None:
    await reading.execute(SET_ZONE, "Asia/Seoul")
    since, until = datetime(2026, 1, 1, 20, tzinfo=UTC), datetime(2026, 1, 4, 20, tzinfo=UTC)
    period = Shown.of(await find_range(reading, since, until))
    assert period.previous == (datetime(2025, 12, 29, 20, tzinfo=UTC), since)
    assert period.day == date(2026, 1, 2)


async def test_the_shift_of_a_day_and_its_neighbours(reading: Connection) -> None:
    await add_shift(reading, Shift("day", time(7), time(19), [1, 2, 3, 4, 5], False))
    await add_shift(reading, Shift("night", time(19), time(7), [1, 2, 3, 4, 5, 6, 7], False))
    found = await find_shift(reading, None, date(2026, 11, 6))
    assert found is not None
    # Two shifts have started on that day: the later one is found.
    assert found.period.name == "night"
    # A Friday.
    found = await find_shift(reading, "day", date(2026, 11, 6))
    assert found is not None
    period = Shown.of(found)
    assert period.since == datetime(2026, 11, 6, 7, tzinfo=UTC)
    assert period.previous == tuple(datetime(2026, 11, 5, hour, tzinfo=UTC) for hour in (7, 19))
    assert (period.before, period.after) == (date(2026, 11, 5), date(2026, 11, 9))
    for name, day in (("late", None), ("day", date(2026, 11, 7))):
        assert await find_shift(reading, name, day) is None


async def test_the_newest_shift_that_has_started(reading: Connection) -> None:
    for hour in range(24):
        starts, ends = time(hour), time((hour + 1) % 24)
        await add_shift(reading, Shift(f"at {hour}", starts, ends, [1, 2, 3, 4, 5, 6, 7], False))
    now = datetime.fromisoformat(await reading.fetchval("SELECT now()"))
    found = await find_shift(reading, None, None)
    assert found is not None
    period = Shown.of(found)
    assert period.since <= now < period.until + timedelta(minutes=1)
    assert period.previous is not None
    assert period.previous[0] == period.since - timedelta(days=1)
