"""Formats of times, ages, counts and labels on the page."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from receiver.web import display
from receiver.web.languages import Language


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "2025-03-03 09:00:05.123456+00",
            '<time datetime="2025-03-03T09:00:05.123456Z" title="2025-03-03T09:00:05.123456Z">'
            "2025-03-03 09:00:05.123</time>",
        ),
        (
            "0001-01-01 00:00:00.5+00",
            '<time datetime="0001-01-01T00:00:00.5Z" title="0001-01-01T00:00:00.5Z">'
            "0001-01-01 00:00:00.500</time>",
        ),
        ("294276-12-31 23:59:59+00", "<span>294276-12-31 23:59:59+00</span>"),
        ("4700-01-02 00:00:00+00 BC", "<span>4700-01-02 00:00:00+00 BC</span>"),
        ("<b>", "<span>&lt;b&gt;</span>"),
    ],
)
def test_moments(text: str, shown: str) -> None:
    assert display.moment(text) == shown


@pytest.mark.parametrize(
    ("seconds", "english", "korean"),
    [
        (0.2, "0 s ago", "0초 전"),
        (59.4, "59 s ago", "59초 전"),
        (60, "1 min ago", "1분 전"),
        (7300, "2 h ago", "2시간 전"),
        (2e8, "2,315 d ago", "2,315일 전"),
        (-90, "2 min ahead", "2분 앞섬"),
    ],
)
def test_ages(seconds: float, english: str, korean: str) -> None:
    assert display.age(seconds, Language.ENGLISH) == english
    assert display.age(seconds, Language.KOREAN) == korean


def test_labels_in_one_line() -> None:
    assert display.label_text({"a": "1", "instance": "cam"}) == "instance=cam a=1"


@pytest.mark.parametrize(
    ("seconds", "english", "korean", "stopwatch"),
    [
        (-3, "0 s", "0초", "00:00"),
        (59.9, "59 s", "59초", "00:59"),
        (761, "12 min 41 s", "12분 41초", "12:41"),
        (3600, "1 h 0 min", "1시간 0분", "1:00:00"),
        (86_400 * 9 + 3700, "9 d 1 h", "9일 1시간", "9d 01:01"),
    ],
)
def test_durations(seconds: float, english: str, korean: str, stopwatch: str) -> None:
    assert display.duration(seconds, Language.ENGLISH) == english
    assert display.duration(seconds, Language.KOREAN) == korean
    assert display.clock(seconds) == stopwatch


def test_a_brief_duration_has_no_second_unit_of_nothing() -> None:
    lengths = [(300, "5 min"), (0, "0 s"), (3601, "1 h 0 min"), (86_400, "1 d"), (90, "1 min 30 s")]
    for seconds, shown in lengths:
        assert display.duration(seconds, Language.ENGLISH, brief=True) == shown


def test_only_all_is_all() -> None:
    shares = (0, 0.00001, 0.5, 0.9994, 0.99999, 1)
    shown = ["0.0%", "<0.1%", "50.0%", "99.9%", ">99.9%", "100.0%"]
    assert [display.percent(share) for share in shares] == shown


def test_a_moment_in_a_zone() -> None:
    zone = ZoneInfo("Asia/Seoul")
    assert ">2025-03-03 18:00:05.500<" in display.moment("2025-03-03 09:00:05.5+00", zone)
    assert ">2025-03-03 18:00:05<" in display.moment("2025-03-03 09:00:05.5+00", zone, exact=False)
    # In Seoul it is already the next year, which no datetime can represent.
    assert display.moment("9999-12-31 23:00:00+00", zone) == "<span>9999-12-31 23:00:00+00</span>"


def test_a_count_that_goes_no_further() -> None:
    assert display.count(1234, Language.ENGLISH) == "1,234"
    assert display.count(200_000, Language.ENGLISH) == "more than 200,000"
