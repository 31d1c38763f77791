"""Where the timeline draws each interval, and in which colour."""

from __future__ import annotations

from datetime import UTC, datetime

from receiver.storage.reading.intervals import Interval
from receiver.web.timeline import draw, look

SINCE = datetime(2025, 3, 3, 9, tzinfo=UTC)
UNTIL = datetime(2025, 3, 3, 10, tzinfo=UTC)


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
