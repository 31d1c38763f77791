"""The image runs as any user, with a read-only file system, and stops on request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.stack.engine import docker
from tests.waiting import until

HELD_IN = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--tmpfs=/tmp")
NOBODY_THERE = "RECEIVER_DATABASE_URL=postgresql://receiver@127.0.0.1:1/receiver"


@contextmanager
def running(image: str, *options: str) -> Iterator[str]:
    """Run a receiver container without a database; yield its id."""
    name = docker("run", "--detach", *HELD_IN, "--env", NOBODY_THERE, *options, image).split()[-1]
    try:
        yield name
    finally:
        docker("rm", "--force", name)


def state(name: str) -> dict[str, Any]:
    (found,) = json.loads(docker("inspect", name))
    inspected: dict[str, Any] = found["State"]
    return inspected


@pytest.mark.parametrize("user", ["10001:10001", "12345:12345", "0:0", "2147483647:7"])
async def test_it_runs_as_any_user_without_a_home(image: str, user: str) -> None:
    with running(image, f"--user={user}", "--env=HOME=", "--network=none") as name:
        await until(lambda: "listening on" in docker("logs", name))
        docker("stop", "--time=20", name)
        assert state(name)["ExitCode"] == 0
        assert "Traceback" not in docker("logs", name)


async def test_it_is_reached_by_its_health_check_wherever_it_listens(image: str) -> None:
    """Most containers have no ::1."""
    for listen in ("0.0.0.0:9201", "[::]:9201"):
        with running(image, f"--env=RECEIVER_LISTEN={listen}") as name:
            await until(lambda name=name: "listening on" in docker("logs", name))
            shown = docker("exec", name, "sh", "-c", "receiver health || true")
            assert "no receiver answers" not in shown
            assert "database" in shown


def test_it_has_no_pip_and_advises_none(image: str) -> None:
    run = ("run", "--rm", *HELD_IN, "--network=none", "--entrypoint=sh", image, "-c")
    for module in ("pip", "ensurepip"):
        shown = docker(*run, f"python -c 'import {module}' || true")
        assert "ModuleNotFoundError" in shown
    for command in ("receiver serve", "receiver export -o /tmp/x.parquet", "receiver doctor"):
        shown = docker(*run, f"{command} || true")
        assert shown.strip()
        assert not re.search(r"\bpip\b", shown), shown
