"""Reads YAML in which a key may stand twice, since people append to such files."""

from __future__ import annotations

from typing import Any

import yaml


class DuplicateKeyError(yaml.MarkedYAMLError):
    """A key stands in a map twice, and its two values cannot be merged.

    `problem_mark` is where the second one begins, `context_mark` where the first one does.
    """


class MergingLoader(yaml.BaseLoader):
    """Reads every scalar as the text it is, and merges the values of a key that stands twice.

    Lists are joined, and so are maps, whose keys must differ. A plain loader would keep the last
    value and drop the others in silence.

    Raises:
        DuplicateKeyError: there is more than one value, and they are neither.
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
        # What is no scalar cannot be a key; the loader says so itself.
        name = key.value if isinstance(key, yaml.ScalarNode) else key
        first = found.get(name)
        found[name] = (key, value) if first is None else (first[0], join(first, (key, value)))
    return list(found.values())


def join(first: tuple[yaml.Node, yaml.Node], second: tuple[yaml.Node, yaml.Node]) -> yaml.Node:
    """Return one value made of two that have the same key.

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
    """Whether nothing stands after a key's colon."""
    return isinstance(node, yaml.ScalarNode) and node.style is None and not node.value
