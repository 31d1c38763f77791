"""What `receiver doctor` says of credentials and certificates."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from receiver.doctor import security
from receiver.storage.diagnosis.findings import Finding, Level
from tests.certificates import issue
from tests.conftest import MakeSettings

LONG = "0123456789abcdef"


async def look(make_settings: MakeSettings, topic: str, **values: object) -> list[Finding]:
    settings = make_settings(**values)
    return list(await security.CHECKS[topic](settings))


@pytest.mark.parametrize(
    ("values", "levels", "said"),
    [
        ({}, [Level.OK], "only this machine"),
        ({"listen": "0.0.0.0:1"}, [Level.WARNING], "anyone who reaches this machine"),
        ({"bearer_token": f"{LONG}\n{LONG}"}, [Level.OK], "(users: 0, tokens: 2)"),
        ({"bearer_token": "hunter2"}, [Level.OK, Level.WARNING], "less than 16 characters"),
        ({"bearer_token": LONG, "listen": "0.0.0.0:1"}, [Level.OK, Level.NOTE], "unencrypted"),
        ({"credentials_file": "none"}, [Level.PROBLEM], "cannot be read"),
        ({"credentials_file": "twice"}, [Level.PROBLEM], "twice, line 2: has the same name as"),
        (
            {"tls_client_ca_file": "x", "tls_cert_file": "x", "listen": "0.0.0.0:1"},
            [Level.OK],
            "and a client certificate",
        ),
    ],
)
async def test_credentials(
    make_settings: MakeSettings, values: dict[str, str], levels: list[Level], said: str
) -> None:
    await asyncio.to_thread(Path("twice").write_text, "bearer_tokens: x\nbearer_tokens: x\n")
    findings = await look(make_settings, "credentials", **values)
    assert [finding.level for finding in findings] == levels
    text = " ".join(finding.found for finding in findings)
    assert said in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("name", "mode", "said"),
    [
        ("key.pem", 0o600, None),
        ("key.pem", 0o640, None),
        ("key.pem", 0o644, "every user can read the private key"),
        ("key.pem", 0o620, "other users can write to it"),
        ("cert.pem", 0o644, None),
        ("cert.pem", 0o646, "other users can write to it"),
        ("credentials.yml", 0o644, None),
        ("credentials.yml", 0o664, "other users can write to it"),
    ],
)
async def test_files(
    make_settings: MakeSettings, tmp_path: Path, name: str, mode: int, said: str | None
) -> None:
    files = issue("server").write(tmp_path) | {"credentials_file": tmp_path / "credentials.yml"}
    for file in files.values():
        file.touch(0o600)
        file.chmod(0o600)
    (tmp_path / name).chmod(mode)
    findings = await look(make_settings, "files", **files)
    assert [finding.found for finding in findings] == (
        [f"{tmp_path / name}: {said}"] if said else []
    )


@pytest.mark.parametrize(
    ("days", "level", "said"),
    [
        (90, Level.OK, "expires in 90d"),
        (3, Level.WARNING, "expires in 3d"),
        (-9, Level.PROBLEM, "certificate has expired"),
    ],
)
async def test_a_certificate(
    make_settings: MakeSettings, tmp_path: Path, days: int, level: Level, said: str
) -> None:
    files = issue("server", expires_in=timedelta(days=days, hours=6)).write(tmp_path)
    (finding,) = await look(make_settings, "certificate", **files)
    assert (finding.level, said in finding.found) == (level, True), finding


async def test_without_https_there_is_nothing_to_say(make_settings: MakeSettings) -> None:
    assert not await look(make_settings, "certificate")
    assert not await look(make_settings, "files")
