"""Draws a Pareto chart: a bar for the down time of each code, and a line of cumulative shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from receiver.storage.reading.reports import CodeTime
from receiver.web.names import fit

WIDTH: Final = 860
HIGH: Final = 190
"""Height of the longest bar, and of the line at 100 %."""
TOP: Final = 40
MOST: Final = 8
"""Maximum number of bars; the table below has all codes."""
CHARACTER: Final = 8.6
"""Width of a Latin letter of a name."""
SPACE: Final = 10
"""Space between two names."""
CLOSE: Final = 34
"""Distance of a point from the top of its bar at which their texts would overlap."""


class Bar(NamedTuple):
    """A bar, with its point on the line of cumulative shares."""

    x: float
    y: float
    width: float
    height: float
    code: int
    name: str
    time: str
    times: int
    point: float
    cumulative: str
    below: bool
    """Whether the share is written below its point, since the bar's time stands above it."""
    label: float
    """Where the bar's time is written: above the bar, and above a point that is near its top."""


def draw_pareto(codes: Sequence[CodeTime], length: Callable[[float], str]) -> list[Bar]:
    """Return the bars, the longest first.

    Args:
        codes: The codes, the one with the most down time first.
        length: Formats a length of time.
    """
    shown = codes[:MOST]
    if not shown or not shown[0].down:
        return []
    step = WIDTH / max(len(shown), 4)
    bars = []
    for place, code in enumerate(shown):
        height = HIGH * code.down / shown[0].down
        point = TOP + HIGH * (1 - code.cumulative_share)
        y = TOP + HIGH - height
        bars.append(
            Bar(
                x=round((place + 0.2) * step, 1),
                y=round(y, 1),
                width=round(step * 0.6, 1),
                height=round(height, 1),
                code=code.code,
                name=fit(code.name or "", (step - SPACE) / CHARACTER),
                time=length(code.down.total_seconds()),
                times=code.times,
                point=round(point, 1),
                cumulative=f"{100 * code.cumulative_share:.0f}%",
                below=abs(point - y) < CLOSE,
                label=round(max(min(y, point) - 14 if abs(point - y) < CLOSE else y - 8, 16), 1),
            )
        )
    return bars
