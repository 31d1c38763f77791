"""Names of sources are unique."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.web.names import LONGEST, brief_names, by_name, fit, name_sources, natural, shorten


def test_a_name_is_the_instance_else_the_job_else_all_labels() -> None:
    sources = {
        1: {"instance": "cam-1", "job": "a"},
        2: {"job": "batch"},
        3: {"x": "1", "b": "2"},
        4: dict[str, str](),
    }
    assert name_sources(sources) == {1: "cam-1", 2: "batch", 3: "b=2 x=1", 4: "#4"}


def test_a_template_names_sources() -> None:
    sources = {1: {"line": "A", "instance": "cam-1"}, 2: {"line": "B"}, 3: {"job": "x"}}
    names = name_sources(sources, "{line} · {instance}")
    assert names == {1: "A · cam-1", 2: "B ·", 3: "·"}
    assert name_sources({1: {"job": "x"}}, "{line}") == {1: "job=x"}


def test_what_differs_is_added_to_names_that_are_alike() -> None:
    sources = {
        1: {"instance": "cam", "job": "a", "line": "A"},
        2: {"instance": "cam", "job": "a", "line": "B"},
        3: {"instance": "other", "job": "a", "line": "B"},
    }
    assert name_sources(sources) == {1: "cam · line=A", 2: "cam · line=B", 3: "other"}
    assert name_sources({7: {"instance": "x"}, 8: {"instance": "x"}}) == {7: "x #7", 8: "x #8"}


def test_a_choice_is_in_the_order_of_names() -> None:
    assert list(by_name({1: "cam-10", 2: "Cam-9", 3: "나", 4: "가"})) == [2, 1, 4, 3]


def test_long_names_are_cut_in_the_middle() -> None:
    assert shorten("a" * 50 + "b" * 50, 11) == "aaaaa…bbbbb"
    long = "x" * 200
    names = name_sources({1: {"instance": f"{long}1"}, 2: {"instance": f"{long}2"}})
    assert names[1].endswith("1")
    assert len(names[1]) == LONGEST
    middle = name_sources({1: {"instance": f"{long}1{long}"}, 2: {"instance": f"{long}2{long}"}})
    assert middle[1] != middle[2]


labels = st.dictionaries(
    st.sampled_from(["instance", "job", "line", "a"]), st.text("ab# =·", max_size=3), max_size=4
)


@given(
    st.dictionaries(st.integers(0, 50), labels, max_size=12), st.sampled_from(["", "{line} {a}"])
)
def test_no_two_names_are_the_same(sources: dict[int, dict[str, str]], template: str) -> None:
    names = name_sources(sources, template)
    assert names.keys() == sources.keys()
    assert all(names.values())
    assert len(set(names.values())) == len(sources)


@pytest.mark.parametrize(
    ("names", "brief"),
    [
        (["10.1.0.7:9100", "10.1.0.8:9100", "카메라-3"], ["10.1.0.7", "10.1.0.8", "카메라-3"]),
        (["a:1", "a:2"], ["a:1", "a:2"]),
        (["a:1", "a"], ["a:1", "a"]),
        (["cam-1.hall.plant:9100", "cam-2.hall.plant:9100"], ["cam-1", "cam-2"]),
        (
            ["cam-1.north:1", "cam-1.south:1", "cam-2.south:1"],
            ["cam-1.north", "cam-1.south", "cam-2"],
        ),
        (["cam-1.north:1", "cam-2.north:2"], ["cam-1:1", "cam-2:2"]),
        (["Line 1. Press", "1.5"], ["Line 1. Press", "1.5"]),
        ([":9100"], [":9100"]),
    ],
)
def test_brief_names_leave_out_what_tells_nothing_apart(names: list[str], brief: list[str]) -> None:
    assert brief_names(names) == brief


def test_numbers_in_names_are_sorted_by_their_value() -> None:
    long = "9" * 5000
    ordered = [
        *("", "10.1.0.06", "10.1.0.6", "10.1.0.18", "10.2.0.1", long, f"1{long}", "cam", "CAM-2"),
        *("cam-10", "cam-10a", "cam-10b", "cam-²", "라인 2", "라인 10"),
    ]
    by_text = sorted(ordered)
    assert sorted(by_text, key=natural) == ordered


def test_korean_letters_take_more_room() -> None:
    assert fit("camera-12", 9) == "camera-12"
    assert fit("camera-123", 9) == "came…-123"
    assert fit("가나다라마바사", 9) == "가나다…바사"
    assert fit("", 9) == ""
