"""Reads RECEIVER_TABLES_FILE into a catalogue, or reports all of its faults at once."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import ValidationError

from receiver.config.catalogue import DEFAULTS, TIMESTAMPS, Durations
from receiver.config.files import read_text
from receiver.config.table_faults import find_faults
from receiver.config.table_file import ColumnEntry, LabelEntry, TableEntry, TablesFile
from receiver.config.value_types import is_unicode_text
from receiver.config.yaml_tree import NotYamlError, read_tree
from receiver.errors import TablesFileError
from receiver.rows.columns import BIGINT, BOOLEAN, CODE, DOUBLE, SPECIAL_DOUBLE, ColumnType
from receiver.rows.tables import Catalogue, Column, LabelColumn, Table

TYPES: Final = {"code": CODE, "bigint": BIGINT, "boolean": BOOLEAN}
EMPTY: Final = "is empty: it must begin with `tables:`"


def read_catalogue(file: Path, durations: Durations = DEFAULTS) -> Catalogue:
    """Read a tables file.

    Args:
        file: The file.
        durations: Durations for tables that do not declare their own.

    Raises:
        SettingsError: the file cannot be read.
        TablesFileError: the content is wrong.
    """
    return parse_catalogue(read_text(file), str(file), durations)


def parse_catalogue(
    text: str, file: str = "tables.yaml", durations: Durations = DEFAULTS
) -> Catalogue:
    """Read the content of a tables file.

    Args:
        text: The content.
        file: The file's name, for errors.
        durations: Durations for tables that do not declare their own.

    Raises:
        TablesFileError: the content is wrong; the error has one line per fault.
    """
    content = parse_tables_file(text, file)
    return Catalogue([build(name, table, durations) for name, table in content.tables.items()])


def parse_tables_file(text: str, file: str) -> TablesFile:
    """Read and check the content of a tables file, without building a catalogue.

    Raises:
        TablesFileError: the content is wrong.
    """
    if not is_unicode_text(text):
        line = next(n for n, line in enumerate(text.split("\n"), 1) if not is_unicode_text(line))
        raise TablesFileError([f"{file} line {line}: is not UTF-8 text; save the file as UTF-8"])
    try:
        tree = read_tree(text)
    except NotYamlError as error:
        raise TablesFileError([f"{file} line {error.line}: {error}"]) from None
    if tree.value is None and not tree.faults:
        raise TablesFileError([f"{file} line 1: {EMPTY}"])
    try:
        content, wrong = TablesFile.model_validate(tree.value), None
    except ValidationError as error:
        content, wrong = None, error
    faults = find_faults(tree, wrong, file)
    if content is None or faults:
        raise TablesFileError(faults)
    return content


def build(name: str, table: TableEntry, durations: Durations) -> Table:
    """Build a table from its declaration."""
    given = {key: getattr(table, key) for key in table.model_fields_set & {*Durations._fields}}
    return Table(
        name,
        [build_column(*item) for item in table.columns.items()],
        labels=[build_label(*item) for item in table.labels.items()],
        match=table.match,
        ignoring=frozenset(table.ignoring),
        **durations._replace(**given)._asdict(),
    )


def build_column(name: str, column: ColumnEntry) -> Column:
    """Build the column of a metric from its declaration."""
    return Column(
        name, column.metric, type_of(column), required=column.required, codes=column.codes or ""
    )


def type_of(column: ColumnEntry) -> ColumnType:
    """Return the type of a declared column."""
    if column.type == "timestamp":
        return TIMESTAMPS[column.unit or "seconds"]
    if column.type == "double":
        return SPECIAL_DOUBLE if column.special else DOUBLE
    return TYPES[column.type]


def build_label(name: str, column: LabelEntry) -> LabelColumn:
    """Build the column of a label from its declaration."""
    return LabelColumn(name, column.label or name, column.type)
