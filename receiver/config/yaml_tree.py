"""Reads YAML into plain values with their line numbers; every scalar stays text, as written.

So nothing depends on YAML's rules for numbers, or for booleans such as `on` and `no`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeAlias, cast

import yaml

from receiver.config import yaml_errors
from receiver.config.explaining import show
from receiver.config.value_types import is_unicode_text

Path: TypeAlias = tuple[str | int, ...]
"""Keys and positions that lead to a value."""

NULL: Final = "tag:yaml.org,2002:null"
STANDARD: Final = "tag:yaml.org,2002:"
NO_VALUE: Final = "has no value: write one, indent what belongs to it, or leave it out"
NO_SPACE: Final = "has no value: a space must follow the `:`"


class Plain(str):
    """Text that was written without quotes, and so may stand for another type, as `true` does."""

    __slots__ = ()


class Fault(NamedTuple):
    """Something wrong with a value."""

    path: Path
    text: str
    value: Any = None
    """The value, if it helps to show it."""


class Tree(NamedTuple):
    """The content of a YAML file."""

    value: Any
    """Dictionaries, lists and texts, without the faulty parts; None for an empty file."""
    lines: dict[Path, int]
    """Line of each value, or of its key if it has one."""
    faults: list[Fault]

    def line(self, path: Path) -> int:
        """Return the line of a value or, if it is missing, of the value that would contain it."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 1)


class NotYamlError(Exception):
    """A text is not valid YAML.

    Args:
        line: The line of the error.
        reason: The reason.
    """

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


class Loader(yaml.SafeLoader):
    """Refuses aliases, since a few bytes of them can expand to any amount of text."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401  PyYAML's
        """Read one value.

        Raises:
            NotYamlError: it is an alias.
        """
        if self.check_event(yaml.AliasEvent):
            event: yaml.AliasEvent = self.peek_event()  # type: ignore[no-untyped-call]
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise NotYamlError(line, f"has an alias, *{event.anchor}: write out what it stands for")
        return super().compose_node(parent, index)


def read_tree(text: str) -> Tree:
    """Read a YAML document.

    Raises:
        NotYamlError: the text is not valid YAML.
    """
    try:
        root = yaml.compose(text, Loader=Loader)
    except yaml.MarkedYAMLError as error:
        raise NotYamlError(yaml_errors.line_of(error), reason_of(error)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise NotYamlError(line, f"has the character {chr(error.character)!r}") from None
    except RecursionError:
        raise NotYamlError(1, "is nested too deeply") from None
    tree = Tree(None, {}, [])
    return tree if root is None else tree._replace(value=Walk(tree.lines, tree.faults).read(root))


def reason_of(error: yaml.MarkedYAMLError) -> str:
    """Describe an error in plain words, or else in PyYAML's, as one line."""
    if plain := yaml_errors.explain(error):
        return plain
    parts = [part for part in (error.context, error.problem) if part]
    return show(", ".join(parts) or "cannot be read")


class Walk:
    """Converts nodes to values.

    Args:
        lines: Receives the lines of the values.
        faults: Receives the faults of the values.
    """

    def __init__(self, lines: dict[Path, int], faults: list[Fault]) -> None:
        self._lines = lines
        self._faults = faults

    def read(self, node: yaml.Node, path: Path = ()) -> Any:  # noqa: ANN401  any value
        """Return the value of a node; None if it is empty or wrong."""
        self._lines.setdefault(path, node.start_mark.line + 1)
        if not node.tag.startswith(STANDARD):
            self._faults.append(Fault(path, f"has the tag {show(node.tag)}: write a plain value"))
            return None
        if isinstance(node, yaml.MappingNode):
            return dict(self._read_items(node, path))
        if isinstance(node, yaml.SequenceNode):
            items = (self.read(item, (*path, place)) for place, item in enumerate(node.value))
            return [item for item in items if item is not None]
        return self._read_scalar(cast("yaml.ScalarNode", node), path)

    def _read_items(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, Any]]:
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._lines.setdefault((*path, ""), line)
                self._faults.append(Fault((*path, ""), "a key must be text"))
                continue
            name = str(key.value)
            below = (*path, name)
            if name in seen:
                first, self._lines[below] = self._lines[below], line
                self._faults.append(Fault(below, f"is already in line {first}"))
                continue
            seen.add(name)
            self._lines[below] = line
            if (read := self.read(value, below)) is not None:
                yield name, read

    def _read_scalar(self, node: yaml.ScalarNode, path: Path) -> str | None:
        if node.tag == NULL and node.style is None:
            if path:
                self._faults.append(Fault(path, NO_SPACE if ":" in str(path[-1]) else NO_VALUE))
            return None
        text = str(node.value)
        if "\0" in text or not is_unicode_text(text):
            self._faults.append(Fault(path, "must be Unicode text without NUL", text))
            return None
        return Plain(text) if node.style is None else text
