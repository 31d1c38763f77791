"""How the page writes times, ages, counts and labels."""

from __future__ import annotations

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
    assert len(display.label_text({"a": "x" * 1000})) == display.LONGEST + 1


def test_a_count_that_goes_no_further() -> None:
    assert display.count(1234, Language.ENGLISH) == "1,234"
    assert display.count(200_000, Language.ENGLISH) == "more than 200,000"
