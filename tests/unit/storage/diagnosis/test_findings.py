"""Creation of findings."""

from __future__ import annotations

from datetime import timedelta

import pytest

from receiver.storage.diagnosis.findings import Finding, Level, brief, carry_out, ok


async def test_a_check_that_fails_is_a_finding_and_stops_no_other() -> None:
    async def good() -> list[Finding]:
        return [ok("1"), ok("2")]

    async def bad() -> list[Finding]:
        raise ZeroDivisionError("no such number")

    async def silent() -> list[Finding]:
        raise TimeoutError

    checks = {"a": good, "b": bad, "c": silent, "d": good}
    found = [(topic, finding.level, finding.found) async for topic, finding in carry_out(checks)]
    assert found == [
        ("a", Level.OK, "1"),
        ("a", Level.OK, "2"),
        ("b", Level.WARNING, "could not be checked: no such number"),
        ("c", Level.WARNING, "could not be checked: TimeoutError"),
        ("d", Level.OK, "1"),
        ("d", Level.OK, "2"),
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.6, "1m"), (-90, "1m30s"), (3600, "1h"), (3601, "1h"), (200_000, "2d7h")],
)
def test_a_length_of_time(seconds: float, text: str) -> None:
    assert brief(timedelta(seconds=seconds)) == text
