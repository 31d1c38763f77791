"""Memory that a request has used is reused by the next one."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

USE = """
import resource
from receiver.process.memory import keep_freed_memory

{keep}
for round in range(220):
    if round == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    pieces = [bytes([1]) * 300_000 for _ in range(4)]
    del pieces
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 200)
"""


def pages_a_round(keep: str) -> int:
    """Return the memory pages that the system allocates per round of the same use."""
    done = subprocess.run(
        [sys.executable, "-c", USE.format(keep=keep)], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_freed_memory_is_used_again() -> None:
    assert pages_a_round("") > 50
    assert pages_a_round("keep_freed_memory()") < 5
