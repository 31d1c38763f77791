"""Warnings about faulty versions of PostgreSQL and TimescaleDB."""

from __future__ import annotations

import pytest

from receiver.storage.diagnosis.faults import Versions, judge

Extension = tuple[int, int, int]


def found(major: int, minor: int, extension: Extension) -> list[str]:
    return [finding.found for finding in judge(Versions(major, minor, extension))]


@pytest.mark.parametrize(
    ("major", "minor", "extension", "update"),
    [
        (15, 20, (2, 22, 1), "2.28.5"),
        (15, 21, (2, 28, 3), "2.28.5"),
        (16, 16, (2, 27, 2), "2.32.1 or later"),
        (17, 12, (2, 29, 2), "2.32.1 or later"),
        (18, 7, (2, 30, 2), "2.32.1 or later"),
        (18, 8, (2, 31, 1), "2.32.1 or later"),
        (17, 12, (2, 32, 0), "2.32.1 or later"),
    ],
)
def test_jobs_that_fail(major: int, minor: int, extension: Extension, update: str) -> None:
    finding = next(iter(judge(Versions(major, minor, extension))))
    assert "cannot drop portal" in finding.found
    assert update in finding.advice


@pytest.mark.parametrize(
    ("major", "minor", "extension"),
    [
        (15, 19, (2, 22, 1)),
        (15, 20, (2, 27, 3)),
        (15, 20, (2, 28, 4)),
        (16, 15, (2, 32, 0)),
        (17, 11, (2, 29, 2)),
        (17, 12, (2, 31, 2)),
        (17, 12, (2, 32, 1)),
        (18, 7, (2, 33, 0)),
        (18, 7, (3, 0, 0)),
        (19, 0, (2, 32, 0)),
    ],
)
def test_jobs_that_run(major: int, minor: int, extension: Extension) -> None:
    assert not any("portal" in text for text in found(major, minor, extension))


def test_a_postgresql_with_other_structures() -> None:
    assert any("crashes" in text for text in found(17, 1, (2, 17, 2)))
    assert not any("crashes" in text for text in found(17, 2, (2, 17, 2)))


def test_security_holes() -> None:
    assert any("2.32.0 fixes" in text for text in found(17, 11, (2, 31, 2)))
    assert found(17, 12, (2, 32, 1)) == []
