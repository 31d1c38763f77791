"""Outcomes of samples, and why some are rejected."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Final, TypeAlias


class Reason(StrEnum):
    """Why a sample was rejected."""

    NOT_A_NUMBER = "not_a_number"
    INFINITE = "infinite"
    NOT_WHOLE = "not_whole"
    OUT_OF_RANGE = "out_of_range"
    TIMESTAMP_OUT_OF_RANGE = "timestamp_out_of_range"
    CONFLICT = "conflict"
    """Its row has another value in this column."""
    UNPAIRED = "unpaired"
    """The other samples of its row did not come in time."""
    WITH_OTHER = "other_sample_rejected"
    """A sample without which its row cannot be stored was rejected."""
    LABEL = "label_does_not_fit"
    """A label of the source does not fit the column that is to hold it."""
    TOO_OLD = "too_old"
    TOO_FAR_AHEAD = "too_far_ahead"
    TOO_MANY_SOURCES = "too_many_new_sources"
    TOO_MANY_CODES = "too_many_new_codes"
    TOO_MANY_CHUNKS = "too_many_new_chunks"
    REFUSED = "refused_by_database"


UNFIT: Final = (Reason.NOT_A_NUMBER, Reason.INFINITE, Reason.NOT_WHOLE, Reason.OUT_OF_RANGE)
"""Reasons for which a column does not take a value."""
BREAKING: Final = (
    *UNFIT,
    Reason.WITH_OTHER,
    Reason.LABEL,
    Reason.TOO_MANY_CODES,
    Reason.TOO_MANY_CHUNKS,
    Reason.REFUSED,
)
"""Reasons for which a row cannot be stored, in tables that ignore no labels."""


class Fate(StrEnum):
    """What became of a sample in the database, if it is not kept as rejected for a `Reason`."""

    STORED = "stored"
    """It is part of a row."""
    DUPLICATE = "duplicate"
    """It repeats a sample that was already there."""
    DISCARDED = "discarded"
    """It was rejected, but the database keeps it out of `rejected_samples`, too; it was logged."""


Fates: TypeAlias = Counter[tuple[str, Fate | Reason]]
"""Number of samples that a transaction settled, by table and fate; waiting samples have none."""
