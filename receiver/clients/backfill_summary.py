"""The result of a backfill: how many rows, and why there may be none."""

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
    """The samples that were read, and their outcomes."""

    kept: int
    """Number of samples that belong to a table."""
    read: Counter[Fed]
    """Number of samples by table and metric."""
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


def summarize_tables(
    read: Counter[Fed], fates: Fates, waiting: Counter[str], catalogue: Catalogue
) -> Iterator[str]:
    """Yield a line for each table with the outcomes of its samples.

    Args:
        read: Number of samples by table and metric.
        fates: Their outcomes in the database.
        waiting: Number of samples in incomplete rows, by table.
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
    """Return the metrics of the required columns for which a table has no samples."""
    return [
        column.metric
        for column in table.columns
        if column.required and not read[table.name, column.metric]
    ]


def require_metrics(read: Counter[Fed], catalogue: Catalogue, span: str) -> None:
    """Check that at least one table has samples of all its required columns.

    Raises:
        SetupError: no table has them, so there are no rows.
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
