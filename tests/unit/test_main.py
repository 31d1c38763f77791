"""The first steps of the program at startup."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys

import pytest

from receiver.__main__ import name_user


@pytest.mark.parametrize("error", [KeyError, OSError])
def test_a_user_without_a_name_goes_by_the_number(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    monkeypatch.delenv("LOGNAME", raising=False)

    def fail() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", fail)
    name_user()
    assert os.environ["LOGNAME"] == str(os.getuid())


def test_a_user_with_a_name_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody")
    name_user()
    assert os.environ["LOGNAME"] == "somebody"


HEAVY = {"aiohttp", "bcrypt", "google", "jinja2", "numpy", "prometheus_client"}
HEAVY |= {"pyarrow", "re2", "snappy", "tenacity", "yaml"}
SETTINGS = {"asyncio", "asyncpg", "pydantic", "pydantic_settings", "rich", "ssl"}


@pytest.mark.parametrize(
    ("arguments", "kept_out"),
    [
        (["--help"], HEAVY | SETTINGS),
        (["health", "--help"], HEAVY | {"asyncpg", "rich"}),
        (["logs", "--help"], HEAVY),
        (["codes", "--help"], HEAVY),
        (["export", "--help"], HEAVY),
        (["migrate", "--help"], HEAVY - {"tenacity"}),
        (
            ["serve", "--help"],
            {"jinja2", "numpy", "bcrypt", "yaml", "re2"},
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "-",
)
def test_a_command_imports_only_what_it_needs(arguments: list[str], kept_out: set[str]) -> None:
    code = (
        "import sys; from receiver.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert "usage: receiver" in ended.stdout
    assert kept_out & set(ended.stderr.split()) == set()
