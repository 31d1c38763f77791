"""Alert routing and inhibition, with the stack's configuration run by Alertmanager itself."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.programs import require_program
from tests.unit.test_rules import ALERTS

CONFIGURATION = Path(__file__).parents[2] / "deploy/alertmanager/alertmanager.yml"
TEXT = CONFIGURATION.read_text()
SHOWN = ("webhook", "email", "slack")
SECRETS = "/etc/alertmanager-secrets"


def amtool(*arguments: str | Path) -> str:
    """Run amtool, which must succeed."""
    ran = subprocess.run(
        [require_program("amtool"), *arguments], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def chosen(name: str) -> str:
    """The configuration after the steps that it describes: the receiver's lines, and its name."""
    blocks = TEXT.split("\n\n")
    (block,) = (block for block in blocks if f"#  - name: {name}\n" in f"{block}\n")
    uncommented = re.sub("^#", "", block, flags=re.MULTILINE)
    return TEXT.replace(block, uncommented).replace("receiver: nobody", f"receiver: {name}", 1)


def matched(matchers: list[str]) -> set[str]:
    """Return the alerts that an inhibition's matchers name."""
    (matcher,) = (text for text in matchers if text.startswith("alertname"))
    pattern = matcher.partition("=")[2].removeprefix("~").strip('"')
    return {name for name in ALERTS if re.fullmatch(pattern, name)}


def test_alertmanager_accepts_it_and_notifies_nobody() -> None:
    assert "1 receivers" in amtool("check-config", CONFIGURATION)
    for severity in ("critical", "warning"):
        shown = amtool(
            "config", "routes", "test", f"--config.file={CONFIGURATION}", f"severity={severity}"
        )
        assert shown.strip() == "nobody"


@pytest.mark.parametrize("name", SHOWN)
def test_a_receiver_is_chosen_by_a_few_lines(name: str, tmp_path: Path) -> None:
    for secret in re.findall(rf"{SECRETS}/(\w+)", TEXT):
        (tmp_path / secret).write_text("http://127.0.0.1:9/secret")
    file = tmp_path / "alertmanager.yml"
    text = chosen(name).replace(SECRETS, str(tmp_path))
    # Alertmanager has url_file since 0.26; the image's own is tried by tests/stack.
    file.write_text(re.sub(r"\burl_file: .*", "url: http://127.0.0.1:9/", text))
    amtool("check-config", file)
    options = ("config", "routes", "test", f"--config.file={file}")
    for severity in ("critical", "warning"):
        assert amtool(*options, f"severity={severity}").strip() == name


def test_no_secret_is_written_into_it() -> None:
    keys = re.findall(r"(\w*(?:url|password|token)\w*):", TEXT)
    assert len(keys) == len(SHOWN)
    assert all(key.endswith("_file") for key in keys)


def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(TEXT)["inhibit_rules"]
    return found


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["source_matchers"][0])
def test_an_inhibition_names_alerts_that_there_are(rule: dict[str, Any]) -> None:
    source, targets = matched(rule["source_matchers"]), matched(rule["target_matchers"])
    assert len(source) == 1
    assert targets
    assert not source & targets
    (pattern,) = re.findall(r'"(.+)"', rule["target_matchers"][0])
    assert all(any(re.fullmatch(part, name) for name in targets) for part in pattern.split("|"))


def test_what_costs_samples_is_never_held_back() -> None:
    held = set().union(*(matched(rule["target_matchers"]) for rule in rules()))
    assert not held & {"RemoteWriteDropping", "ReceiverDown", "ReceiverDatabaseDown"}
