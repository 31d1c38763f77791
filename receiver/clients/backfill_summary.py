"""The result of a backfill: how many rows, and why there may be none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

from receiver.errors import SetupError
from receiver.rows.batch import Outcome
from receiver.rows.model import Metric

SETTING: Final = {
    Metric.STATUS: "RECEIVER_STATUS_METRIC",
    Metric.OCR: "RECEIVER_OCR_METRIC",
}


class Copied(NamedTuple):
    """The samples that were read, and their outcomes."""

    read: Counter[str]
    """Number of samples by name of the metric."""
    outcomes: Counter[Outcome]

    def has_rows(self, waiting: int) -> bool:
        """Return whether any sample is in a row, given the number that waits for the other one."""
        accepted = self.outcomes[Outcome.ACCEPTED]
        return not accepted or waiting < accepted

    def summary(self, waiting: int) -> str:
        """Return the outcomes of the samples in one line."""
        accepted = self.outcomes[Outcome.ACCEPTED]
        parts = [f"{max(0, accepted - waiting)} in rows, now or before"]
        if waiting:
            parts.append(
                f"{waiting} without the other sample of their row (they wait in pending_halves, "
                "and are rejected as unpaired after RECEIVER_PAIR_TIMEOUT; the two metrics must "
                "have the same labels and times)"
            )
        parts.append(f"{self.outcomes[Outcome.REJECTED]} rejected (rejected_samples says why)")
        return "; ".join(parts)


def require_both(read: Counter[str], names: Mapping[str, Metric], span: str) -> None:
    """Check that samples of both metrics were read.

    Raises:
        SetupError: one or both have none, so there are no rows.
    """
    missing = [name for name in names if not read[name]]
    if not missing:
        return
    settings = [SETTING[names[name]] for name in missing]
    hint = f"is its name right ({', '.join(settings)}), and does Prometheus keep it so long?"
    kept = "".join(
        f"; the {number} samples of {name} wait for it in pending_halves and become no rows"
        for name, number in read.items()
        if number
    )
    raise SetupError(f"Prometheus has no samples of {' or '.join(missing)} {span}{kept}: {hint}")
