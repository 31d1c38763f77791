"""Names sources, so that each can be told from all others."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

Labels = Mapping[str, str]

PLACEHOLDER: Final = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_]*)\}")
LONGEST: Final = 120
"""Characters of a name; a longer one is cut in its middle, since names often differ at the end."""
MOST_ADDED: Final = 3
"""Labels that are added to a name that several sources have."""


def name_sources(sources: Mapping[int, Labels], template: str = "") -> dict[int, str]:
    """Return a name for each source, by id; no two are the same.

    A name is the template's, or the label `instance`, else `job`, else all labels. Where several
    sources have the same one, the labels in which they differ are added, and if that does not tell
    them apart, their ids.

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


def base_name(id_: int, labels: Labels, template: str) -> str:
    """Return the name of a source, which others may have too."""
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
