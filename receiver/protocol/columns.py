"""Checks the series of a 2.0 request whose symbols are new, all at once, with numpy.

A real Prometheus sends batches that roll over its series, so nearly every request has its own
symbols, and references mean something else each time. Each check is therefore made once per symbol,
or once per shape (set of label names), of which the series of a request have few.

Series of any form but the one that nearly all senders write, and invalid series, are left to
protobuf.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from receiver.protocol.arrays import Bytes, first_of, spread
from receiver.protocol.generated.remote_write_v2_pb2 import Metadata
from receiver.protocol.layout import Layout
from receiver.protocol.limits import Limits
from receiver.protocol.series import NAME
from receiver.protocol.wire import ONE_BYTE
from receiver.rows.columns import Flags, Integers

METADATA_TAG: Final = 0x2A
MAX_REF_SIZE: Final = 3
"""Maximum size of a reference in bytes: enough for two million symbols."""
MAX_UTF8: Final = 4
"""Maximum number of bytes of a character."""
RANDOM: Final = np.random.default_rng()
HASHES: Final = RANDOM.integers(2**62, size=4096)
"""A secret random number for each reference; sums of them tell sets of references apart."""


class Symbols:
    """The symbols of a request and their properties, one array per property.

    Args:
        symbols: All symbols of the request.
        keeps: Returns whether a metric of this name is kept.
        limits: The limits of a series.
    """

    def __init__(
        self,
        symbols: Sequence[str],
        keeps: Callable[[str], bool],
        limits: Limits,
    ) -> None:
        self.texts = symbols
        self.count = len(symbols)
        self.limits = limits
        self._keeps = keeps
        self._metadata: dict[bytes, bool] = {}

    @cached_property
    def distinct(self) -> bool:
        """Whether no symbol occurs twice, as it should be; slow for many symbols."""
        return len(set(self.texts)) == self.count

    @cached_property
    def name(self) -> int:
        """Reference to the symbol `__name__`, -1 if there is none."""
        return self.texts.index(NAME) if NAME in self.texts else -1

    @cached_property
    def sizes(self) -> Integers:
        """Upper bound of the size of each symbol in UTF-8, in bytes."""
        return MAX_UTF8 * np.fromiter(map(len, self.texts), np.int64, self.count)

    @cached_property
    def longest(self) -> int:
        """The largest of `sizes`; 0 if there are no symbols."""
        return int(self.sizes.max(initial=0))

    @cached_property
    def wanted(self) -> Flags:
        """Whether each symbol is the name of a kept metric."""
        return np.fromiter(map(self._keeps, self.texts), np.bool_, self.count)

    @cached_property
    def hashes(self) -> Integers:
        """A secret random number for each symbol."""
        return HASHES if self.count <= HASHES.size else RANDOM.integers(2**62, size=self.count)

    def has_metadata(self, encoded: bytes) -> bool:
        """Return whether the bytes are metadata with valid references."""
        known = self._metadata.get(encoded)
        if known is None:
            known = self._check_metadata(encoded)
            self._metadata[encoded] = known
        return known

    def _check_metadata(self, encoded: bytes) -> bool:
        size = len(encoded) - 2
        if size >= ONE_BYTE or encoded[:2] != bytes([METADATA_TAG, size]):
            return False
        try:
            metadata = Metadata.FromString(encoded[2:])
        except DecodeError:
            return False
        return metadata.help_ref < self.count and metadata.unit_ref < self.count

    def find_name(self, names: list[int]) -> int:
        """Return the index of `__name__` among a series' label names; -1 if they are invalid."""
        if len(names) > self.limits.max_series_labels or len(set(names)) < len(names):
            return -1
        # The first symbol is the empty string.
        return names.index(self.name) if self.name in names and 0 not in names else -1


class Valid(NamedTuple):
    """The valid ones of some series; the others still have to be parsed."""

    places: Integers
    """Indexes of the valid series."""
    refs: Integers
    """Their label references, series by series."""
    counts: Integers
    """Number of references of each series."""
    kept: Flags
    """Whether the metric of each series is kept."""


def check(layout: Layout, places: Integers, symbols: Symbols) -> Valid:
    """Check many series of the usual form at once.

    Args:
        layout: Where the parts of the series are.
        places: Indexes of the series in the layout.
        symbols: The symbols of the request, all distinct.
    """
    starts = layout.starts[places] + 2
    refs, counts = read_refs(layout.text.data, starts, starts + layout.sizes[places])
    right = counts % 2 == 0
    if refs.size and refs.max() >= symbols.count:
        right &= np.maximum.reduceat(refs, first_of(counts)) < symbols.count
    if not right.all():
        refs, counts, places = refs[np.repeat(right, counts)], counts[right], places[right]
    metrics = find_metrics(refs, counts, symbols)
    valid = metrics > 0
    if not valid.all():
        refs, counts, places = refs[np.repeat(valid, counts)], counts[valid], places[valid]
    return Valid(places, refs, counts, symbols.wanted[metrics[valid]])


def have_usual_tails(layout: Layout, symbols: Symbols) -> Flags:
    """Return which usual series end with the sample, or with metadata whose references are valid.

    Unless a feature flag is set, all metadata that Prometheus sends is empty.
    """
    ends, tails = layout.ends, layout.tails
    empty = (tails == 2) & (layout.text.words[ends] & 0xFFFF == METADATA_TAG)
    usual: Flags = empty | (tails == 0)
    usual &= layout.usual
    some = np.flatnonzero((tails > 2) & layout.usual)
    if some.size:
        text = layout.text.data.data
        between = zip(ends[some].tolist(), (ends + tails)[some].tolist(), strict=True)
        usual[some] = [symbols.has_metadata(bytes(text[start:end])) for start, end in between]
    return usual


def read_refs(data: Bytes, starts: Integers, ends: Integers) -> tuple[Integers, Integers]:
    """Read all references in the ranges from `starts` to `ends`, at least one in each.

    Returns:
        The references, with a number beyond all symbols for one that is too long; the number of
        references in each range.
    """
    packed = data[spread(starts, ends - starts)]
    lasts = np.flatnonzero(packed < ONE_BYTE)
    taken = np.diff(lasts, prepend=-1)
    refs = packed[lasts].astype(np.int64)
    for before in range(1, MAX_REF_SIZE):
        longer = np.flatnonzero(taken > before)
        refs[longer] = refs[longer] << 7 | packed[lasts[longer] - before] & 0x7F
    refs[taken > MAX_REF_SIZE] = np.iinfo(np.int64).max
    counts = np.diff(np.searchsorted(lasts, np.cumsum(ends - starts)), prepend=0)
    return refs, counts


def find_metrics(refs: Integers, counts: Integers, symbols: Symbols) -> Integers:
    """Return the reference to each series' metric name; 0 if the labels are invalid."""
    if not counts.size:
        return counts
    names, values = refs[::2], refs[1::2]
    labels = counts // 2
    firsts = first_of(labels)
    _, shown, shapes = np.unique(
        np.add.reduceat(symbols.hashes[names], firsts), return_index=True, return_inverse=True
    )
    # The label names of a shape are checked once. Only their order may differ.
    found = [
        symbols.find_name(names[first : first + count].tolist())
        for first, count in zip(firsts[shown].tolist(), labels[shown].tolist(), strict=True)
    ]
    place = np.array(found)[shapes]
    metric = firsts + np.maximum(place, 0)
    right = (place >= 0) & (names[metric] == symbols.name)
    most = symbols.limits.max_label_set_size
    if counts.max() * symbols.longest > most:
        right &= np.add.reduceat(symbols.sizes[refs], first_of(counts)) <= most
    metrics: Integers = values[metric]
    metrics[~right] = 0
    return metrics
