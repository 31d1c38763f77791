"""Choice of the language by the browser's preferences."""

from __future__ import annotations

import pytest

from receiver.web.languages import preferred


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
