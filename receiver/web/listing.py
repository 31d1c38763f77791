"""Chooses, sorts and groups the sources that a page lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from receiver.storage.editing.codes import Code
from receiver.storage.reading.states import SEVERITY, SourceState, State
from receiver.web.looks import Look, look_of
from receiver.web.names import natural

MOST_GROUPS: Final = 50
"""Maximum number of values of a label that is offered for grouping."""
USUAL_GROUPS: Final = ("line", "area", "hall", "site", "zone", "group", "job")
"""Labels by which sources are grouped unless another one is chosen."""


class Item(NamedTuple):
    """A source as it is listed."""

    source: SourceState
    name: str
    look: Look
    code_name: str
    """Name of the newest row's code; "" without a code."""
    description: str
    since: float | None
    """When its state began, in seconds since the Unix epoch; None: not known."""

    @property
    def state(self) -> State:
        """The state of the source."""
        return self.source.state


class Wanted(NamedTuple):
    """The filter, order and grouping of a list of sources."""

    words: str = ""
    """Each word must be part of the name, a label or the code; `label=value` matches exactly."""
    state: State | None = None
    code: int | None = None
    sort: str = "problems"
    group: str = ""
    """The label by whose values the sources are grouped."""


def make_items(
    sources: Iterable[SourceState],
    names: Mapping[int, str],
    codes: Mapping[int, Code],
    places: Mapping[int, int],
    since: Mapping[int, float],
) -> list[Item]:
    """Make the list item of each source."""
    items = []
    for source in sources:
        number = source.code
        code = codes.get(number) if number is not None else None
        look = look_of(source.state, places.get(number, 0) if number is not None else 0)
        name = code.name if code else "" if number is None else str(number)
        description = (code.description or "") if code else ""
        began = source.at if source.state is State.SILENT else since.get(source.id)
        items.append(Item(source, names[source.id], look, name, description, began))
    return items


def choose(items: Iterable[Item], wanted: Wanted) -> list[Item]:
    """Return the matching items, in the wanted order."""
    words = wanted.words.casefold().split()
    found = [
        item
        for item in items
        if (wanted.state is None or item.state is wanted.state)
        and (wanted.code is None or item.source.code == wanted.code)
        and all(has(item, word) for word in words)
    ]
    found.sort(key=ORDERS[wanted.sort])
    if wanted.group:
        worst = worst_of(found, wanted.group)
        found.sort(key=lambda item: (worst[group_of(item, wanted.group)], item_group(item, wanted)))
    return found


def has(item: Item, word: str) -> bool:
    """Return whether a word, in lower case, is found in an item."""
    label, equal, value = word.partition("=")
    labels = item.source.labels
    if equal and any(name.casefold() == label for name in labels):
        return any(
            name.casefold() == label and text.casefold() == value for name, text in labels.items()
        )
    number = item.source.code
    texts = (item.name, item.code_name, item.description, *labels.values())
    return word == str(number) or any(word in text.casefold() for text in texts)


def begun(item: Item) -> float:
    """Return when the state of an item began, or else the time of its newest row."""
    if item.since is not None:
        return item.since
    return item.source.at or 0.0


ORDERS: Final[dict[str, Callable[[Item], tuple[object, ...]]]] = {
    "problems": lambda item: (SEVERITY[item.state], begun(item), natural(item.name)),
    "name": lambda item: (natural(item.name), item.source.id),
    "longest": lambda item: (begun(item), natural(item.name)),
    "newest": lambda item: (-begun(item), natural(item.name)),
}
"""Orders of a list, by name."""


def group_of(item: Item, label: str) -> str:
    """Return the group of an item; "" if it has no such label."""
    return item.source.labels.get(label, "")


def item_group(item: Item, wanted: Wanted) -> tuple[object, ...]:
    """Return a key that sorts groups by name, those without the label last."""
    group = group_of(item, wanted.group)
    return not group, natural(group)


def worst_of(items: Iterable[Item], label: str) -> dict[str, int]:
    """Return 0 for each group in which a source fails or is silent, 1 for the others."""
    worst: dict[str, int] = {}
    for item in items:
        group = group_of(item, label)
        alarm = 0 if item.state in {State.FAILURE, State.SILENT} else 1
        worst[group] = min(worst.get(group, 1), alarm)
    return worst


def group_labels(items: Sequence[Item]) -> list[str]:
    """Return the labels for grouping: those with several values, but not one per source."""
    values: dict[str, Counter[str]] = {}
    for item in items:
        for name, value in item.source.labels.items():
            values.setdefault(name, Counter())[value] += 1
    most = min(MOST_GROUPS, max(2, len(items) // 2))
    return sorted(name for name, found in values.items() if 2 <= len(found) <= most)


def usual_label(names: Iterable[str]) -> str:
    """Return the label among these that is grouped by default; "" if there is none."""
    known = set(names)
    return next((name for name in USUAL_GROUPS if name in known), "")


def counts(items: Iterable[Item]) -> dict[State, int]:
    """Return the number of items in each state."""
    found = Counter(item.state for item in items)
    return {state: found[state] for state in State}
