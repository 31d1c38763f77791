"""Declared tables: which metrics make their rows, and of which series."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final, NamedTuple, TypeAlias

from receiver.rows.columns import SPECIAL_DOUBLE, ColumnType
from receiver.rows.reasons import BREAKING, UNFIT

Values: TypeAlias = list["float | None"]
"""The values of a row, one for each column of its table; None for a sample that has not come."""

MIN_BIGINT: Final = -(2**63)
END_BIGINT: Final = 2**63
INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}")
MAX_SHOWN: Final = 64


class Column:
    """A column that holds the samples of one metric.

    Args:
        name: Its name in the table.
        metric: The metric's name.
        type_: Its type.
        required: Whether a row is stored only when this column has a value.
        codes: The table that says what the values mean, for a column of type `code`; otherwise
            empty.
    """

    __slots__ = (
        "check",
        "codes",
        "metric",
        "name",
        "read",
        "required",
        "slot",
        "special",
        "takes",
        "type",
    )

    def __init__(
        self,
        name: str,
        metric: str,
        type_: ColumnType,
        *,
        required: bool = True,
        codes: str = "",
    ) -> None:
        self.name = name
        self.metric = metric
        self.type = type_
        self.required = required
        self.codes = codes
        self.special = type_ is SPECIAL_DOUBLE
        """Whether NaN and the infinities are accepted as values."""
        # Looked up for each sample.
        self.takes = type_.takes
        self.check = type_.check
        self.read = type_.read
        self.slot = 0
        """Its index among the values of a row; its table sets it."""

    def __repr__(self) -> str:
        return f"Column({self.name!r}, {self.metric!r}, {self.type.name})"

    def agree(self, one: float, other: float) -> bool:
        """Return whether two samples are the same value to this column."""
        return self.holds(self.read(one), other)

    def holds(self, stored: object, value: float) -> bool:
        """Return whether a stored value equals the value that a sample is read as."""
        reading = self.read(value)
        return bool(stored == reading) or (stored != stored and reading != reading)  # noqa: PLR0124


class LabelColumn(NamedTuple):
    """A column that holds the value of a label of the source."""

    name: str
    label: str
    type: str
    """`text` or `bigint`."""

    def read(self, value: str) -> str | int:
        """Return the column's value for a label's value.

        Raises:
            ValueError: the value does not fit the type.
        """
        if self.type == "text":
            return value
        number = int(value) if INTEGER.fullmatch(value) else END_BIGINT
        if not MIN_BIGINT <= number < END_BIGINT:
            raise ValueError(
                f"label {self.label}={value[:MAX_SHOWN]!r} does not fit column {self.name} "
                f"({self.type})"
            )
        return number


class Table:
    """A declared table: a row for each source and time at which all required metrics have a sample.

    Args:
        name: Its name in the database.
        columns: The columns that hold samples; the table puts required ones first.
        labels: The columns that hold label values.
        match: Regular expressions (RE2, anchored), by the labels whose values must match them; a
            missing label has the value "".
        ignoring: Labels that do not tell rows apart.
        pair_timeout: How long an incomplete row waits.
        compress_after: Age at which rows are compressed; None: never.
        retention: Age at which rows are deleted; None: never.
    """

    __slots__ = (
        "breaking",
        "codes",
        "columns",
        "compress_after",
        "empty",
        "ignoring",
        "labels",
        "match",
        "matches",
        "name",
        "optional",
        "pair_timeout",
        "required",
        "retention",
        "slots",
        "width",
    )

    def __init__(  # noqa: PLR0913  what a declaration has
        self,
        name: str,
        columns: Sequence[Column],
        *,
        labels: Sequence[LabelColumn] = (),
        match: Mapping[str, str] | None = None,
        ignoring: frozenset[str] = frozenset(),
        pair_timeout: timedelta = timedelta(hours=2),
        compress_after: timedelta | None = None,
        retention: timedelta | None = None,
    ) -> None:
        self.name = name
        self.columns = tuple(sorted(columns, key=lambda column: not column.required))
        self.labels = tuple(labels)
        self.match = match or {}
        self.matches = compile_match(self.match) if match else None
        """Returns whether a label set without `__name__` belongs to the table; None: all do."""
        self.ignoring = ignoring
        self.breaking = tuple(one for one in BREAKING if not (ignoring and one in UNFIT))
        """Reasons for which a row cannot be stored: its other samples are rejected, too.

        If labels are ignored, another series may bring a value that fits."""
        self.pair_timeout = pair_timeout
        self.compress_after = compress_after
        self.retention = retention
        self.width = len(self.columns)
        self.required = sum(column.required for column in self.columns)
        """Number of required columns; they come first."""
        self.optional = self.width > self.required
        """Whether it has optional columns."""
        self.empty: Values = [None] * self.width
        self.codes = tuple(column for column in self.columns if column.codes)
        """Columns of type `code`."""
        self.slots = {column.name: slot for slot, column in enumerate(self.columns)}
        """Indexes of the columns among the values of a row, by name."""
        for slot, column in enumerate(self.columns):
            column.slot = slot

    def __repr__(self) -> str:
        return f"Table({self.name!r})"

    def lacks(self, values: Values) -> bool:
        """Return whether a required column has no value."""
        return None in (values[: self.required] if self.optional else values)

    def split(self, values: Values) -> tuple[Values, Values]:
        """Return a row with the samples of required columns only, and one with the others."""
        required, empty = self.required, self.empty
        return values[:required] + empty[required:], empty[:required] + values[required:]

    def read_labels(self, labels: Mapping[str, str]) -> list[str | int | None]:
        """Return the values of the label columns; None for a missing label.

        Raises:
            ValueError: a label does not fit its column; the message names it.
        """
        return [
            column.read(labels[column.label]) if column.label in labels else None
            for column in self.labels
        ]

    def samples(self, values: Values) -> Iterator[tuple[Column, float]]:
        """Yield the columns that have a value, each with its value."""
        for column, value in zip(self.columns, values, strict=True):
            if value is not None:
                yield column, value


def compile_match(match: Mapping[str, str]) -> Callable[[Mapping[str, str]], bool]:
    """Return a function that returns whether all expressions match the labels.

    Raises:
        ValueError: an expression is not valid RE2; the message says why.
    """
    compiled = {label: compile_expression(expression) for label, expression in match.items()}

    def matches(labels: Mapping[str, str]) -> bool:
        return all(
            fullmatch(labels.get(label, "")) is not None for label, fullmatch in compiled.items()
        )

    return matches


def compile_expression(expression: str) -> Callable[[str], object | None]:
    """Return a function that matches a whole text, as PromQL does: `.` matches a line break, too.

    Raises:
        ValueError: the expression is not valid RE2; the message says why.
    """
    import re2  # noqa: PLC0415  only for tables that match

    options = re2.Options()
    options.dot_nl = True
    # RE2 would write to standard error what the exception says, too.
    options.log_errors = False
    try:
        fullmatch: Callable[[str], object | None] = re2.compile(expression, options).fullmatch
    except re2.error as error:
        message = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        # The message repeats parts of the expression, in which any character may be.
        shown = message if message.isprintable() else repr(message)
        raise ValueError(f"must be a regular expression (RE2): {shown}") from None
    return fullmatch


class Catalogue:
    """The declared tables, and which columns each metric feeds.

    Args:
        tables: The tables; no two have the same name, and none has a metric twice.
    """

    def __init__(self, tables: Sequence[Table]) -> None:
        self.tables = tuple(sorted(tables, key=lambda table: table.name))
        """Sorted by name, the order in which every transaction locks them."""
        self.by_name = {table.name: table for table in self.tables}
        feeds: defaultdict[str, list[tuple[Table, Column]]] = defaultdict(list)
        for table in self.tables:
            for column in table.columns:
                feeds[column.metric].append((table, column))
        self.by_metric: Mapping[str, Sequence[tuple[Table, Column]]] = dict(feeds)
        self.shares_metrics = any(len(fed) > 1 for fed in feeds.values())
        """Whether a sample may be in rows of several tables."""

    @property
    def code_tables(self) -> list[str]:
        """Return the names of the tables that say what codes mean, sorted."""
        return sorted({column.codes for table in self.tables for column in table.codes})
