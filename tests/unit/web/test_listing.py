"""The sources that a page lists, their order and groups."""

from __future__ import annotations

import pytest

from receiver.storage.reading.states import SourceState, State
from receiver.web.listing import Item, Wanted, choose, counts, group_labels
from receiver.web.looks import look_of


def item(id_: int, state: State = State.OK, since: float = 0.0, **labels: str) -> Item:
    code = None if state is State.NONE else {State.FAILURE: 2}.get(state, 0)
    source = SourceState(id_, labels, state, code, None, since, 1.0, 15.0)
    names = {2: ("NETWORK_ERROR", "네트워크 장애"), 0: ("OK", ""), None: ("", "")}
    return Item(source, labels.get("instance", f"#{id_}"), look_of(state), *names[code], since)


ITEMS = [
    item(1, instance="cam-1", line="A"),
    item(2, State.FAILURE, 50, instance="cam-2", line="B"),
    item(3, State.FAILURE, 20, instance="cam-3", line="A"),
    item(4, State.SILENT, 10, instance="cam-4", line="C"),
    item(5, State.PLANNED, 10, instance="CAM-5"),
    item(6, State.NONE, instance="cam-6", line="C"),
]


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        # The worst state first, then the longest duration.
        (Wanted(), [3, 2, 4, 5, 1, 6]),
        (Wanted(sort="name"), [1, 2, 3, 4, 5, 6]),
        (Wanted(sort="newest", state=State.FAILURE), [2, 3]),
        (Wanted(words="line=a"), [3, 1]),
        (Wanted(words="LINE=A network"), [3]),
        (Wanted(words="네트워크"), [3, 2]),
        (Wanted(words="line=x"), []),
        (Wanted(words="cam-5"), [5]),
        (Wanted(words="2"), [3, 2]),
        (Wanted(code=0, sort="name"), [1, 4, 5]),
        # Groups with a problem first, those without the label after the others.
        (Wanted(group="line"), [3, 1, 2, 4, 6, 5]),
    ],
)
def test_what_is_wanted(wanted: Wanted, ids: list[int]) -> None:
    assert [one.source.id for one in choose(ITEMS, wanted)] == ids


@pytest.mark.parametrize("sort", ["problems", "name", "longest", "newest"])
def test_names_are_in_the_order_in_which_people_count(sort: str) -> None:
    items = [
        item(number, instance=f"cam-{number}", line=f"line {number // 6}") for number in range(66)
    ]
    ids = list(range(66))
    assert [one.source.id for one in choose(reversed(items), Wanted(sort=sort))] == ids
    assert [one.source.id for one in choose(items, Wanted(sort=sort, group="line"))] == ids


def test_labels_that_make_groups() -> None:
    assert group_labels(ITEMS) == ["line"]
    assert group_labels(ITEMS[:1]) == []


def test_sources_are_counted_by_state() -> None:
    assert counts(ITEMS) == {
        State.FAILURE: 2,
        State.SILENT: 1,
        State.PLANNED: 1,
        State.OK: 1,
        State.NONE: 1,
    }
