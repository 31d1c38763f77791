"""The version, the changelog, the image tags and the documents of a release agree."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import yaml

from receiver import __version__

ROOT = Path(__file__).parents[2]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
RELEASES = re.findall(r"^## (\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)$", CHANGELOG, re.MULTILINE)
"""Version and date of each release, the newest first."""
KINDS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]


def test_the_version_is_the_changelogs_newest() -> None:
    assert RELEASES[0][0] == __version__


def test_the_images_have_the_version_as_their_tag() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert compose["services"]["receiver"]["image"] == f"receiver:{__version__}"
    kustomization = (ROOT / "deploy/kubernetes/base/kustomization.yaml").read_text()
    tags = {image["name"]: image["newTag"] for image in yaml.safe_load(kustomization)["images"]}
    assert tags["receiver"] == __version__


def test_releases_come_newest_first() -> None:
    versions = [tuple(map(int, version.split("."))) for version, _ in RELEASES]
    dates = [date.fromisoformat(day) for _, day in RELEASES]
    assert versions == sorted(set(versions), reverse=True)
    assert dates == sorted(dates, reverse=True)


def test_only_what_is_not_released_yet_stands_above() -> None:
    headings = re.findall(r"^## (.+)$", CHANGELOG, re.MULTILINE)
    released = [f"{version} - {day}" for version, day in RELEASES]
    assert headings in (released, ["Unreleased", *released])


def test_each_section_is_sorted_by_kind() -> None:
    for section in CHANGELOG.split("\n## ")[1:]:
        kinds = re.findall(r"^### (.+)$", section, re.MULTILINE)
        assert kinds == [kind for kind in KINDS if kind in kinds]
