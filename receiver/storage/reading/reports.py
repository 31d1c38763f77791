"""Reads reports on the states of a range of time: figures, and the Pareto of codes.

The functions `report` and `report_codes` of the database compute them; docs/reports.md has the
definitions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, NamedTuple

import asyncpg

from receiver.errors import DatabaseUnavailableError, UnavailableError
from receiver.rows.tables import Table
from receiver.storage.connection.database import Connection, used
from receiver.storage.reading.periods import Period

TOTAL: Final = "total"
SOURCE: Final = "source"
SHIFT: Final = "shift"
"""What figures can be grouped by; anything else is the name of a label."""

_REPORT: Final = """
SELECT left(name, 500), source_id, sources, availability, up, down, planned, unknown, failures,
    micro_stops, micro_stop_time, mttr, mttf, mtbf
FROM report($1, $2, $3, $4, $5, $6)
"""
_CODES: Final = """
SELECT code, left(name, 500), times, down, share, cumulative_share
FROM report_codes($1, $2, $3, $4, $5)
"""
_MATCHING: Final = "SELECT array_agg(id ORDER BY id) FROM sources WHERE labels @> $1::text::jsonb"


class Figures(NamedTuple):
    """The figures of a source, a group of sources or a shift in a report."""

    name: str
    source_id: int | None
    """None for a group."""
    sources: int
    availability: float | None
    """up / (up + down); None without either."""
    up: timedelta
    down: timedelta
    planned: timedelta
    unknown: timedelta
    failures: int
    """Stretches of down time that begin in the range, micro-stops included."""
    micro_stops: int
    micro_stop_time: timedelta
    mttr: timedelta | None
    """down / failures; None without a failure, as are the next two."""
    mttf: timedelta | None
    """up / failures"""
    mtbf: timedelta | None
    """mttf + mttr"""


class CodeTime(NamedTuple):
    """The share of a code in the down time."""

    code: int
    name: str | None
    times: int
    """How often it began."""
    down: timedelta
    share: float
    cumulative_share: float
    """The share of this code and of all that lasted longer."""


class SlowReportError(UnavailableError):
    """The report takes longer than the time that it has."""


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Limit the time for a report.

    Raises:
        SlowReportError: the report takes longer, or one of its statements exceeds the session's
            limit.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise SlowReportError from error
    except DatabaseUnavailableError as error:
        if isinstance(error.__cause__, asyncpg.QueryCanceledError):
            raise SlowReportError from error
        raise


async def read_figures(
    connection: Connection,
    table: Table,
    period: Period,
    by: str,
    sources: Sequence[int] | None = None,
) -> list[Figures]:
    """Return the figures of a period by source, shift or label, or the total.

    Args:
        connection: The session.
        table: A table with a column of codes.
        period: The range of time.
        by: `total`, `source`, `shift` or the name of a label.
        sources: Which sources; None: all that have rows in the period or in the 30 days before it.

    Raises:
        ReceiverError: as `translated` does.
    """
    async with used(connection):
        rows = await connection.fetch(
            _REPORT, table.name, period.start, period.end, by, sources, code_column(table)
        )
    return [Figures(*row) for row in rows]


async def read_codes(
    connection: Connection, table: Table, period: Period, sources: Sequence[int] | None = None
) -> list[CodeTime]:
    """Return the codes of the down time of a period, those that lasted longest first.

    Raises:
        ReceiverError: as `translated` does.
    """
    async with used(connection):
        rows = await connection.fetch(
            _CODES, table.name, period.start, period.end, sources, code_column(table)
        )
    return [CodeTime(*row) for row in rows]


async def find_matching(connection: Connection, labels: str) -> list[int]:
    """Return the ids of the sources with these labels, written as JSON.

    Raises:
        ReceiverError: as `translated` does.
    """
    async with used(connection):
        return await connection.fetchval(_MATCHING, labels) or []


def code_column(table: Table) -> str | None:
    """Return the column whose states are reported; None if there is none."""
    return table.codes[0].name if table.codes else None
