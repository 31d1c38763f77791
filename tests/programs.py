"""Programs that some tests run and that pip does not install."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def require_program(name: str) -> str:
    """Return the path of a program; without it, skip the test, or fail it in CI."""
    path = shutil.which(name)
    return path if path is not None else skip_outside_ci(f"the program {name} is not installed")


def skip_outside_ci(reason: str) -> NoReturn:
    """Skip the test; fail it in CI, whose script installs what the tests need."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI must run every test")
    pytest.skip(reason)
