"""Gives sources distinct names."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final
from unicodedata import east_asian_width

Labels = Mapping[str, str]

PLACEHOLDER: Final = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_]*)\}")
DIGITS: Final = re.compile(r"([0-9]+)")
PORT: Final = re.compile(r":[0-9]+$")
HOST: Final = re.compile(r"(?P<host>[\w-]*[^\W\d][\w-]*)(\.[\w-]+)+(?P<port>:[0-9]+)?")
"""A host name with its domain; not an IP address."""
LONGEST: Final = 120
"""Maximum characters of a name; longer ones are cut in the middle, since the ends often differ."""
WIDE: Final = 1.5
"""Width of a letter of Korean, Chinese or Japanese, in Latin letters."""
MOST_ADDED: Final = 3
"""Maximum number of labels that are added to a name that several sources have."""


def natural(text: str) -> tuple[tuple[tuple[str, int, str], ...], str]:
    """Return a key that sorts texts as people do: without case, and numbers by their value."""
    parts = DIGITS.split(text.casefold())
    # Compared by length first, since a number may have more digits than Python converts.
    numbers = [digits.lstrip("0") for digits in (*parts[1::2], "")]
    compared = zip(parts[::2], numbers, strict=True)
    return tuple((before, len(number), number) for before, number in compared), text


def name_sources(sources: Mapping[int, Labels], template: str = "") -> dict[int, str]:
    """Return a name for each source, by id; no two are the same.

    A name comes from the template if there is one, or else is the label `instance`, `job`, or all
    labels. If several sources have the same name, the labels in which they differ are added, and
    their ids if the names are still the same.

    Args:
        sources: The labels by id.
        template: Text with labels in braces, such as `{line} {instance}`.
    """
    names = {id_: shorten(base_name(id_, labels, template)) for id_, labels in sources.items()}
    for alike in clashes(names):
        added = differing({id_: sources[id_] for id_ in alike}, template)
        for id_ in alike:
            labels = sources[id_]
            parts = [f"{name}={labels[name]}" for name in added if name in labels]
            names[id_] = shorten(" · ".join((names[id_], *parts)))
    for alike in clashes(names):
        for id_ in alike:
            names[id_] += f" #{id_}"
    return names


def by_name(names: Mapping[int, str]) -> dict[int, str]:
    """Return the names in the order in which people look for them, by id."""
    return dict(sorted(names.items(), key=lambda item: natural(item[1])))


def base_name(id_: int, labels: Labels, template: str) -> str:
    """Return the name of a source, which other sources may have too."""
    if template:
        filled = PLACEHOLDER.sub(lambda found: labels.get(found[1], ""), template)
        name = " ".join(filled.split())
    else:
        name = labels.get("instance") or labels.get("job") or ""
    return name.strip() or " ".join(f"{key}={labels[key]}" for key in sorted(labels)) or f"#{id_}"


def shorten(text: str, most: int = LONGEST) -> str:
    """Return a text without its middle if it is too long."""
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[-end:]}"


def text_width(text: str) -> float:
    """Return the width of a text in Latin letters; Korean letters are wider."""
    return sum(WIDE if east_asian_width(letter) in "WF" else 1.0 for letter in text)


def fit(text: str, room: float) -> str:
    """Return a text, without its middle if it is wider than `room` Latin letters."""
    lengths = range(len(text), 1, -1)
    cut = (shorten(text, most) for most in lengths)
    return next((short for short in cut if text_width(short) <= room), text[:1])


def clashes(names: Mapping[int, str]) -> Iterable[list[int]]:
    """Return the ids of the sources with the same name, name by name."""
    by_name: dict[str, list[int]] = defaultdict(list)
    for id_, name in names.items():
        by_name[name].append(id_)
    return [ids for ids in by_name.values() if len(ids) > 1]


def differing(sources: Mapping[int, Labels], template: str) -> list[str]:
    """Return at most `MOST_ADDED` labels in which sources differ, those with most values first.

    Labels that are in the name already are left out.
    """
    used = set(PLACEHOLDER.findall(template)) if template else {"instance"}
    values: dict[str, set[str | None]] = {}
    for name in sorted({name for labels in sources.values() for name in labels} - used):
        values[name] = {labels.get(name) for labels in sources.values()}
    found = [name for name, different in values.items() if len(different) > 1]
    return sorted(found, key=lambda name: -len(values[name]))[:MOST_ADDED]


def brief_names(names: Sequence[str]) -> list[str]:
    """Return names without domains, and without ports if all ports are the same.

    Names that would no longer be distinct are left as they are.
    """
    ports = {found[0] for name in names if (found := PORT.search(name))}
    without = change(names, lambda name: PORT.sub("", name) or name) if len(ports) == 1 else names
    return change(without, host_of)


def host_of(name: str) -> str:
    """Return a host without its domain, and any other name as it is."""
    found = HOST.fullmatch(name)
    return found["host"] + (found["port"] or "") if found else name


def change(names: Sequence[str], how: Callable[[str], str]) -> list[str]:
    """Return the changed names, except those that would no longer be distinct."""
    changed = [how(name) for name in names]
    counted = Counter(changed)
    return [new if counted[new] == 1 else name for name, new in zip(names, changed, strict=True)]
