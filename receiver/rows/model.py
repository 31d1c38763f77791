"""The plain types that decoding, pairing and storage share."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

Labels: TypeAlias = tuple[tuple[str, str], ...]
"""Label names and values, sorted by name, without `__name__`."""


class Metric(StrEnum):
    """The two metrics that are kept; which names they have is a setting."""

    STATUS = "status"
    OCR = "ocr"


class Source:
    """One label set without `__name__`: what tells one application's rows from another's.

    There is one object a label set, so it can be compared by identity on the hot path. `id` is the
    key in the table `sources`; storage sets it as soon as it knows it.
    """

    __slots__ = ("__weakref__", "id", "labels")

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.id: int | None = None

    def __repr__(self) -> str:
        labels = ", ".join(f"{name}={value!r}" for name, value in self.labels)
        return f"Source({{{labels}}}, id={self.id})"


class Series(NamedTuple):
    """A kept series: which of the two metrics, and of which source."""

    metric: Metric
    source: Source


# Millions of these pass a second on the hot path, where a plain tuple costs a tenth of a named one.

Sample: TypeAlias = tuple[Series, int, float]
"""A sample of a kept series: its timestamp in milliseconds since the Unix epoch, and its value."""

Row: TypeAlias = tuple[int, Source, float, int, float]
"""A complete pair, one row of `app_logs`: timestamp (milliseconds since the Unix epoch), source,
the status sample's value (a whole number in the range of int32), OCR value (microseconds since
2000-01-01 UTC, as TIMESTAMPTZ is stored), and the OCR sample's value."""

Half: TypeAlias = tuple[int, Source, float | None, int | None, float | None]
"""An incomplete row: one sample of a pair whose other sample is not there yet."""

Key: TypeAlias = tuple[int, Source]
"""What tells rows apart: timestamp (milliseconds since the Unix epoch) and source."""


class Reason(StrEnum):
    """Why a sample was rejected."""

    NOT_A_NUMBER = "not_a_number"
    INFINITE = "infinite"
    NOT_WHOLE = "not_whole"
    OUT_OF_RANGE = "out_of_range"
    TIMESTAMP_OUT_OF_RANGE = "timestamp_out_of_range"
    CONFLICT = "conflict"
    """Another value for the same source and time is stored already."""
    UNPAIRED = "unpaired"
    WITH_OTHER = "other_sample_rejected"
    """The sample that it makes a row with was rejected."""
    TOO_OLD = "too_old"
    TOO_FAR_AHEAD = "too_far_ahead"
    TOO_MANY_SOURCES = "too_many_new_sources"
    TOO_MANY_CODES = "too_many_new_codes"
    TOO_MANY_CHUNKS = "too_many_new_chunks"
    REFUSED = "refused_by_database"


BREAKING: Final = (
    Reason.NOT_A_NUMBER,
    Reason.INFINITE,
    Reason.NOT_WHOLE,
    Reason.OUT_OF_RANGE,
    Reason.WITH_OTHER,
    Reason.TOO_MANY_CODES,
    Reason.TOO_MANY_CHUNKS,
    Reason.REFUSED,
)
"""Reasons for which the other sample of the pair is rejected, too."""


class Fate(StrEnum):
    """What became of a sample in the database, if it was not rejected for a `Reason`."""

    STORED = "stored"
    """It is part of a row."""
    DUPLICATE = "duplicate"
    """It repeats a sample that was there."""
    DISCARDED = "discarded"
    """A rule of the database's keeps it out of `rejected_samples`, too; it was logged."""


Fates: TypeAlias = Counter[Fate | Reason]
"""How many samples a transaction settled in which way. One that still waits has no fate yet."""


class Newest(NamedTuple):
    """The newest row of a source, and what tells the source from others."""

    source_id: int
    job: str
    instance: str
    timestamp: float
    """Seconds since the Unix epoch."""


class Observed(NamedTuple):
    """What the database holds, as it was seen at one time."""

    pending: int
    """Halves that wait for their twin."""
    oldest: float
    """Seconds that the first of them has waited."""
    sources: int
    unlisted: int
    """Sources that are too many to be looked at one by one."""
    newest: list[Newest]


class Rejected(NamedTuple):
    """A sample that cannot become part of a row, with its exact value."""

    source: Source
    metric: Metric
    timestamp: int
    value: float
    reason: Reason
    detail: str | None = None
    """What the database said, where it refused the sample."""


class Faults(NamedTuple):
    """The invalid series of a request; nothing of them is among its samples."""

    invalid: int
    total: int
    """All series of the request."""
    first: list[str]
    """A sentence for each of the first few."""


class WriteRequest(NamedTuple):
    """What a request of any protocol version says, as far as the receiver keeps it."""

    samples: list[Sample]
    """Samples of the kept series, in no particular order."""
    received: int
    """All samples of valid series, kept or filtered."""
    histograms: int
    exemplars: int
    faults: Faults
