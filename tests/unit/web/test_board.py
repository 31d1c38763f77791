"""The content of the board, and the size of its tiles."""

from __future__ import annotations

import pytest

from receiver.storage.reading.states import State
from receiver.web.board import MOST_ALARMS, MOST_ROWS, TURN, Board, lay_out, usual_group
from receiver.web.listing import Item
from tests.unit.web.test_listing import item

WORDS = {state: state.value for state in State}


def sources(failing: int, well: int) -> list[Item]:
    return [
        item(
            number,
            State.FAILURE if number < failing else State.OK,
            float(number),
            instance=f"10.1.0.{number}:9100",
            line="AB"[number % 2],
        )
        for number in range(failing + well)
    ]


def board(failing: int, well: int, now: float = 0.0) -> Board:
    return lay_out(sources(failing, well), "line", now, WORDS)


@pytest.mark.parametrize(
    ("failing", "grid"),
    [(0, (1, 1)), (1, (1, 1)), (2, (2, 1)), (3, (3, 1)), (5, (3, 2)), (12, (4, 3)), (99, (5, 4))],
)
def test_few_alarms_are_larger(failing: int, grid: tuple[int, int]) -> None:
    laid = board(failing, 5)
    assert (laid.columns, laid.rows) == grid
    # More alarms than fit are shown in turns of equal size.
    assert len(laid.alarms) == (failing if failing <= MOST_ALARMS else 20)
    assert all(tile.item.state is State.FAILURE for tile in laid.alarms)


def test_every_alarm_has_its_turn() -> None:
    seen: set[int] = set()
    for turn in range(3):
        laid = board(50, 0, turn * TURN)
        assert (laid.turn, laid.turns) == (turn + 1, 3)
        seen |= {tile.item.source.id for tile in laid.alarms}
    assert len(seen) == 50


def test_small_tiles_are_in_the_order_in_which_people_count() -> None:
    names = [f"10.1.0.{number}" for number in (2, 6, 10, 18)]
    lines = ("line 2", "line 10")
    items = [
        item(10 * place + number, instance=name, line=line)
        for place, line in enumerate(lines)
        for number, name in enumerate(reversed(names))
    ]
    laid = lay_out(items, "line", 0.0, WORDS)
    assert [(tile.group, tile.item.name) for tile in laid.small] == [
        (line, name) for line in lines for name in names
    ]
    many = [item(number, line=f"line {number % 12}") for number in range(300)]
    groups = lay_out(many, "line", 0.0, WORDS).groups
    assert [group.name for group in groups] == [f"line {number}" for number in range(12)]


def test_groups_that_differ_in_case_alone_are_listed_once() -> None:
    items = [item(number, line=("a1", "A1", "a01")[number % 3]) for number in range(300)]
    groups = lay_out(items, "line", 0.0, WORDS).groups
    assert sorted(group.name for group in groups) == ["A1", "a01", "a1"]


def test_sources_that_are_well_have_small_tiles_as_long_as_they_are_readable() -> None:
    laid = board(1, 20)
    assert len(laid.small) == 20
    assert [tile.group for tile in laid.small] == sorted(tile.group for tile in laid.small)
    assert laid.below <= MOST_ROWS
    laid = board(1, 299)
    assert laid.small == []
    assert [(group.name, group.well, group.total) for group in laid.groups] == [
        ("A", 149, 150),
        ("B", 150, 150),
    ]


def test_planned_stops_take_no_room_from_alarms() -> None:
    def planned(number: int) -> Board:
        items = [item(place, State.PLANNED, instance=str(place)) for place in range(number)]
        alarms = [item(100, State.FAILURE, instance="a"), item(101, State.SILENT, instance="b")]
        return lay_out([*items, *alarms], "", 0, WORDS)

    few = planned(3)
    assert [tile.title for tile in few.alarms] == ["NETWORK_ERROR", "silent", *["planned"] * 3]
    many = planned(30)
    assert [tile.title for tile in many.alarms] == ["NETWORK_ERROR", "silent"]
    assert many.turns == 1
    assert {tile.item.state for tile in many.small} == {State.PLANNED}


def test_names_are_cut_for_small_tiles_only_if_they_can_be_told_apart() -> None:
    def small(ending: str) -> list[str]:
        names = [f"inspection-station-number-{n}{ending}" for n in range(20)]
        items = [item(place, State.OK, instance=name) for place, name in enumerate(names)]
        return [tile.name for tile in lay_out(items, "", 0, WORDS).small]

    assert small("")[-1] == "inspecti…umber-19"
    assert small("-of-the-hall-in-the-north") == []


def test_groups_look_like_their_worst_source() -> None:
    states = {"A": State.FAILURE, "B": State.SILENT, "C": State.PLANNED, "D": State.OK}
    items = [
        item(place * 200 + number, state if number == 0 else State.OK, line=line)
        for place, (line, state) in enumerate(states.items())
        for number in range(40)
    ]
    groups = lay_out(items, "line", 0, WORDS).groups
    assert [(group.name, group.worst) for group in groups] == list(states.items())


def test_the_same_port_of_all_is_left_out() -> None:
    assert board(1, 1).alarms[0].name == "10.1.0.0"
    mixed = [item(1, State.FAILURE, instance="a:1"), item(2, State.FAILURE, instance="a:2")]
    names = [tile.name for tile in lay_out(mixed, "", 0, WORDS).alarms]
    assert names == ["a:1", "a:2"]


def test_a_usual_label_groups() -> None:
    assert usual_group(sources(0, 8)) == "line"
    assert usual_group([]) == ""


def test_silent_and_planned_say_so() -> None:
    laid = lay_out([item(1, State.SILENT), item(2, State.PLANNED)], "", 0, WORDS)
    assert [tile.title for tile in laid.alarms] == ["silent", "planned"]


def test_the_names_of_alarms_keep_their_ends() -> None:
    ends = ("north", "south")
    long = [
        item(number, State.FAILURE, instance=f"a very long name of a camera {end}")
        for number, end in enumerate(ends)
    ]
    names = [tile.name for tile in lay_out(long, "", 0, WORDS).alarms]
    assert [name[-5:] for name in names] == list(ends)
    assert {len(name) for name in names} == {19}
