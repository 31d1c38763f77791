"""Chooses a colour and a pattern for each state and code, distinct on the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from receiver.storage.reading.states import State, class_of

HUES: Final = 7
"""Number of colours of failures, `.f0` and so on in the style sheet; no other state has them."""
PATTERNS: Final = 9
"""Number of patterns over the colours, `#p1` and so on; coprime to `HUES`."""

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
    """Return the look of a state; for a failure, that of its code's place (see `places`)."""
    if state is State.FAILURE:
        return Look(f"f{place % HUES}", 1 + place % PATTERNS)
    if state in {State.SILENT, State.NONE}:
        return Look("unk", PATTERNS + 1)
    return Look(COLOURS[state], PATTERNS + 2 if state is State.PLANNED else 0)


def places(codes: Iterable[int]) -> dict[int, int]:
    """Return a place for each code, which determines its colour and its pattern.

    From the code's own number on, it is the first free place with an unused colour, else the first
    free place: so 63 codes look different.
    """
    taken: dict[int, int] = {}
    used: set[int] = set()
    for code in sorted(set(codes) - {0}, key=lambda code: (abs(code), code)):
        around = [(code + step) % (HUES * PATTERNS) for step in range(HUES * PATTERNS)]
        colours = {place % HUES for place in used}
        free = [place for place in around if place not in used]
        fresh = [place for place in free if place % HUES not in colours]
        taken[code] = (fresh or free or around)[0]
        used.add(taken[code])
    return taken


def looks_of(codes: Iterable[int], classes: Mapping[int, State]) -> Callable[[int], Look]:
    """Return a function that gives the look of a code.

    Args:
        codes: All codes.
        classes: The states of codes that have a class.
    """
    known = places(codes)
    return lambda code: look_of(class_of(code, classes), known.get(code, code % (HUES * PATTERNS)))
