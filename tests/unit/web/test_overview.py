"""Today's figures of each source, and the links to other pages."""

from __future__ import annotations

from datetime import UTC, datetime

from receiver.storage.reading.states import State
from receiver.storage.reading.stretches import Stretch
from receiver.web.floor_pages import lasts_long
from receiver.web.overview import figures, numbers, starts
from tests.unit.web.test_listing import item


def test_failures_are_counted_where_they_begin() -> None:
    history = [
        Stretch(State.FAILURE, 1, 0, 100),
        Stretch(State.OK, 0, 100, 200),
        # One failure of two codes, and one after an unknown time.
        Stretch(State.FAILURE, 1, 200, 210),
        Stretch(State.FAILURE, 2, 210, 250),
        Stretch(State.FAILURE, 2, 300, 350),
        Stretch(State.PLANNED, None, 350, 900),
    ]
    assert figures(history, -1) == (3, 100 / 300)
    # A failure that began earlier is not counted, but its time is.
    assert figures(history, 50) == (2, 100 / 250)
    assert figures(history, 400) == (0, None)
    assert figures([], 0) == (0, None)


def test_where_the_parts_of_the_bar_begin() -> None:
    tally = {State.FAILURE: 2, State.SILENT: 0, State.PLANNED: 1, State.OK: 5, State.NONE: 0}
    assert list(starts(tally)) == [(State.FAILURE, 0), (State.PLANNED, 2), (State.OK, 3)]


def test_the_first_the_last_and_the_near_pages_are_linked() -> None:
    assert numbers(1, 1) == [1]
    assert numbers(10, 20) == [1, 8, 9, 10, 11, 12, 20]


def test_a_failure_may_have_begun_before_what_was_looked_at() -> None:
    now = datetime.fromtimestamp(200_000, UTC)
    # The source is silent after 15 seconds without a row.
    for state, since, long in (
        (State.FAILURE, 200_000 - 86_400 + 20, True),
        (State.PLANNED, 200_000 - 86_400 + 20, True),
        (State.FAILURE, 200_000 - 86_400 + 40, False),
        (State.SILENT, 0, False),
    ):
        assert lasts_long(item(1, state, since), now) == long
