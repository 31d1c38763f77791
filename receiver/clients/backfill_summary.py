"""The result of a backfill: how many rows, and why there may be none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from receiver.clients.backfill import Fed
from receiver.errors import SetupError
from receiver.rows.reasons import Fate, Fates, Reason
from receiver.rows.tables import Catalogue, Table


def summarize(fates: Fates, waiting: int) -> str:
    """Return the outcomes of all samples in one line.

    Args:
        fates: The outcomes in the database.
        waiting: Number of samples in incomplete rows.
    """
    found = by_fate(fates)
    parts = [
        f"{found[Fate.STORED]} stored, {found[Fate.DUPLICATE]} already present, in rows or rejected"
    ]
    if waiting:
        parts.append(
            f"{waiting} of incomplete rows (they wait in pending_rows, and are rejected as "
            "unpaired after RECEIVER_PAIR_TIMEOUT; the metrics of a row must have the same "
            "labels and times)"
        )
    parts.append(f"{count_rejected(found)} rejected (rejected_samples says why)")
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
        found = by_fate(fates, table)
        yield (
            f"{table.name}: {found[Fate.STORED]} stored, {found[Fate.DUPLICATE]} already present, "
            f"{waiting[table.name]} of incomplete rows, {count_rejected(found)} rejected"
        )


def has_rows(fates: Fates) -> bool:
    """Return whether any sample is stored, or was already present."""
    found = by_fate(fates)
    return found[Fate.STORED] + found[Fate.DUPLICATE] > 0


def by_fate(fates: Fates, table: Table | None = None) -> Counter[Fate | Reason]:
    """Return the number of samples by fate, of one table or of all."""
    found = Counter[Fate | Reason]()
    for (name, fate), count in fates.items():
        if table is None or name == table.name:
            found[fate] += count
    return found


def count_rejected(found: Counter[Fate | Reason]) -> int:
    """Return the number of samples that were rejected."""
    return sum(count for fate, count in found.items() if isinstance(fate, Reason))


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
        "RECEIVER_TABLES_FILE), and is Prometheus' retention long enough?"
    )
    kept = "".join(
        f"; the {number} samples of {metric} wait for them in pending_rows and become no rows"
        for (_, metric), number in read.items()
        if number
    )
    raise SetupError(f"Prometheus has no samples of {' or '.join(names)} {span}{kept}: {hint}")
