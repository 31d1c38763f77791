"""Programs that some tests drive and that pip does not install."""

from __future__ import annotations

import os
import shutil

import pytest


def require_program(name: str) -> str:
    """Its path; without the program the test is skipped, or failed where CI must have it."""
    path = shutil.which(name)
    if path is not None:
        return path
    reason = f"the program {name} is not installed"
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI must run every test")
    pytest.skip(reason)
