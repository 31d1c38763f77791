"""Checks the series of a 2.0 request whose symbols are new, all at once, with numpy.

A real Prometheus sends batches that roll over its series, so nearly every request has symbols of
its own, and references mean something else each time. What must be checked is then checked once a
symbol, or once a shape: few series of a request differ in the names of their labels.

Series of another form than nearly all senders write, and invalid ones, are left to protobuf.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from receiver.protocol.arrays import Bytes, Flags, Integers, first_of, spread
from receiver.protocol.generated.remote_write_v2_pb2 import Metadata
from receiver.protocol.limits import Limits
from receiver.protocol.samples import (
    HEAD,
    LABELS_TAG,
    TIMESTAMP_SIZE,
    TIMESTAMP_TAG,
    VALUE_TAG,
    ZERO_SIZE,
)
from receiver.protocol.series import NAME
from receiver.protocol.wire import ONE_BYTE

SAMPLE_TAG, VALUE_SIZE = HEAD[:2]
METADATA_TAG: Final = 0x2A
MARGIN: Final = bytes(1024)
"""Zeros after the last series: two sizes of one byte lead no further beyond its end."""
MAX_REF_SIZE: Final = 3
"""Bytes of a reference to one of two million symbols."""
MAX_UTF8: Final = 4
"""Most bytes of a character."""
RANDOM: Final = np.random.default_rng()
HASHES: Final = RANDOM.integers(2**62, size=4096)
"""A number for each reference, which nobody else knows: their sums tell sets of them apart."""


class Symbols:
    """What is known of each symbol of a request, as columns.

    Args:
        symbols: All of them, each once.
        wanted: Whether a metric of this name is kept.
        limits: Those of a series.
    """

    def __init__(self, symbols: Sequence[str], wanted: Iterable[bool], limits: Limits) -> None:
        count = len(symbols)
        self.texts = symbols
        self.count = count
        self.limits = limits
        self.name = symbols.index(NAME) if NAME in symbols else -1
        self.sizes = MAX_UTF8 * np.fromiter(map(len, symbols), np.int64, count)
        """Bytes of each in UTF-8, at most."""
        self.longest = self.sizes.max(initial=0)
        self.wanted = np.fromiter(wanted, np.bool_, count)
        self.hashes = HASHES if count <= HASHES.size else RANDOM.integers(2**62, size=count)
        self._metadata: dict[bytes, bool] = {}

    def has_metadata(self, encoded: bytes) -> bool:
        """Whether this is metadata whose references are right."""
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
        """Return which of a series' label names is the metric's; -1 if they are not valid."""
        if len(names) > self.limits.max_series_labels or len(set(names)) < len(names):
            return -1
        # The first symbol is the empty string.
        return names.index(self.name) if self.name in names and 0 not in names else -1


class Checked(NamedTuple):
    """What is found of some series. Those that are valid and not kept are in none of the lists."""

    kept: list[int]
    """Places of valid series of metrics that are kept."""
    ends: list[int]
    """Where the sample of each ends and its metadata begin."""
    refs: Integers
    """Their label references, one after the other."""
    counts: Integers
    """How many references each has."""
    others: list[int]
    """Places of those that are to be parsed."""


class Layout(NamedTuple):
    """Where the parts of some series are."""

    data: Bytes
    """All series, one after the other."""
    starts: Integers
    """Where each begins in the data."""
    samples: Integers
    """Where its sample begins in the data, behind its references."""
    ends: Integers
    """Where its sample ends, in bytes from its beginning."""
    lengths: Integers
    """Bytes of each."""


def check(encoded: Sequence[bytes], symbols: Symbols) -> Checked:
    """Check series at once.

    Args:
        encoded: The series; at least one.
        symbols: Those of the request.
    """
    layout = lay_out(encoded)
    places = np.flatnonzero(have_usual_samples(layout))
    places = places[have_usual_tails(encoded, layout, places, symbols)]
    refs, counts = read_refs(layout.data, layout.starts[places] + 2, layout.samples[places])
    right = counts % 2 == 0
    if refs.size and refs.max() >= symbols.count:
        right &= np.maximum.reduceat(refs, first_of(counts)) < symbols.count
    if not right.all():
        refs, counts, places = refs[np.repeat(right, counts)], counts[right], places[right]
    metrics = find_metrics(refs, counts, symbols)
    kept = symbols.wanted[metrics] & (metrics > 0)
    others = np.ones(len(encoded), np.bool_)
    others[places[metrics > 0]] = False
    return Checked(
        places[kept].tolist(),
        layout.ends[places[kept]].tolist(),
        refs[np.repeat(kept, counts)],
        counts[kept],
        np.flatnonzero(others).tolist(),
    )


def lay_out(encoded: Sequence[bytes]) -> Layout:
    """Find the only sample of each series, as if all were of the usual form."""
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    data = np.frombuffer(b"".join([*encoded, MARGIN]), np.uint8)
    starts = first_of(lengths)
    samples = starts + 2 + data[starts + 1]
    ends = samples + 2 + data[samples + 1] - starts
    return Layout(data, starts, samples, ends, lengths)


def have_usual_samples(layout: Layout) -> Flags:
    """Check which series begin with references and one sample of the usual form."""
    data, starts, samples, ends, lengths = layout
    sizes, announced, after = data[starts + 1], data[samples + 1], starts + ends
    usual: Flags = (
        (ends <= lengths) & (data[starts] == LABELS_TAG) & (sizes > 0) & (sizes < ONE_BYTE)
    )
    usual &= (data[samples - 1] < ONE_BYTE) & (data[samples] == SAMPLE_TAG)
    # A value that ends as the head of a sample without one does is read by protobuf.
    valued = (announced == VALUE_SIZE) & (data[samples + 2] == VALUE_TAG)
    valued &= data[after - TIMESTAMP_SIZE - 1] != ZERO_SIZE
    usual &= valued | (announced == ZERO_SIZE)
    usual &= (data[after - TIMESTAMP_SIZE] == TIMESTAMP_TAG) & (data[after - 1] < ONE_BYTE)
    for before in range(2, TIMESTAMP_SIZE):
        usual &= data[after - before] >= ONE_BYTE
    return usual


def have_usual_tails(
    encoded: Sequence[bytes], layout: Layout, places: Integers, symbols: Symbols
) -> Flags:
    """Check which of these series have nothing after the sample, or metadata with right references.

    Without a feature flag, all metadata that Prometheus sends are empty.
    """
    ends = layout.ends[places]
    sizes, after = layout.lengths[places] - ends, layout.starts[places] + ends
    empty = (sizes == 2) & (layout.data[after] == METADATA_TAG) & (layout.data[after + 1] == 0)
    usual: Flags = empty | (sizes == 0)
    some = np.flatnonzero(sizes > 2)
    usual[some] = [
        symbols.has_metadata(encoded[place][end:])
        for place, end in zip(places[some].tolist(), ends[some].tolist(), strict=True)
    ]
    return usual


def read_refs(data: Bytes, starts: Integers, ends: Integers) -> tuple[Integers, Integers]:
    """Read all references that lie between these positions, at least one in each.

    Returns:
        The references, a number beyond all symbols for one that is too long; how many there are
        between each two positions.
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
    """Return the reference to each series' metric name; 0 where the labels are not valid."""
    if not counts.size:
        return counts
    names, values = refs[::2], refs[1::2]
    labels = counts // 2
    firsts = first_of(labels)
    _, shown, shapes = np.unique(
        np.add.reduceat(symbols.hashes[names], firsts), return_index=True, return_inverse=True
    )
    # The names of a shape are checked once. Only their order may differ.
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
