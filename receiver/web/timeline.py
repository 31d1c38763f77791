"""Calculates where the intervals of a state timeline are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Final, NamedTuple

from receiver.storage.reading.intervals import Interval

PATTERNS: Final = 8
"""Number of patterns for codes other than 0."""
NARROWEST: Final = 0.25
"""Minimum width of an interval in per cent, so that every interval is visible."""
GAP: Final = 300.0
"""Seconds without a row after which the state is unknown, as in `app_status_intervals`."""


class Segment(NamedTuple):
    """An interval, in per cent of the timeline's width."""

    left: float
    width: float
    look: int
    """The colour and pattern."""
    labelled: bool
    """Whether the code fits into the drawn interval."""
    interval: Interval


def look(code: int) -> int:
    """Return the colour and pattern of a code: 0 for 0, and always the same for a code."""
    return 0 if code == 0 else code % PATTERNS or PATTERNS


def draw(
    intervals: Iterable[Interval], since: datetime, until: datetime
) -> dict[int, list[Segment]]:
    """Return the segments by source, from intervals sorted by source and time."""
    return {
        source: draw_line(list(line), since.timestamp(), until.timestamp())
        for source, line in groupby(intervals, key=lambda interval: interval.source_id)
    }


def draw_line(line: Sequence[Interval], since: float, until: float) -> list[Segment]:
    """Return the segments of one source."""
    following = [*(interval.start for interval in line[1:]), None]
    scale = 100 / (until - since)
    segments = []
    for interval, start in zip(line, following, strict=True):
        # A state lasts until the next one, unless there is a gap between them.
        goes_on = start is not None and start - interval.end <= GAP
        end = start if goes_on and start is not None else interval.end
        left = (interval.start - since) * scale
        width = max((end - interval.start) * scale, NARROWEST)
        left = min(left, 100 - width)
        fits = width >= 1.5 + 2.5 * len(str(interval.code))
        code = interval.code
        segments.append(Segment(round(left, 3), round(width, 3), look(code), fits, interval))
    return segments
