"""Numpy array types that the decoders use, and index arithmetic on them."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from receiver.rows.columns import Integers

Bytes: TypeAlias = NDArray[np.uint8]


def first_of(counts: Integers) -> Integers:
    """Return the start index of each of several consecutive groups, given their sizes."""
    return np.cumsum(counts) - counts


def spread(starts: Integers, counts: Integers) -> Integers:
    """Return the concatenated ranges of `counts` integers that begin at `starts`."""
    numbers: Integers = np.repeat(starts - first_of(counts), counts) + np.arange(counts.sum())
    return numbers
