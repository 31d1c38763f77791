"""Findings of a diagnosis, and the loop that runs all checks even if one fails."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias


class Level(StrEnum):
    """Severity of a finding."""

    OK = "ok"
    NOTE = "note"
    """Good to know; nothing has to be done."""
    WARNING = "warning"
    """Works, but something is wrong or will be."""
    PROBLEM = "problem"
    """Rows are not stored, or are wrong."""


class Finding(NamedTuple):
    """What was found, and what to do about it."""

    level: Level
    found: str
    advice: str = ""


Check: TypeAlias = Callable[[], Awaitable[Iterable[Finding]]]

Report: TypeAlias = AsyncGenerator[tuple[str, Finding], None]
"""Findings as they come, each with the topic it belongs to."""

SPANS: Final = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def ok(found: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(Level.OK, found)


def note(found: str, advice: str = "") -> Finding:
    """Return a finding that is good to know."""
    return Finding(Level.NOTE, found, advice)


def warning(found: str, advice: str = "") -> Finding:
    """Return a finding that should be looked at."""
    return Finding(Level.WARNING, found, advice)


def problem(found: str, advice: str = "") -> Finding:
    """Return a finding that must be fixed."""
    return Finding(Level.PROBLEM, found, advice)


async def carry_out(checks: Mapping[str, Check]) -> Report:
    """Run checks one after the other; one that fails is a finding and does not stop the others."""
    for topic, check in checks.items():
        try:
            findings = await check()
        except Exception as error:  # noqa: BLE001  whatever it is, the other checks still run
            findings = [warning(f"could not be checked: {str(error) or type(error).__name__}")]
        for finding in findings:
            yield topic, finding


def brief(time: timedelta) -> str:
    """Format a duration in its two largest units: `1h30m`."""
    seconds = abs(round(time.total_seconds()))
    parts = []
    for unit, size in SPANS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
        elif parts:
            break
    return "".join(parts[:2]) or "0s"
