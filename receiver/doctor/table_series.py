"""Checks that Prometheus has the series that make the rows of a table."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Final

from receiver.clients.backfill import LABEL_NAME, usable_match
from receiver.clients.prometheus import Prometheus, selector
from receiver.printable import counted
from receiver.rows.tables import Column, Table
from receiver.storage.diagnosis.findings import Finding, note, ok, problem, warning

NAMED: Final = 4
"""Maximum number of metrics of a row that a finding names."""
ANY: Final = ".+"
"""Matches every value of a label that is there."""


class TableSeries:
    """The series of a table in Prometheus, as expressions of PromQL.

    Args:
        table: The table.
        added: Labels that Prometheus adds when it sends, which its own series do not have.
    """

    def __init__(self, table: Table, added: Collection[str]) -> None:
        self.table = table
        self.required = [column for column in table.columns if column.required]
        self.optional = [column for column in table.columns if not column.required]
        self._match = usable_match(table, added)
        self._ignored = [
            label if LABEL_NAME.fullmatch(label) else json.dumps(label, ensure_ascii=False)
            for label in sorted(table.ignoring)
        ]

    def select(self, column: Column) -> str:
        """Return the selector of a column's series."""
        return selector(column.metric, self._match)

    def alone(self, column: Column) -> str:
        """Return an expression for series of a required column whose row lacks another series."""
        others = [self.select(other) for other in self.required if other is not column]
        all_others = f" and{self._ignoring} ".join(others)
        row = f"({all_others})" if len(others) > 1 else all_others
        return f"{self.select(column)} unless{self._ignoring} {row}"

    def several(self, column: Column) -> str | None:
        """Return an expression for rows with several series of a column; None if impossible."""
        if not self._ignored:
            return None
        # Through remote read, Prometheus gets each series again, without the ignored labels.
        own = " or ".join(
            selector(column.metric, {**self._match, label: ANY}) for label in self._ignored
        )
        return f"count without({', '.join(self._ignored)}) ({own}) > 1"

    @cached_property
    def _ignoring(self) -> str:
        return f" ignoring({', '.join(self._ignored)})" if self._ignored else ""


async def check_table(prometheus: Prometheus, series: TableSeries) -> list[Finding]:
    """Check whether the series of a table make rows.

    Raises:
        UnavailableError: as `Prometheus.api` does.
    """
    table = series.table
    counts = {
        column: await prometheus.count_series(series.select(column)) for column in table.columns
    }
    missing = [column for column in series.required if not counts[column]]
    if missing:
        return [
            problem(
                f"Prometheus has no series {describe(series, column)} now, so {table.name} gets no "
                "rows",
                "is the application scraped (Status > Targets), and is the metric's name right?",
            )
            for column in missing
        ]
    findings = [
        note(
            f"Prometheus has no series {describe(series, column)} now, so column {column.name} of "
            f"{table.name} stays NULL"
        )
        for column in series.optional
        if not counts[column]
    ]
    unfit = [
        finding
        for column in table.columns
        for finding in await check_column(prometheus, series, column, counts[column])
    ]
    if not unfit:
        first, *others = series.required
        each = f", each with its {listed(others)}" if others else ""
        findings.append(ok(f"{table.name}: {counts[first]} series {first.metric}{each}"))
    return findings + unfit


async def check_column(
    prometheus: Prometheus, series: TableSeries, column: Column, count: int
) -> list[Finding]:
    """Check for series of a column that make no row, or several that make the same row."""
    table, findings = series.table, []
    if len(series.required) > 1 and column.required:
        expression = series.alone(column)
        if alone := await prometheus.count_series(expression):
            others = [other for other in series.required if other is not column]
            findings.append(
                warning(
                    f"{table.name}: {alone} of {count} series {column.metric} have no "
                    f"{listed(others)} with the same labels",
                    f"to list them: {expression}",
                )
            )
    expression = series.several(column) or ""
    if expression and (several := await prometheus.count_series(expression)):
        findings.append(
            warning(
                f"{table.name}: {counted(several, 'row')} with several series "
                f"{column.metric} that differ only in {', '.join(sorted(table.ignoring))}: the "
                "first value is stored, others are rejected",
                f"tell them apart by `match`; to list them: {expression}",
            )
        )
    return findings


def describe(series: TableSeries, column: Column) -> str:
    """Return the metric of a column, or the selector of its series that the table takes."""
    return series.select(column) if series.table.match else column.metric


def listed(columns: Sequence[Column]) -> str:
    """List metrics in words."""
    *first, last = (column.metric for column in columns[:NAMED])
    if len(columns) > NAMED:
        return f"{', '.join(first)}, {last} and {len(columns) - NAMED} others"
    return f"{', '.join(first)} and {last}" if first else last
