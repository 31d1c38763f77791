"""The examples of docs/security.md work: Prometheus' configuration and the credentials file."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from receiver.security.credentials import parse
from tests.certificates import issue
from tests.programs import require_program

DOCUMENTS = [
    Path(__file__).parents[2] / "docs" / name for name in ("security.md", "security.ko.md")
]


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n([^`]*?)^```", document.read_text(), re.MULTILINE | re.DOTALL
    )


def snippets() -> list[str]:
    return [text for path in DOCUMENTS for text in blocks(path, "yaml")]


def test_each_way_is_shown() -> None:
    shown = "".join(snippets())
    for way in ("authorization:", "basic_auth:", "ca_file:", "cert_file:"):
        assert shown.count(way) >= len(DOCUMENTS)


@pytest.mark.parametrize(
    "text", snippets(), ids=[str(number) for number, _ in enumerate(snippets())]
)
def test_prometheus_accepts_it(tmp_path: Path, text: str) -> None:
    promtool = require_program("promtool")
    issue("prometheus").write(tmp_path)
    names = {"ca.pem": "cert.pem", "prometheus.pem": "cert.pem", "prometheus.key": "key.pem"}
    for name, source in names.items():
        (tmp_path / name).write_bytes((tmp_path / source).read_bytes())
    for name in ("receiver-token", "receiver-password"):
        (tmp_path / name).write_text("secret\n")
    file = tmp_path / "prometheus.yml"
    file.write_text(text)
    checked = subprocess.run(
        [promtool, "check", "config", "--lint=all", "--lint-fatal", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_receiver_accepts_its_file(tmp_path: Path, document: Path) -> None:
    (text,) = blocks(document, "")
    (tmp_path / "credentials.yml").write_text(text)
    assert parse(tmp_path / "credentials.yml").basic_auth_users.keys() == {"prometheus"}
