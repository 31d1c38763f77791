"""What the page is made of, without a database."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from string import Formatter

import pytest

from receiver.storage.reading.intervals import Interval
from receiver.web import display, texts
from receiver.web.languages import Language, preferred
from receiver.web.parameters import LONG_RANGES
from receiver.web.timeline import draw, look

WEB = Path(texts.__file__).parent
SINCE = datetime(2025, 3, 3, 9, tzinfo=UTC)
UNTIL = datetime(2025, 3, 3, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("ko", "ko"),
        ("ko-KR,ko;q=0.9,en-US;q=0.8", "ko"),
        ("en-US,en;q=0.9,ko;q=0.8", "en"),
        ("fr, de;q=0.9, KO;q=0.1", "ko"),
        ("en;q=0.1, ko ; q=0.9", "ko"),
        ("ko;q=0", "en"),
        ("ko;q=x, en;q=0.1", "en"),
        ("ko;q=nan", "en"),
        ("ko;q=2", "en"),
        ("korean", "en"),
        ("*", "en"),
        (",;,=;q", "en"),
    ],
)
def test_the_preferred_language(header: str, language: str) -> None:
    assert preferred(header) == language


@pytest.mark.parametrize("key", texts.TEXTS)
def test_a_text_has_the_same_values_in_every_language(key: str) -> None:
    languages = texts.TEXTS[key]
    assert len(languages) == len(texts.ORDER) == len(Language)
    assert all(languages)
    fields = [{name for _, name, *_ in Formatter().parse(text) if name} for text in languages]
    assert fields[0] == fields[1]


def test_every_text_is_used_and_every_text_used_is_there() -> None:
    sources = [*WEB.glob("*.py"), *WEB.glob("templates/*.html")]
    content = "".join(path.read_text() for path in sources if path.name != "texts.py")
    for key in set(re.findall(r"\b(?:t|say)\(\s*['\"](\w+)['\"][,)]", content)):
        assert key in texts.TEXTS
    families = ("range_", "reason_", "fault_", "s", "min", "h", "d")
    for key in texts.TEXTS:
        assert key.startswith(families) or re.search(rf"['\"]{key}['\"]", content), key


def test_every_range_has_its_text() -> None:
    assert {f"range_{name}" for name in LONG_RANGES} == {
        key for key in texts.TEXTS if key.startswith("range_")
    }


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


def test_codes_look_apart() -> None:
    assert len({look(code) for code in (0, 1, 2, 99, 7)}) == 5
    assert {look(code) for code in range(1, 100)} == set(range(1, 9))
    assert look(-5) in range(1, 9)


def stretch(start: float, end: float, code: int = 0, source: int = 1) -> Interval:
    """Times in seconds since SINCE."""
    origin = SINCE.timestamp()
    return Interval(source, code, "OK", None, "", "", origin + start, origin + end, 2)


def test_where_stretches_lie() -> None:
    lines = draw(
        [stretch(0, 900), stretch(905, 1800, 2), stretch(2700, 3600), stretch(1800, 1800, 2, 2)],
        SINCE,
        UNTIL,
    )
    assert [(s.left, s.width, s.look, s.labelled) for s in lines[1]] == [
        # Until the next one; but not over a silence.
        (0, 25.139, 0, True),
        (25.139, 24.861, 2, True),
        (75, 25, 0, True),
    ]
    assert [(s.left, s.width, s.labelled) for s in lines[2]] == [(50, 0.25, False)]


def test_a_stretch_at_the_very_end_is_seen() -> None:
    ((segment,),) = draw([stretch(3600, 3600)], SINCE, UNTIL).values()
    assert segment.left + segment.width == 100
