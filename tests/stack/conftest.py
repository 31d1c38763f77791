"""The image, built once, and stacks that are removed at the end."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.stack.engine import Stack, copy_repository, docker, obstacle

BUILDKIT = "DOCKER_BUILDKIT"
MakeStack = Callable[..., Stack]


@pytest.fixture(scope="session")
def image() -> Iterator[str]:
    """Build the image from the working tree; yield its name."""
    if (reason := obstacle()) is not None:
        pytest.skip(reason)
    # Not every engine has the newer builder.
    os.environ.setdefault(BUILDKIT, "0")
    name = f"receiver-test:{secrets.token_hex(4)}"
    docker("build", "--tag", name, Path(__file__).parents[2])
    yield name
    docker("image", "rm", "--force", name)


@pytest.fixture(scope="module")
def make_stack(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeStack]:
    """Return a function that prepares a stack with its secrets, without starting it."""
    with ExitStack() as made:

        def make(*, of: str = image) -> Stack:
            directory = tmp_path_factory.mktemp("stack")
            directory.chmod(0o700)
            copy_repository(directory)
            stack = Stack(directory, f"receiver-test-{secrets.token_hex(4)}", of)
            stack.make_secrets()
            made.callback(stack.remove)
            return stack

        yield make
