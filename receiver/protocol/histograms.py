"""Checks native histograms: they are only counted, but an invalid one is the sender's fault."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import attrgetter
from typing import Final

from receiver.protocol.generated.remote_write_v2_pb2 import BucketSpan, Histogram
from receiver.protocol.limits import InvalidSeriesError

length_of: Final = attrgetter("length")


def check_histogram(histogram: Histogram) -> None:
    """Check that spans, buckets and count agree (native histograms specification).

    Raises:
        InvalidSeriesError: they do not agree.
    """
    if histogram.WhichOneof("count") == "count_float":
        positive: Sequence[float] = histogram.positive_counts
        negative: Sequence[float] = histogram.negative_counts
    else:
        positive = list(accumulate(histogram.positive_deltas))
        negative = list(accumulate(histogram.negative_deltas))
        check_count(histogram, [*positive, *negative, histogram.zero_count_int])
    check_buckets("positive", histogram.positive_spans, positive)
    check_buckets("negative", histogram.negative_spans, negative)


def count_spans(histogram: Histogram) -> int:
    """Count the spans before they are read."""
    return len(histogram.positive_spans) + len(histogram.negative_spans)


def check_count(histogram: Histogram, counts: Sequence[float]) -> None:
    """Check an integer histogram's count; if its sum is NaN, some observations are in no bucket.

    Raises:
        InvalidSeriesError: the count does not match the buckets.
    """
    count, observations = histogram.count_int, sum(counts)
    if count != observations and not (math.isnan(histogram.sum) and count > observations):
        raise InvalidSeriesError(
            f"a histogram's buckets hold {observations} observations, but its count is {count}"
        )


def check_buckets(side: str, spans: Iterable[BucketSpan], counts: Sequence[float]) -> None:
    """Check one side of a histogram.

    Raises:
        InvalidSeriesError: the spans do not match the number of buckets, or a count is negative.
    """
    named = sum(map(length_of, spans))
    if named != len(counts):
        raise InvalidSeriesError(
            f"a histogram's {side} spans name {named} buckets, but it has {len(counts)}"
        )
    if any(count < 0 for count in counts):
        raise InvalidSeriesError(f"a histogram has a negative {side} bucket")
