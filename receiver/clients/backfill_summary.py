"""What came of a backfill: how much of it is rows, and why it may be none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from receiver.errors import SetupError
from receiver.rows.batch import Outcomes


class Copied(NamedTuple):
    """What was read, and what became of it."""

    read: Counter[str]
    """Samples of each metric, by its name."""
    outcomes: Outcomes

    def has_rows(self, waiting: int) -> bool:
        """Whether any sample is part of a row, where so many wait for the other one."""
        accepted = self.outcomes.accepted
        return not accepted or waiting < accepted

    def summary(self, waiting: int) -> str:
        """What became of the samples, in one line."""
        accepted = self.outcomes.accepted
        parts = [f"{max(0, accepted - waiting)} in rows, now or before"]
        if waiting:
            parts.append(
                f"{waiting} without the other sample of their row (they wait in pending_halves, "
                "and are rejected as unpaired after RECEIVER_PAIR_TIMEOUT; the two metrics must "
                "have the same labels and times)"
            )
        parts.append(f"{self.outcomes.rejected} rejected (rejected_samples says why)")
        return "; ".join(parts)


def require_both(read: Counter[str], names: Mapping[str, Metric], span: str) -> None:
    """Check that samples of both metrics were read.

    Raises:
        SetupError: there are none of one or both: nothing became a row.
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
