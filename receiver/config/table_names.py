"""Checks the names of tables, columns and labels."""

from __future__ import annotations

from typing import Final

MAX_TABLE: Final = 40
"""Maximum bytes of a table's name; the names of its views, indexes and functions are longer."""
MAX_COLUMN: Final = 63
"""Maximum bytes of a name in PostgreSQL."""
METRIC_LABEL: Final = "__name__"
IS_METRIC: Final = f"{METRIC_LABEL} is the metric: columns have `metric` for it"

ERROR_CODES: Final = "error_codes"
APP_LOGS: Final = "app_logs"
OWN_COLUMNS: Final = ("id", "created_at", "source_id")
SYSTEM_COLUMNS: Final = ("ctid", "xmin", "xmax", "cmin", "cmax", "tableoid")
OWN_TABLES: Final = (
    "sources",
    "pending_rows",
    "pending_halves",
    "rejected_samples",
    "backfills",
    "alembic_version",
    "code_classes",
    "planned_stops",
    "report_changes",
    "report_days",
    "report_holidays",
    "report_ranges",
    "report_settings",
    "report_shifts",
    "source_keys",
    "state_comments",
)
OWN_PREFIXES: Final = ("receiver_", "app_status_")
SYSTEM_PREFIX: Final = "pg_"
SUFFIXES: Final = ("_now", "_intervals", "_pkey", "_id_seq", "_created_at_idx")
"""Suffixes of a table's name in the names of its views, indexes and sequence."""


def derived(table: str) -> list[str]:
    """Return the names of a table's views, indexes and sequence."""
    return [f"{table}{suffix}" for suffix in SUFFIXES]


TAKEN: Final = frozenset(
    (
        *OWN_TABLES,
        *(name for table in (*OWN_TABLES, ERROR_CODES, APP_LOGS) for name in derived(table)),
    )
)


def check_name(name: str, longest: int) -> str:
    """Check that a name is visible, and that PostgreSQL would not truncate it.

    Raises:
        ValueError: the name is empty, too long or not printable.
    """
    size = len(name.encode("utf-8", "surrogatepass"))
    if not name.strip():
        raise ValueError("a name must not be empty")
    if not name.isprintable():
        raise ValueError("a name must be printable text")
    if size > longest:
        raise ValueError(f"a name must have at most {longest} bytes, and this one has {size}")
    return name


def check_column(name: str) -> str:
    """Check the name of a column.

    Raises:
        ValueError: no declared column can have this name.
    """
    if name in OWN_COLUMNS:
        raise ValueError("every table has a column of this name already: choose another name")
    if name in SYSTEM_COLUMNS:
        raise ValueError("PostgreSQL uses this name itself: choose another name")
    return check_name(name, MAX_COLUMN)


def check_relation(name: str) -> str:
    """Check the name of a table of rows or of codes.

    Raises:
        ValueError: PostgreSQL or the receiver uses the name itself, or `check_name` refuses it.
    """
    if name in TAKEN or name.startswith(OWN_PREFIXES):
        raise ValueError("the receiver uses this name itself: choose another name")
    if name.startswith(SYSTEM_PREFIX):
        raise ValueError("PostgreSQL uses names that begin with pg_ itself: choose another name")
    return check_name(name, MAX_TABLE)


def check_table(name: str) -> str:
    """Check the name of a table that holds rows.

    Raises:
        ValueError: no declared table can have this name.
    """
    if name == ERROR_CODES:
        raise ValueError("it holds error codes: choose another name")
    return check_relation(name)


def check_codes(name: str) -> str:
    """Check the name of a table that says what codes mean.

    Raises:
        ValueError: no such table can have this name.
    """
    if name == APP_LOGS:
        raise ValueError("it holds rows: choose another name, such as error_codes")
    return check_relation(name)


def check_label(name: str) -> str:
    """Check the name of a label.

    Raises:
        ValueError: the name is empty, or is `__name__`.
    """
    if name == METRIC_LABEL:
        raise ValueError(IS_METRIC)
    if not name:
        raise ValueError("a label must have a name")
    return name
