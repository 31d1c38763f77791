"""Sums of figures: times are added, percentages never."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from receiver.storage.reading.reports import Figures


class Sum(NamedTuple):
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
        """Down / failures; None without failures, as are MTTF and MTBF."""
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
        """The share of unknown time in all time."""
        whole = self.up + self.down + self.planned + self.unknown
        return self.unknown / whole if whole else 0.0

    @classmethod
    def of(cls, found: Iterable[Figures]) -> Sum:
        """Return the sum of the figures of several sources."""
        total = cls()
        for one in found:
            times = (one.up, one.down, one.planned, one.unknown)
            values = (
                *(time.total_seconds() for time in times),
                *(one.failures, one.micro_stops, one.micro_stop_time.total_seconds()),
            )
            total = cls._make(sum(pair) for pair in zip(total, values, strict=True))
        return total
