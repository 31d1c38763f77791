"""Makes Python's garbage collector run seldom."""

from __future__ import annotations

import gc


def collect_garbage_seldom() -> None:
    """Run the collector once in 100,000 new objects, rather than in 700.

    Samples, rows and modules are in no reference cycles, but are made by the ten thousand: with
    Python's defaults the collector takes a quarter of the time of a batch, and a tenth of a start.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
