"""Imports between the rooms of the package only go down, and the tests mirror its layout."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "receiver"

FLOORS: Final = (
    ("receiver", "receiver.errors", "receiver.printable"),
    ("receiver.rows",),
    ("receiver.protocol",),
    ("receiver.config",),
    ("receiver.http",),
    ("receiver.telemetry",),
    ("receiver.storage.connection",),
    ("receiver.storage.schema",),
    ("receiver.storage.writing",),
    ("receiver.storage.reading",),
    ("receiver.storage.editing", "receiver.storage.diagnosis", "receiver.storage"),
    ("receiver.security", "receiver.embedded"),
    ("receiver.write", "receiver.read", "receiver.web"),
    ("receiver.clients",),
    ("receiver.process",),
    ("receiver.doctor", "receiver.demo"),
    ("receiver.commands",),
    ("receiver.__main__",),
)
"""The rooms, from the lowest floor to the highest; a room imports from lower floors only.

`receiver.storage` is what lies in that folder itself: what puts its rooms together.
"""
LEVELS: Final = {room: level for level, floor in enumerate(FLOORS) for room in floor}


class Import(NamedTuple):
    """An import of one module by another."""

    importer: str
    imported: str


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES: Final = {name_of(path): path for path in PACKAGE.rglob("*.py")}


def room_of(module: str) -> str:
    """Return the innermost room that contains the module."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    room = next(name for name in names if name in LEVELS)
    # Modules on the top level are rooms of their own.
    assert room != "receiver" or module == room, f"{module} lies on no floor"
    return room


def imports_of(module: str, source: str) -> Iterator[Import]:
    """Yield all imports of our own modules, including those for types and in functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} has a relative import"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            imported = [name if name in MODULES else str(node.module) for name in inner]
        else:
            continue
        for name in imported:
            if name.partition(".")[0] == "receiver":
                yield Import(module, name)


def goes_down(found: Import) -> bool:
    importer, imported = room_of(found.importer), room_of(found.imported)
    return importer == imported or LEVELS[imported] < LEVELS[importer]


def test_imports_go_down_only() -> None:
    found = [each for name, path in MODULES.items() for each in imports_of(name, path.read_text())]
    assert found
    upward = [f"{each.importer} imports {each.imported}" for each in found if not goes_down(each)]
    assert upward == []


@pytest.mark.parametrize(
    "line",
    [
        "from receiver.commands.cli import main",
        "from receiver.commands import cli",
        "import receiver.process.server",
        "def late() -> None:\n    from receiver.web import pages",
        "if TYPE_CHECKING:\n    from receiver.security.authentication import Authentication",
    ],
)
def test_an_import_that_goes_up_is_found(line: str) -> None:
    (found,) = imports_of("receiver.http.body", line)
    assert not goes_down(found)


def test_every_room_is_there() -> None:
    rooms = {room_of(module) for module in MODULES}
    assert set(LEVELS) == rooms


def test_the_unit_tests_are_laid_out_as_the_package() -> None:
    tests = ROOT / "tests" / "unit"
    folders = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")}
    assert [str(folder) for folder in folders if not (PACKAGE / folder).is_dir()] == []
