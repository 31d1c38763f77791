"""The texts of the page are complete in every language."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

from receiver.web import texts
from receiver.web.languages import Language
from receiver.web.parameters import CUSTOM, LOG_RANGES

WEB = Path(texts.__file__).parent


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
    families = (
        "range_",
        "reason_",
        "fault_",
        "state_",
        "sort_",
        "flow_",
        "report_",
        "kind_",
        "day_",
        "s",
        "min",
        "h",
        "d",
    )
    for key in texts.TEXTS:
        assert key.startswith(families) or re.search(rf"['\"]{key}['\"]", content), key


def test_every_range_has_its_text() -> None:
    assert {f"range_{name}" for name in (*LOG_RANGES, CUSTOM)} == {
        key for key in texts.TEXTS if key.startswith("range_")
    }
