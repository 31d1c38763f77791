"""Lays out the board, read from across a hall: sources that need attention first, and large."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from math import ceil
from typing import Final, NamedTuple

from receiver.storage.reading.states import SEVERITY, State
from receiver.web.listing import Item, Wanted, choose, group_labels, group_of, usual_label
from receiver.web.names import brief_names, fit, natural, shorten, text_width

LARGE: Final = (State.FAILURE, State.SILENT, State.PLANNED)
"""States whose sources have large tiles, the last one only if there are few."""
MOST_ALARMS: Final = 20
"""Maximum number of large tiles at once; more are shown in turn."""
MOST_WITH_PLANNED: Final = 6
"""Maximum number of large tiles that include planned stops; if more, alarms get all the room."""
MOST_ROWS: Final = 4
"""Maximum rows of small tiles; sources that need more are shown as groups, or as one number."""
CHARACTERS: Final = {12: 7, 10: 8, 8: 11, 6: 15, 5: 18, 4: 23, 3: 31, 2: 48}
"""Latin letters that fit into a small tile, readable from afar, by the number of columns."""
FEWEST_COLUMNS: Final = 4
"""Minimum number of columns of small tiles, unless their names need more room."""
SHORTEST: Final = 9
"""Minimum room in a small tile for a name that is cut, in Latin letters."""
TURN: Final = 10.0
"""Seconds for which large tiles are shown before it is the others' turn."""
LONGEST: Final = 40
"""Maximum length of a name or a code in characters."""
IN_ALARM: Final = 19
"""Latin letters of a name that fit into a large tile, if its group gives way."""
GRIDS: Final = ((1, 1), (2, 1), (3, 1), (2, 2), (3, 2), (4, 2), (3, 3), (4, 3), (5, 3), (5, 4))
"""Columns and rows of large tiles."""
WIDTHS: Final = (4.0, 6.0, 9.0, 10.1, 12.0, 24.0)
"""Maximum width of a title for each font size, in heights of its letters."""
NARROW: Final = 0.66
"""Width of a Latin letter of a wide font in bold, in its height."""
CAPITAL: Final = 0.78
"""Width of a capital of that font, in its height."""


class Tile(NamedTuple):
    """A large tile."""

    item: Item
    name: str
    group: str
    title: str
    size: int
    """Index of the font size, 0 to 6: a longer title has a higher index and a smaller font."""


class Group(NamedTuple):
    """A tile for all sources of one group."""

    name: str
    worst: State
    well: int
    total: int


class Board(NamedTuple):
    """The layout of the board."""

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
    """Columns of small tiles or groups."""


def lay_out(items: Sequence[Item], group: str, now: float, words: Mapping[State, str]) -> Board:
    """Lay out the sources.

    Args:
        items: All sources.
        group: The label whose value is shown with a name; "": none.
        now: Seconds since the Unix epoch, which determine the turn.
        words: The names of the states.
    """
    names = brief_names([item.name for item in items])
    brief = [item._replace(name=name) for item, name in zip(items, names, strict=True)]
    ordered = choose(brief, Wanted())
    first = [item for item in ordered if item.state in LARGE]
    few = len(first) <= MOST_WITH_PLANNED
    alarms = [item for item in first if few or item.state is not State.PLANNED]
    others = [item for item in ordered if item.state not in LARGE]
    others += [item for item in first if not few and item.state is State.PLANNED]
    turns = max(1, ceil(len(alarms) / MOST_ALARMS))
    turn = int(now / TURN) % turns
    each = ceil(len(alarms) / turns)
    shown = alarms[turn * each : (turn + 1) * each]
    columns, rows = grid(len(shown))
    small, wide = small_tiles(others, group)
    groups = []
    if not small and others:
        groups = group_up(ordered, group)
        wide = next((n for n in (1, 2, 3, 4, 6) if len(groups) <= 2 * n), 8)
    below = min(5, ceil(len(small or groups) / wide))
    return Board(
        [alarm(item, group, words) for item in shown],
        *(columns, rows, turn + 1, turns, small, groups, below, wide),
    )


def grid(number: int) -> tuple[int, int]:
    """Return the smallest grid for a number of large tiles."""
    return next((size for size in GRIDS if size[0] * size[1] >= number), GRIDS[-1])


def small_tiles(items: Sequence[Item], group: str) -> tuple[list[Tile], int]:
    """Return small tiles in the order of their groups, and the number of their columns.

    Names are cut if there is no room for them and they stay distinct. If there are too many
    sources, no tiles are returned.
    """
    ordered = sorted(items, key=lambda item: (natural(group_of(item, group)), natural(item.name)))
    most = next((n for n in sorted(CHARACTERS) if n >= max(len(ordered), FEWEST_COLUMNS)), 12)
    rooms = [
        (columns, [length - text_width(group_of(item, group)) - 1 for item in ordered])
        for columns, length in CHARACTERS.items()
        if columns <= most and len(ordered) <= columns * MOST_ROWS
    ]
    for columns, room in rooms:
        if all(text_width(item.name) <= size for item, size in zip(ordered, room, strict=True)):
            return [tile(item, group, item.name) for item in ordered], columns
    for columns, room in reversed(rooms):
        cut = [
            item._replace(name=fit(item.name, size))
            for item, size in zip(ordered, room, strict=True)
        ]
        if min(room) >= SHORTEST and len({item.name for item in cut}) == len(cut):
            return [tile(item, group, item.name) for item in cut], columns
    return [], 2


def title_of(item: Item, words: Mapping[State, str]) -> str:
    """Return the title of a large tile: the code of a failure, else the state."""
    failing = item.state is State.FAILURE and item.code_name
    return item.code_name if failing else words[item.state]


def alarm(item: Item, group: str, words: Mapping[State, str]) -> Tile:
    """Make a large tile."""
    made = tile(item, group, title_of(item, words))
    return made._replace(name=fit(item.name, IN_ALARM))


def tile(item: Item, group: str, title: str) -> Tile:
    """Make a tile."""
    text = shorten(title, LONGEST)
    width = NARROW * text_width(text) + (CAPITAL - NARROW) * sum(map(str.isupper, text))
    size = next((place for place, most in enumerate(WIDTHS) if width <= most), len(WIDTHS))
    return Tile(item, shorten(item.name, LONGEST), group_of(item, group), text, size)


def group_up(items: Iterable[Item], group: str) -> list[Group]:
    """Return the groups of all sources, by name."""
    ordered = sorted(items, key=lambda item: natural(group_of(item, group)))
    found = []
    for name, members in groupby(ordered, key=lambda item: group_of(item, group)):
        states = [item.state for item in members]
        worst = min(states, key=lambda state: SEVERITY[state])
        found.append(Group(name, worst, states.count(State.OK), len(states)))
    return found


def usual_group(items: Sequence[Item]) -> str:
    """Return the label by which sources are grouped unless another one is chosen."""
    return usual_label(group_labels(items))
