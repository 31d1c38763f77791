"""Write the SBOM of a release (CycloneDX): everything that the image installs from the index.

.venv/bin/python deploy/sbom.py >dist/receiver-VERSION.cdx.json
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from receiver import __version__

LOCK = Path(__file__).parents[1] / "requirements.txt"
PINNED = re.compile(r"^([\w.-]+)==(\S+)(.*(?:\n +--hash=.*)+)", re.MULTILINE)


def make_bom(lock: str) -> Bom:
    """Return the SBOM of a lock file as uv writes it."""
    bom = Bom(components=read_lock(lock))
    bom.metadata.component = Component(
        name="receiver",
        version=__version__,
        type=ComponentType.APPLICATION,
        bom_ref=f"receiver@{__version__}",
    )
    bom.register_dependency(bom.metadata.component, bom.components)
    return bom


def read_lock(lock: str) -> Iterator[Component]:
    """Return what is pinned, with the hashes of the files that may be installed."""
    for name, version, rest in PINNED.findall(lock):
        yield Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            purl=PackageURL("pypi", name=name, version=version),
            bom_ref=f"{name}@{version}",
            hashes=[
                HashType(alg=HashAlgorithm.SHA_256, content=digest)
                for digest in re.findall(r"sha256:([0-9a-f]{64})", rest)
            ],
        )


if __name__ == "__main__":
    sys.stdout.write(JsonV1Dot6(make_bom(LOCK.read_text())).output_as_string(indent=2) + "\n")
