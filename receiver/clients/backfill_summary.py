"""What came of a backfill: how much of it is rows, and why it may be none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from receiver.clients.backfill import Fed
from receiver.errors import SetupError
from receiver.rows.batch import Outcomes
from receiver.rows.reasons import Fate, Fates, Reason
from receiver.rows.tables import Catalogue, Table


class Copied(NamedTuple):
    """What was read, and what became of it."""

    kept: int
    """How many samples were read that feed a column."""
    read: Counter[Fed]
    """How many of each metric feed each table."""
    outcomes: Outcomes

    def has_rows(self, waiting: int) -> bool:
        """Return whether any sample is part of a row, where so many are of incomplete rows."""
        accepted = self.outcomes.accepted
        return not accepted or waiting < accepted

    def summary(self, waiting: int) -> str:
        """Say what became of the samples, in one line."""
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


def summarize_tables(
    read: Counter[Fed], fates: Fates, waiting: Counter[str], catalogue: Catalogue
) -> Iterator[str]:
    """Say of each table what became of its samples, a line for each.

    Args:
        read: How many samples of each metric feed each table.
        fates: What the database did with them.
        waiting: Samples of incomplete rows, by table.
        catalogue: The tables.
    """
    for table in catalogue.tables:
        missing = missing_metrics(read, table)
        if missing:
            yield f"{table.name}: no rows: Prometheus has no samples of {' or '.join(missing)}"
            continue
        found = {fate: count for (name, fate), count in fates.items() if name == table.name}
        rejected = sum(count for fate, count in found.items() if isinstance(fate, Reason))
        yield (
            f"{table.name}: {found.get(Fate.STORED, 0)} stored, {found.get(Fate.DUPLICATE, 0)} "
            f"there before, {waiting[table.name]} of incomplete rows, {rejected} rejected"
        )


def missing_metrics(read: Counter[Fed], table: Table) -> list[str]:
    """Return the metrics of required columns of which a table got no samples."""
    return [
        column.metric
        for column in table.columns
        if column.required and not read[table.name, column.metric]
    ]


def require_metrics(read: Counter[Fed], catalogue: Catalogue, span: str) -> None:
    """Check that samples of all required columns of a table were read.

    Raises:
        SetupError: no table has them: nothing became a row.
    """
    missing = {table: missing_metrics(read, table) for table in catalogue.tables}
    if not all(missing.values()):
        return
    names = dict.fromkeys(name for metrics in missing.values() for name in metrics)
    hint = (
        "are the names right (RECEIVER_STATUS_METRIC and RECEIVER_OCR_METRIC, or "
        "RECEIVER_TABLES_FILE), and does Prometheus keep them so long?"
    )
    kept = "".join(
        f"; the {number} samples of {metric} wait for them in pending_rows and become no rows"
        for (_, metric), number in read.items()
        if number
    )
    raise SetupError(f"Prometheus has no samples of {' or '.join(names)} {span}{kept}: {hint}")
