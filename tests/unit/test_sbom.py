"""The SBOM of a release lists what the image installs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from receiver import __version__

ROOT = Path(__file__).parents[2]


def test_it_lists_everything_that_the_image_installs_with_its_hashes() -> None:
    command = [sys.executable, str(ROOT / "deploy/sbom.py")]
    bom = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert bom["bomFormat"] == "CycloneDX"
    assert bom["metadata"]["component"]["version"] == __version__
    lock = (ROOT / "requirements.txt").read_text()
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE))
    assert {part["name"]: part["version"] for part in bom["components"]} == pinned
    assert len(pinned) > 20
    listed = {digest["content"] for part in bom["components"] for digest in part["hashes"]}
    assert listed == set(re.findall(r"sha256:(\w+)", lock))
    for part in bom["components"]:
        assert part["purl"].lower() == f"pkg:pypi/{part['name']}@{part['version']}".lower()


def test_a_release_describes_how_it_is_made() -> None:
    assert "deploy/sbom.py" in (ROOT / "docs/contributing.md").read_text()
    assert re.search(r"receiver-VERSION\.cdx\.json", (ROOT / "SECURITY.md").read_text())
