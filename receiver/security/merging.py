"""Reads YAML in which a key may occur twice, since people append to credentials files."""

from __future__ import annotations

from typing import Any

import yaml


class DuplicateKeyError(yaml.MarkedYAMLError):
    """A key occurs twice in a map, and its two values cannot be merged.

    `problem_mark` is the start of the second one, `context_mark` of the first one.
    """


class MergingLoader(yaml.BaseLoader):
    """Reads every scalar as text, and merges the values of a key that occurs twice.

    Lists are joined, and so are maps, whose keys must differ. A plain loader would keep the last
    value and drop the others silently.

    Raises:
        DuplicateKeyError: a key has several values that are neither lists nor maps.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a map; its keys are merged before its values are built."""
        merged = yaml.MappingNode(node.tag, merge(node.value), node.start_mark)
        return super().construct_mapping(merged, deep=deep)


Pairs = list[tuple[yaml.Node, yaml.Node]]


def merge(pairs: Pairs) -> Pairs:
    """Return the pairs of a map with each key once, in the order of their first appearance.

    Raises:
        DuplicateKeyError: two values of a key cannot be merged.
    """
    found: dict[object, tuple[yaml.Node, yaml.Node]] = {}
    for key, value in pairs:
        # Only a scalar can be a key; the loader itself reports others.
        name = key.value if isinstance(key, yaml.ScalarNode) else key
        first = found.get(name)
        found[name] = (key, value) if first is None else (first[0], join(first, (key, value)))
    return list(found.values())


def join(first: tuple[yaml.Node, yaml.Node], second: tuple[yaml.Node, yaml.Node]) -> yaml.Node:
    """Merge two values of the same key.

    Raises:
        DuplicateKeyError: they are neither two lists nor two maps, and none of them is empty.
    """
    (key, one), (again, other) = first, second
    if is_empty(one):
        return other
    if is_empty(other):
        return one
    for kind in (yaml.SequenceNode, yaml.MappingNode):
        if isinstance(one, kind) and isinstance(other, kind):
            return kind(one.tag, one.value + other.value, one.start_mark)
    raise DuplicateKeyError(None, key.start_mark, "duplicate key", again.start_mark)


def is_empty(node: yaml.Node) -> bool:
    """Return whether a key has no value."""
    return isinstance(node, yaml.ScalarNode) and node.style is None and not node.value
