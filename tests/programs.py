"""Programs that some tests drive and that pip does not install."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def require_program(name: str) -> str:
    """Its path; without the program the test is skipped, or failed where CI must have it."""
    path = shutil.which(name)
    return path if path is not None else skip_outside_ci(f"the program {name} is not installed")


def skip_outside_ci(reason: str) -> NoReturn:
    """Skip the test; fail it in CI, whose script installs what the tests need."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI must run every test")
    pytest.skip(reason)
