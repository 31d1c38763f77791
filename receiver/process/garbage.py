"""Makes Python's garbage collector run seldom."""

from __future__ import annotations

import gc


def collect_garbage_seldom() -> None:
    """Let a batch, or all imports of a command, be made between two runs of the collector.

    Samples, rows and modules are in no reference cycles, but are made by the ten thousand: with
    Python's defaults the collector takes a quarter of the time of a batch, and a tenth of a start.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
