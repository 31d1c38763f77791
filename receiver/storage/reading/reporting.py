"""The figures of reports, as the functions of the database calculate them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from receiver.rows.tables import Table
from receiver.storage.connection.database import Connection, translated
from receiver.storage.reading.sources import LABELS, read_labels

# Seconds, not intervals: sums of them may be longer than a timedelta holds.
_FIGURES: Final = f"""
SELECT r.source_id, {LABELS} AS labels, EXTRACT(EPOCH FROM r.up)::double precision,
    EXTRACT(EPOCH FROM r.down)::double precision, EXTRACT(EPOCH FROM r.planned)::double precision,
    EXTRACT(EPOCH FROM r.unknown)::double precision, r.failures, r.micro_stops,
    EXTRACT(EPOCH FROM r.micro_stop_time)::double precision
FROM report($1, $2, $3, 'source', $4) AS r JOIN sources s ON s.id = r.source_id
ORDER BY r.source_id
"""

_CODES: Final = """
SELECT code, left(name, 500), times, EXTRACT(EPOCH FROM down)::double precision, share,
    cumulative_share
FROM report_codes($1, $2, $3, $4)
"""


class Figures(NamedTuple):
    """Times in seconds, and counts; those of several sources are added."""

    up: float = 0.0
    down: float = 0.0
    planned: float = 0.0
    unknown: float = 0.0
    failures: int = 0
    micro_stops: int = 0
    micro_stop_time: float = 0.0

    @property
    def availability(self) -> float | None:
        """Up / (up + down); None without either."""
        return self.up / (self.up + self.down) if self.up + self.down else None

    @property
    def mttr(self) -> float | None:
        """Down / failures; None without failures, as are the next two."""
        return self.down / self.failures if self.failures else None

    @property
    def mttf(self) -> float | None:
        """Up / failures."""
        return self.up / self.failures if self.failures else None

    @property
    def mtbf(self) -> float | None:
        """MTTF + MTTR."""
        return (self.up + self.down) / self.failures if self.failures else None

    @property
    def unknown_share(self) -> float:
        """The part of all time that is unknown."""
        whole = self.up + self.down + self.planned + self.unknown
        return self.unknown / whole if whole else 0.0

    def plus(self, other: Figures) -> Figures:
        """Return the figures of both together."""
        return Figures._make(one + another for one, another in zip(self, other, strict=True))


class SourceFigures(NamedTuple):
    """The figures of a source."""

    source_id: int
    labels: dict[str, str]
    figures: Figures


class CodeFigures(NamedTuple):
    """A code's part of all down time."""

    code: int
    name: str | None
    times: int
    """How often it began."""
    down: float
    """Seconds."""
    share: float
    cumulative: float
    """The share of this code and of all with more down time."""


async def read_figures(
    connection: Connection,
    table: Table,
    window: tuple[datetime, datetime],
    sources: Sequence[int] | None = None,
) -> list[SourceFigures]:
    """Return the figures of sources, of all that had rows unless some are named."""
    with translated():
        rows = await connection.fetch(_FIGURES, *arguments(table, window, sources))
    return [
        SourceFigures(id_, read_labels(labels), Figures(*values)) for id_, labels, *values in rows
    ]


async def read_code_figures(
    connection: Connection,
    table: Table,
    window: tuple[datetime, datetime],
    sources: Sequence[int] | None = None,
) -> list[CodeFigures]:
    """Return the down time by code, the longest first."""
    with translated():
        rows = await connection.fetch(_CODES, *arguments(table, window, sources))
    return [CodeFigures(*row) for row in rows]


def arguments(
    table: Table, window: tuple[datetime, datetime], sources: Sequence[int] | None
) -> tuple[object, ...]:
    """Return the arguments of the functions of reports."""
    since, until = (moment.isoformat() for moment in window)
    return table.name, since, until, None if sources is None else list(sources)
