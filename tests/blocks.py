"""Samples in arrays, as decoders return the samples of series in a known order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

import numpy as np

from receiver.rows.assembly import encode_keys
from receiver.rows.blocks import Block, KeptSeries, RowBlock
from receiver.rows.model import Row, Sample, Samples, Series

END_TIME = 2**42
"""First timestamp in milliseconds that does not fit."""


def in_arrays(samples: Collection[Sample], numbers: Iterable[int]) -> Samples:
    """Return the samples, each in the block of its number; number 0 means no block."""
    plain: list[Sample] = []
    divided: defaultdict[int, list[Sample]] = defaultdict(list)
    for sample, number in zip(samples, numbers, strict=True):
        fits = number and 0 <= sample[1] < END_TIME
        (divided[number] if fits else plain).append(sample)
    return Samples([block_of(divided[number]) for number in sorted(divided)], plain)


def block_of(samples: Collection[Sample]) -> Block:
    """Return the samples in one block of twice as many series."""
    series = [one for one, _, _ in samples]
    places = np.arange(len(series)) + len(series)
    times = np.array([timestamp for _, timestamp, _ in samples], np.int64)
    values = np.array([value for _, _, value in samples], np.float64)
    return Block(KeptSeries(series[::-1] + series), places, times, values)


def row_block(rows: Collection[Row]) -> RowBlock:
    """Return the block of complete rows of one table."""
    keys = [(timestamp, source) for timestamp, source, _ in rows]
    series = [Series(source.table.columns[0], source) for _, source in keys]
    return RowBlock(
        encode_keys(keys),
        np.array([timestamp for timestamp, _ in keys], np.int64),
        np.fromiter(series, object, len(series)),
        np.array([values for _, _, values in rows], np.float64),
    )
