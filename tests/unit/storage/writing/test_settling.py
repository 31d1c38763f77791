"""Settling incomplete rows stores or rejects each sample once."""

from __future__ import annotations

import pytest

from receiver.rows.tables import Values
from receiver.storage.writing.contradicting import Earlier
from receiver.storage.writing.settling import without_rejected
from tests.rows import LOGS, OCR, STATUS


@pytest.mark.parametrize(
    ("before", "rest", "repeated"),
    [
        ([], [3.0, 5.0], 0),
        ([("app_status", 3.0, "conflict")], [None, 5.0], 1),
        ([("app_status", 4.0, "conflict")], [3.0, 5.0], 0),
        ([("ocr_value", 3.0, "conflict")], [3.0, 5.0], 0),
        ([("app_status", 3.0, "x"), ("ocr_value", 5.0, "y")], [None, None], 2),
    ],
)
def test_what_was_rejected_before_is_not_stored(
    before: list[tuple[str, float, str]], rest: Values, repeated: int
) -> None:
    earlier = [Earlier(*one, id=0) for one in before]
    assert without_rejected(LOGS, [3.0, 5.0], earlier) == (rest, repeated)
    assert [STATUS.metric, OCR.metric] == ["app_status", "ocr_value"]
