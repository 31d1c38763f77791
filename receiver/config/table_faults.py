"""Finds all faults of a tables file, and describes each with its place in one line."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

from pydantic import ValidationError

from receiver.config.explaining import one_of, reason_of, show, unknown_key
from receiver.config.table_file import ColumnEntry, Entry, LabelEntry, TableEntry, TablesFile
from receiver.config.table_names import IS_METRIC, METRIC_LABEL, derived
from receiver.config.table_values import TYPES
from receiver.config.yaml_tree import Fault, Path, Tree

MAX_COLUMNS: Final = 500
"""Maximum number of columns of a table: PostgreSQL keeps a row of numbers in one 8 KiB page."""
ENTRIES: Final[dict[object, tuple[str, type[Entry]]]] = {
    "columns": ("a column", ColumnEntry),
    "labels": ("a column of a label", LabelEntry),
}
KEY: Final = "[key]"
"""Element that pydantic appends to the path of a wrong key."""


def find_faults(tree: Tree, error: ValidationError | None, file: str) -> list[str]:
    """Return all faults of a tables file, one line each, in the order of the file.

    Args:
        tree: The content of the file.
        error: The errors that pydantic reports; None if there are none.
        file: The name of the file.
    """
    known = {fault.path for fault in tree.faults}
    shapes = [] if error is None else explain(error, known)
    found = [*tree.faults, *shapes, *check_across(tree.value)]
    placed = sorted((tree.line(fault.path), write(fault)) for fault in found)
    return [f"{file} line {line}: {text}" for line, text in placed]


def write(fault: Fault) -> str:
    """Return a fault as text, with its table and column."""
    path, names = fault.path, []
    if path[:1] == ("tables",) and len(path) > 1:
        names.append(f"table {show(path[1])}")
        path = path[2:]
        if path[:1] and path[0] in ENTRIES and len(path) > 1:
            names.append(f"column {show(path[1])}")
            path = path[2:]
    place = f"{', '.join(names)}: " if names else ""
    # A position in a list is left out: the value says more.
    keys = " ".join(show(key) for key in path if isinstance(key, str))
    value = f"={show(fault.value)}" if isinstance(fault.value, str) else ""
    return f"{place}{keys}{value}: {fault.text}" if keys else f"{place}{fault.text}"


def explain(error: ValidationError, known: Collection[Path]) -> Iterator[Fault]:
    """Yield the faults that pydantic reports.

    Args:
        error: The errors that pydantic reports.
        known: Places of faults that are reported already.
    """
    for details in error.errors():
        place = tuple(details["loc"])
        if place in known or (details["type"] == "too_short" and is_above(place, known)):
            # The tree lacks the part with the known fault, which causes this error.
            continue
        if place[-1:] == (KEY,):
            yield Fault(place[:-1], reason_of(details))
        elif details["type"] == "missing":
            yield Fault(place[:-1], f"needs {place[-1]}{missing(place)}")
        elif details["type"] == "extra_forbidden":
            yield Fault(place, unknown(place))
        else:
            yield Fault(place, reason_of(details), details["input"])


def is_above(place: Path, known: Collection[Path]) -> bool:
    """Return whether one of the known places is at or below a place."""
    return any(below[: len(place)] == place for below in known)


def missing(place: Path) -> str:
    """Describe the allowed values of a missing `type`; return an empty text for other keys."""
    return f": {one_of(TYPES)}" if place[-1] == "type" else ""


def unknown(place: Path) -> str:
    """Describe the keys that are allowed in place of an unknown one."""
    what: str = "the file"
    entry: type[Entry] = TablesFile
    if len(place) == 3:
        what, entry = "a table", TableEntry
    elif len(place) > 3:
        what, entry = ENTRIES[place[2]]
    return unknown_key(place[-1], list(entry.model_fields), what)


# --- checks across entries -----------------------------------------------------------------------


def entries(value: Any, key: str) -> dict[str, Any]:  # noqa: ANN401  whatever the file holds
    """Return the mapping under a key; an empty one if there is none."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def check_across(value: Any) -> Iterator[Fault]:  # noqa: ANN401  whatever the file holds
    """Find faults between entries; values of a wrong shape are skipped."""
    tables = entries(value, "tables")
    for name, table in tables.items():
        place = ("tables", name)
        yield from check_metrics(place, entries(table, "columns"))
        yield from check_labels(place, table)
    yield from check_relations(tables)


def check_metrics(place: Path, columns: dict[str, Any]) -> Iterator[Fault]:
    """Find metrics that feed a table twice, and a table without a required column."""
    seen: dict[str, str] = {}
    for name, column in columns.items():
        metric = column.get("metric") if isinstance(column, dict) else None
        if not isinstance(metric, str):
            continue
        if metric in seen:
            text = f"column {show(seen[metric])} of this table has this metric already"
            yield Fault((*place, "columns", name, "metric"), text, metric)
        seen.setdefault(metric, name)
    if columns and all(is_optional(column) for column in columns.values()):
        text = "at least one column must be required: leave out `required: false` of one"
        yield Fault((*place, "columns"), text)


def is_optional(column: Any) -> bool:  # noqa: ANN401  whatever the file holds
    """Return whether a column is declared with `required: false`."""
    return isinstance(column, dict) and str(column.get("required", True)).lower() == "false"


def check_labels(place: Path, table: Any) -> Iterator[Fault]:  # noqa: ANN401  whatever the file holds
    """Find label columns whose name is taken or that would be empty, and too many columns."""
    columns, labels = entries(table, "columns"), entries(table, "labels")
    ignoring = table.get("ignoring") if isinstance(table, dict) else None
    for name, entry in labels.items():
        below = (*place, "labels", name)
        label = entry.get("label", name) if isinstance(entry, dict) else name
        if name in columns:
            yield Fault(below, "a column of this name holds a metric: choose another name")
        if label == METRIC_LABEL and "label" not in entries(labels, name):
            yield Fault(below, IS_METRIC)
        if isinstance(ignoring, list) and label in ignoring:
            text = f"label {show(label)} is in `ignoring`, so it has no value in `sources`"
            yield Fault(below, f"{text}: remove it from one of them")
    if (count := len(columns) + len(labels)) > MAX_COLUMNS:
        text = f"has {count} columns, and a table can have {MAX_COLUMNS}: split it"
        yield Fault((*place, "columns"), text)


def check_relations(tables: dict[str, Any]) -> Iterator[Fault]:
    """Find names of tables and code tables that another declared table uses in the database."""
    taken = {name: table for table in tables for name in derived(table)}
    for table in tables:
        if table in taken:
            yield Fault(("tables", table), belongs(table, taken))
    for table, value in tables.items():
        for name, column in entries(value, "columns").items():
            codes = column.get("codes") if isinstance(column, dict) else None
            if not isinstance(codes, str):
                continue
            place = ("tables", table, "columns", name, "codes")
            if codes in tables:
                yield Fault(
                    place, "it is a table of the file and holds rows: choose another name", codes
                )
            elif codes in taken:
                yield Fault(place, belongs(codes, taken), codes)


def belongs(name: str, taken: dict[str, str]) -> str:
    """Describe which table a name belongs to."""
    return f"{show(name)} is a name that belongs to table {show(taken[name])}: choose another name"
