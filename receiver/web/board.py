"""Lays out the board, which is read from across a hall: what needs somebody first, and large."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from math import ceil
from typing import Final, NamedTuple

from receiver.storage.reading.states import State
from receiver.web.listing import Item, Wanted, choose, group_labels, group_of
from receiver.web.names import shorten

ALARMS: Final = (State.FAILURE, State.SILENT, State.PLANNED)
"""States whose sources have large tiles."""
MOST_ALARMS: Final = 20
"""Large tiles at once; more are shown in turn."""
MOST_ROWS: Final = 4
"""Rows of small tiles; sources that need more are shown as groups, or as one number."""
CHARACTERS: Final = {12: 7, 10: 8, 8: 11, 6: 15, 5: 18, 4: 23, 3: 31, 2: 48}
"""Characters that fit into a small tile and are read from afar, by the number of columns."""
TURN: Final = 10.0
"""Seconds for which large tiles are shown before it is the others' turn."""
LONGEST: Final = 40
"""Characters of a name or a code."""
IN_ALARM: Final = 19
"""Characters of a name that fit into a large tile, if its group gives way."""
USUAL_GROUPS: Final = ("line", "area", "hall", "site", "zone", "group", "job")
"""Labels by which sources are grouped unless another one is chosen."""
PORT: Final = re.compile(r":[0-9]+$")
GRIDS: Final = ((1, 1), (2, 1), (3, 1), (2, 2), (3, 2), (4, 2), (4, 3), (5, 3), (5, 4))
"""Columns and rows of large tiles."""
WIDTHS: Final = (4.0, 6.0, 9.0, 12.0, 24.0)
"""Widths up to which a title has a size of its own, in heights of its letters."""
END_LATIN: Final = 0x1100
"""From here on, letters are wide: those of Korean, Chinese and Japanese."""
NARROW: Final = 0.66
"""Width of a Latin letter; others are as wide as high."""


class Tile(NamedTuple):
    """A large tile."""

    item: Item
    name: str
    group: str
    title: str
    size: int
    """The smaller, the longer the title; 0 to 5."""


class Group(NamedTuple):
    """A tile for the sources of one group that need nobody."""

    name: str
    well: int
    total: int


class Board(NamedTuple):
    """What is on the board."""

    alarms: list[Tile]
    columns: int
    rows: int
    turn: int
    turns: int
    small: list[Tile]
    groups: list[Group]
    below: int
    """Rows of small tiles or groups; 0 to 5."""
    wide: int
    """Their columns."""


def lay_out(items: Sequence[Item], group: str, now: float, words: Mapping[State, str]) -> Board:
    """Lay out the sources.

    Args:
        items: All sources.
        group: The label whose value goes with a name; "": none.
        now: Seconds since the Unix epoch, which tell whose turn it is.
        words: What states are called.
    """
    items = without_port(items)
    ordered = choose(items, Wanted())
    urgent = [item for item in ordered if item.state in ALARMS]
    well = [item for item in ordered if item.state not in ALARMS]
    turns = max(1, ceil(len(urgent) / MOST_ALARMS))
    turn = int(now / TURN) % turns
    each = ceil(len(urgent) / turns)
    shown = urgent[turn * each : (turn + 1) * each]
    columns, rows = grid(len(shown))
    small, groups, wide = [], [], fitting(well, group)
    if len(well) <= wide * MOST_ROWS:
        by_group = sorted(well, key=lambda item: (group_of(item, group), item.name.casefold()))
        small = [tile(item, group, item.name) for item in by_group]
    else:
        groups = group_up(items, group)
        wide = next((n for n in (1, 2, 3, 4, 6) if len(groups) <= 2 * n), 8)
    below = min(5, ceil(len(small or groups) / wide))
    return Board(
        [alarm(item, group, words) for item in shown],
        *(columns, rows, turn + 1, turns, small, groups, below, wide),
    )


def without_port(items: Sequence[Item]) -> list[Item]:
    """Return the items without the port in their names, if all have the same one."""
    ports = {(PORT.search(item.name) or [""])[0] for item in items}
    if len(ports) != 1:
        return list(items)
    (port,) = ports
    return [item._replace(name=item.name.removesuffix(port) or item.name) for item in items]


def grid(number: int) -> tuple[int, int]:
    """Return the smallest grid for so many large tiles."""
    return next((size for size in GRIDS if size[0] * size[1] >= number), GRIDS[-1])


def fitting(items: Iterable[Item], group: str) -> int:
    """Return how many columns of small tiles there can be for the names to be read."""
    lengths = (len(item.name) + len(group_of(item, group)) + 1 for item in items)
    longest = max(lengths, default=1)
    return next((columns for columns, most in CHARACTERS.items() if longest <= most), 2)


def title_of(item: Item, words: Mapping[State, str]) -> str:
    """Return what a large tile says: the code of a failure, else the state."""
    failing = item.state is State.FAILURE and item.code_name
    return item.code_name if failing else words[item.state]


def alarm(item: Item, group: str, words: Mapping[State, str]) -> Tile:
    """Make a large tile."""
    made = tile(item, group, title_of(item, words))
    return made._replace(name=shorten(item.name, IN_ALARM))


def tile(item: Item, group: str, title: str) -> Tile:
    """Make a tile."""
    text = shorten(title, LONGEST)
    width = sum(NARROW if ord(letter) < END_LATIN else 1 for letter in text)
    size = next((place for place, most in enumerate(WIDTHS) if width <= most), len(WIDTHS))
    return Tile(item, shorten(item.name, LONGEST), group_of(item, group), text, size)


def group_up(items: Iterable[Item], group: str) -> list[Group]:
    """Return the groups of all sources, those with most that are not well first."""
    ordered = sorted(items, key=lambda item: group_of(item, group))
    found = []
    for name, members in groupby(ordered, key=lambda item: group_of(item, group)):
        states = [item.state for item in members]
        found.append(Group(name, states.count(State.OK), len(states)))
    return found


def usual_group(items: Sequence[Item]) -> str:
    """Return the label by which sources are grouped unless another one is chosen."""
    labels = group_labels(items)
    return next((name for name in USUAL_GROUPS if name in labels), "")
