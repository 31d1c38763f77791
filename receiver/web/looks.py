"""Chooses how states and codes look: a colour and a pattern, which no other has on the page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from receiver.storage.reading.states import State

HUES: Final = 7
"""Colours of failures, `.f0` and so on in the style sheet; none is that of another state."""
PATTERNS: Final = 9
"""Patterns over them, `#p1` and so on; the numbers have no common divisor."""

COLOURS: Final = {
    State.OK: "ok",
    State.PLANNED: "plan",
    State.SILENT: "unk",
    State.NONE: "unk",
}


class Look(NamedTuple):
    """A colour and a pattern."""

    colour: str
    """A class of the style sheet."""
    pattern: int
    """0: none."""


def look_of(state: State, place: int = 0) -> Look:
    """Return the look of a state, for failures that of the code in a place of `places`."""
    if state is State.FAILURE:
        return Look(f"f{place % HUES}", 1 + place % PATTERNS)
    if state in {State.SILENT, State.NONE}:
        return Look("unk", PATTERNS + 1)
    return Look(COLOURS[state], PATTERNS + 2 if state is State.PLANNED else 0)


def places(codes: Iterable[int]) -> dict[int, int]:
    """Return a place for each code: its own number's, or the next one that is free.

    So a code keeps its look as long as no code with the same one comes before it; 63 codes look
    different.
    """
    taken: dict[int, int] = {}
    most = HUES * PATTERNS
    for code in sorted(set(codes), key=lambda code: (abs(code), code)):
        place = code % most
        used = set(taken.values())
        if len(used) < most:
            while place in used:
                place = (place + 1) % most
        taken[code] = place
    return taken
