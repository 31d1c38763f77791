"""The built-in catalogue, used without RECEIVER_TABLES_FILE, and what follows from any one."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Any, Final, Literal, NamedTuple

from receiver.config.table_names import APP_LOGS, ERROR_CODES
from receiver.rows.columns import CODE, POSTGRES_EPOCH, UNITS, timestamp
from receiver.rows.tables import Catalogue, Column, Table

TIMESTAMPS: Final = {unit: timestamp(microseconds) for unit, microseconds in UNITS.items()}
UNIT_NAMES: Final = {microseconds: unit for unit, microseconds in UNITS.items()}


class Durations(NamedTuple):
    """Defaults for tables that do not declare their own durations."""

    pair_timeout: timedelta = timedelta(hours=2)
    compress_after: timedelta | None = timedelta(days=7)
    retention: timedelta | None = None


DEFAULTS: Final = Durations()


def built_in(
    status_metric: str = "app_status",
    ocr_metric: str = "ocr_value",
    ocr_unit: Literal["seconds", "milliseconds"] = "seconds",
    durations: Durations = DEFAULTS,
) -> Catalogue:
    """Return the catalogue that is used if no tables file is given."""
    columns = [
        Column("app_status", status_metric, CODE, codes=ERROR_CODES),
        Column("ocr_value", ocr_metric, TIMESTAMPS[ocr_unit]),
    ]
    return Catalogue([Table(APP_LOGS, columns, **durations._asdict())])


def describe(catalogue: Catalogue) -> dict[str, Any]:
    """Return as JSON everything that determines which rows are stored, and with which values.

    Durations and the order of tables and of columns are left out.
    """
    return {"tables": {table.name: describe_table(table) for table in catalogue.tables}}


def describe_table(table: Table) -> dict[str, Any]:
    """Describe a table, as `describe` does."""
    return {
        "columns": {
            column.name: describe_column(column)
            for column in sorted(table.columns, key=lambda column: column.name)
        },
        "ignoring": sorted(table.ignoring),
        "labels": {
            column.name: {"label": column.label, "type": column.type}
            for column in sorted(table.labels)
        },
        "match": dict(sorted(table.match.items())),
    }


def describe_column(column: Column) -> dict[str, Any]:
    """Describe a column, as `describe` does."""
    described: dict[str, Any] = {
        "metric": column.metric,
        "required": column.required,
        "type": column.type.name,
    }
    if column.codes:
        described["codes"] = column.codes
    if column.type.name == "double":
        described["special"] = column.special
    if column.type.name == "timestamp":
        described["unit"] = unit_of(column)
    return described


def all_code_tables(catalogue: Catalogue) -> list[str]:
    """Return the names of all tables of codes: `error_codes`, even if unused, and the declared."""
    return list(dict.fromkeys((ERROR_CODES, *catalogue.code_tables)))


def unit_of(column: Column) -> str:
    """Return the unit of a timestamp column."""
    return UNIT_NAMES[column.read(1.0) + POSTGRES_EPOCH]


def digest(catalogue: Catalogue) -> bytes:
    """Return the SHA-256 digest of a catalogue's description."""
    text = json.dumps(describe(catalogue), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()
