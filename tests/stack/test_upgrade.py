"""Upgrade from the image of the previous release to this one, with the same volumes."""

from __future__ import annotations

import os

import pytest

from tests.stack.conftest import MakeStack
from tests.stack.engine import is_there
from tests.stack.test_stack import DEMO, require_every_row, wait_for_rows

BEFORE = os.environ.get("RECEIVER_TEST_IMAGE_BEFORE")


@pytest.mark.skipif(BEFORE is None, reason="RECEIVER_TEST_IMAGE_BEFORE names no image")
async def test_an_upgrade_keeps_every_row(make_stack: MakeStack, image: str) -> None:
    assert BEFORE is not None
    if not is_there(BEFORE):
        pytest.skip(f"there is no image {BEFORE}")
    stack = make_stack(of=BEFORE)
    stack.compose(DEMO, "up", "--detach")
    await wait_for_rows(stack)
    before = stack.rows()
    stack.use(image)
    stack.compose(DEMO, "up", "--detach")
    assert before <= stack.rows()
    await wait_for_rows(stack)
    await require_every_row(stack)
    doctor = stack.compose("exec", "-T", "receiver", "receiver", "doctor")
    assert "problem" not in doctor
