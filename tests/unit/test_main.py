"""What the program does before anything else."""

from __future__ import annotations

import getpass
import os

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
