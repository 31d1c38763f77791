"""The overview: the state of each source, since when, and its states of the last hours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from receiver.storage.editing.codes import Code
from receiver.storage.reading.shown import Cell
from receiver.storage.reading.states import State
from receiver.storage.reading.stretches import Stretch
from receiver.web import strips
from receiver.web.display import percent
from receiver.web.listing import Item, Wanted, counts, group_of
from receiver.web.looks import Look, look_of


class DrawnPath(NamedTuple):
    """A path of a strip."""

    look: Look
    d: str
    text: str


class Line(NamedTuple):
    """A strip, ready to be drawn."""

    buckets: int
    since: float
    until: float
    paths: list[DrawnPath]
    text: str


class Heading(NamedTuple):
    """A group of sources."""

    name: str
    counts: list[tuple[State, int]]


class Row(NamedTuple):
    """A row of the list."""

    heading: Heading | None
    """The group that begins with this row."""
    item: Item
    cells: list[Cell]
    line: Line | None
    since: float | None
    at_least: bool
    """Whether the state may have begun before `since`."""
    began: str
    failures: str
    availability: str


class Drawing(NamedTuple):
    """The parameters for drawing strips."""

    since: float
    until: float
    codes: Mapping[int, Code]
    places: Mapping[int, int]
    words: Mapping[State, str]


def draw(line: Sequence[Stretch], drawing: Drawing, buckets: int = strips.BUCKETS) -> Line:
    """Draw the strip of one source."""
    shares = strips.aggregate(line, drawing.since, drawing.until, buckets)
    drawn = [
        DrawnPath(look_of(key.state, drawing.places.get(key.code or 0, 0)), d, word(key, drawing))
        for key, d in strips.paths(shares)
    ]
    return Line(buckets, drawing.since, drawing.until, drawn, describe(line, drawing))


def word(key: strips.Key, drawing: Drawing) -> str:
    """Return the meaning of a path in words."""
    code = drawing.codes.get(key.code) if key.code is not None else None
    if code is None:
        return drawing.words[key.state]
    return f"{code.name} ({key.code})"


def describe(stretches: Iterable[Stretch], drawing: Drawing) -> str:
    """Describe the states that a strip shows, with the share of each."""
    length = drawing.until - drawing.since
    found = strips.totals(stretches, drawing.since, drawing.until)
    unknown = max(0.0, length - sum(found.values()))
    shares = [(drawing.words[state], found[state]) for state in State if found.get(state)]
    shares += [(drawing.words[State.NONE], unknown)] if unknown > length / 10_000 else []
    return ", ".join(f"{text} {percent(seconds / length)}" for text, seconds in shares)


def headed(items: Iterable[Item], wanted: Wanted) -> Iterator[tuple[Heading | None, Item]]:
    """Yield items, the first of each group with its heading."""
    if not wanted.group:
        yield from ((None, item) for item in items)
        return
    for name, group in groupby(items, key=lambda item: group_of(item, wanted.group)):
        members = list(group)
        found = [(state, number) for state, number in counts(members).items() if number]
        yield Heading(name, found), members[0]
        yield from ((None, item) for item in members[1:])


def legend(lines: Iterable[Line]) -> list[tuple[Look, str]]:
    """Return the distinct looks in some strips, with their meanings."""
    found = {path.text: path.look for line in lines for path in line.paths}
    return sorted(((look, text) for text, look in found.items()), key=lambda entry: entry[1])


def figures(stretches: Iterable[Stretch], since: float) -> tuple[int, float | None]:
    """Return the number of failures since a time, and the availability since then.

    The availability is up / (up + down), None without either. Failing stretches that follow one
    another without a gap are one failure, whatever their codes; a failure that began before the
    time is not counted.
    """
    failures, up, down, before = 0, 0.0, 0.0, None
    for state, _, start, end in stretches:
        length = max(0.0, end - max(start, since))
        if state is State.FAILURE:
            down += length
            failures += start > since and before != (State.FAILURE, start)
        elif state is State.OK:
            up += length
        before = (state, end)
    return failures, up / (up + down) if up + down else None


def starts(tally: Mapping[State, int]) -> Iterator[tuple[State, int]]:
    """Yield the start of each state's part in a bar of all sources."""
    start = 0
    for state in State:
        if tally[state]:
            yield state, start
            start += tally[state]


def numbers(page: int, pages: int) -> list[int]:
    """Return the numbers of linked pages: the first, the last and those around this one."""
    near = {1, pages, *range(page - 2, page + 3)}
    return sorted(number for number in near if 1 <= number <= pages)
