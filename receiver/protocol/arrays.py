"""Arrays of numpy that decoders use, and places in them."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from receiver.rows.columns import Integers

Bytes: TypeAlias = NDArray[np.uint8]


def first_of(counts: Integers) -> Integers:
    """Return where each of several groups begins that follow one another."""
    return np.cumsum(counts) - counts


def spread(starts: Integers, counts: Integers) -> Integers:
    """Return each start and the numbers that follow it, so many in all."""
    numbers: Integers = np.repeat(starts - first_of(counts), counts) + np.arange(counts.sum())
    return numbers
