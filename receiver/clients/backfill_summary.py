"""The result of a backfill: how many rows, and why there may be none."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from receiver.errors import SetupError
from receiver.rows.batch import Outcomes
from receiver.rows.tables import Catalogue


class Copied(NamedTuple):
    """The samples that were read, and their outcomes."""

    read: Counter[str]
    """Number of samples by name of the metric."""
    outcomes: Outcomes

    def has_rows(self, waiting: int) -> bool:
        """Return whether any sample is in a row, given the number in incomplete rows."""
        accepted = self.outcomes.accepted
        return not accepted or waiting < accepted

    def summary(self, waiting: int) -> str:
        """Return the outcomes of the samples in one line."""
        accepted = self.outcomes.accepted
        parts = [f"{max(0, accepted - waiting)} in rows, now or before"]
        if waiting:
            parts.append(
                f"{waiting} of incomplete rows (they wait in pending_rows, and are rejected as "
                "unpaired after RECEIVER_PAIR_TIMEOUT; the metrics of a row must have the same "
                "labels and times)"
            )
        parts.append(f"{self.outcomes.rejected} rejected (rejected_samples says why)")
        return "; ".join(parts)


def require_metrics(read: Counter[str], catalogue: Catalogue, span: str) -> None:
    """Check that samples of all required columns of a table were read.

    Raises:
        SetupError: no table has them, so there are no rows.
    """
    wanted = [
        [column.metric for column in table.columns if column.required] for table in catalogue.tables
    ]
    if any(all(read[name] for name in names) for names in wanted):
        return
    missing = sorted({name for names in wanted for name in names if not read[name]})
    hint = (
        "are the names right (RECEIVER_STATUS_METRIC and RECEIVER_OCR_METRIC, or "
        "RECEIVER_TABLES_FILE), and does Prometheus keep them so long?"
    )
    kept = "".join(
        f"; the {number} samples of {name} wait for them in pending_rows and become no rows"
        for name, number in read.items()
        if number
    )
    raise SetupError(f"Prometheus has no samples of {' or '.join(missing)} {span}{kept}: {hint}")
