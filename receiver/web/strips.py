"""Draws states over time as strips of buckets, a few pixels wide, with the share of each state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from receiver.storage.reading.states import SEVERITY, State
from receiver.storage.reading.stretches import Stretch

BUCKETS: Final = 480
HEIGHT: Final = 24
LEAST: Final = 0.2
"""Minimum share of the height for failures, so that even the shortest one is visible."""
STEPS: Final = 48
"""Number of steps of the height to which shares are rounded, so that similar buckets are merged."""


class Key(NamedTuple):
    """The state and the code that a part of a strip shows."""

    state: State
    code: int | None


Shares = dict[Key, float]
"""Shares of a bucket's time; the rest of it is unknown."""


def aggregate(
    stretches: Iterable[Stretch], since: float, until: float, buckets: int = BUCKETS
) -> list[Shares]:
    """Return the shares of each bucket of a range of time.

    Stretches may be in any order, and go beyond the range; they must not overlap.
    """
    width = (until - since) / buckets
    found: list[Shares] = [defaultdict(float) for _ in range(buckets)]
    for state, code, began, ended in stretches:
        key = Key(state, code)
        start, end = max(began, since), min(ended, until)
        if end <= start:
            continue
        first = min(int((start - since) / width), buckets - 1)
        last = min(int((end - since) / width), buckets - 1)
        if first == last:
            found[first][key] += (end - start) / width
            continue
        found[first][key] += (since + (first + 1) * width - start) / width
        for place in range(first + 1, last):
            found[place][key] += 1.0
        found[last][key] += max(0.0, (end - since - last * width) / width)
    return found


def stack(shares: Shares) -> tuple[tuple[Key, int], ...]:
    """Return the heights of a bucket's states in `STEPS`, from the bottom up, the worst first."""
    drawn = {key: share for key, share in shares.items() if share > 1e-9}
    failing = sum(share for key, share in drawn.items() if key.state is State.FAILURE)
    if 0 < failing < LEAST:
        others = (1 - LEAST) / max(1 - failing, 1e-9)
        for key in drawn:
            drawn[key] *= LEAST / failing if key.state is State.FAILURE else others
    order = sorted(drawn, key=lambda key: (SEVERITY[key.state], -drawn[key], key.code or 0))
    total, edges = 0.0, [0]
    for key in order:
        total += drawn[key]
        edges.append(min(STEPS, round(total * STEPS)))
    return tuple(
        (key, above - below)
        for key, (below, above) in zip(order, pairwise(edges), strict=True)
        if above > below
    )


class Path(NamedTuple):
    """An SVG path of everything in a strip that looks the same."""

    key: Key
    d: str


def paths(buckets: Sequence[Shares]) -> list[Path]:
    """Return the paths of a strip, one unit wide per bucket and `HEIGHT` high."""
    drawn: dict[Key, list[str]] = defaultdict(list)
    stacks = [stack(shares) for shares in buckets]
    start = 0
    for place in range(1, len(stacks) + 1):
        if place < len(stacks) and stacks[place] == stacks[start]:
            continue
        bottom = 0
        for key, height in stacks[start]:
            bottom += height
            top, size = HEIGHT - bottom * HEIGHT / STEPS, height * HEIGHT / STEPS
            drawn[key].append(f"M{start} {top:g}h{place - start}v{size:g}h{start - place}z")
        start = place
    return [Path(key, "".join(parts)) for key, parts in sorted(drawn.items(), key=by_severity)]


def by_severity(item: tuple[Key, object]) -> tuple[int, int]:
    """Return a key that sorts the worst state last, so that it is drawn over the others."""
    key = item[0]
    return -SEVERITY[key.state], key.code or 0


def totals(stretches: Iterable[Stretch], since: float, until: float) -> dict[State, float]:
    """Return the seconds of each state within a range of time."""
    found: dict[State, float] = defaultdict(float)
    for state, _, start, end in stretches:
        found[state] += max(0.0, min(end, until) - max(start, since))
    return found
